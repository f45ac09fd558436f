"""What share of a GPU's matrix rate do pre-training and embedding reach, and how quick is search?

Two trunks of random weights, in the shapes of BERT-base and MiniLM: nothing is downloaded.
Operations are those of the wordpieces that were really read, padding left out, in the trunks alone;
the ceiling is a large matrix product on the device. `--device cpu --size tiny` tries the script.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from harness import OURS, Bench, Report, by_turns, rate, run
from realm import machine
from realm.examples.masking import make_masker
from realm.examples.packing import PackingSettings
from realm.index.encode import embed_corpus
from realm.index.exact import ExactIndex
from realm.index.snapshot import write_snapshot
from realm.machine import PASSES, Shape, default_device
from realm.models.checkpoint import Model, new_model
from realm.models.embedder import EmbedderSettings
from realm.models.own_trunk import TrunkShape, write_untrained_trunk
from realm.models.precision import ComputeSettings, quickest_precision, shape_of
from realm.models.reader import ReaderSettings
from realm.models.trunk import locate_trunk, read_tokenizer
from realm.pretraining.objective import RealmObjective, RealmSettings
from steps import steps_side
from world import Extent, World, open_world

_SHAPES = {"BERT-base": (Shape(768, 12, 3072), 12), "MiniLM": (Shape(384, 12, 1536), 6)}
_TINY_SHAPES = {"tiny": (Shape(32, 2, 64), 1)}
_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "tiny", "full": "2000"}
_BATCHES = {"tiny": 2, "reduced": 64, "full": 64}
_CANDIDATES = {"tiny": 3, "reduced": 8, "full": 8}
_STEPS = {"tiny": 1, "reduced": 5, "full": 30}
_TOKEN_BUDGET = 32_768  # padded wordpieces at once: a GPU wants more than a CPU
_ROWS = {"tiny": 4096, "reduced": 1_000_000, "full": 13_353_718}
_DIM, _DEPTH = 128, 100
_QUERIES = (1, 64, 1000)
_CEILING = Shape(8192, 1, 8192)
_TINY_CEILING = Shape(64, 1, 64)


def measure(bench: Bench) -> None:
    """Both shapes, then the search."""
    world = open_world(bench, _EXTENTS[bench.size])
    is_tiny = bench.size == "tiny"
    shapes = _TINY_SHAPES if is_tiny else _SHAPES
    precision = quickest_precision(next(iter(shapes.values()))[0], "training")
    ceiling_shape = _TINY_CEILING if is_tiny else _CEILING
    ceiling = machine.matrix_rate(ceiling_shape, precision, num_tokens=ceiling_shape.width)
    for name, (shape, num_layers) in shapes.items():
        with TemporaryDirectory() as folder:
            trunk = _write_trunk(Path(folder) / "trunk", bench.trunk, shape, num_layers)
            train(bench, world, name, trunk, ceiling)
            embed(bench, world, name, trunk, ceiling)
    search(bench)


def train(bench: Bench, world: World, name: str, trunk: Path, ceiling: float) -> None:
    """Pre-training steps with the trunks as they are, and translated."""
    size, num_steps = _BATCHES[bench.size], _STEPS[bench.size]
    # Translating needs a compiler; on a CPU it pays least.
    for is_compiled in (False, True) if torch.cuda.is_available() else (False,):
        objective = _objective(bench, world, trunk)
        with counting(objective.model) as count:
            objective.loss(0)[0].backward()
        objective.model.modules().zero_grad()
        loop = {"compile_trunks": is_compiled}
        side = steps_side(objective, size, num_steps, loop)
        samples = by_turns({OURS: side}, bench.repeats, warm_ups=0)[OURS]
        what = f"{name}, pre-training step of {size}" + (", compiled" if is_compiled else "")
        bench.report.compare(what, {OURS: samples}, None, unit="queries/s")
        operations = count["operations"] / size
        _add_share(bench.report, what, [value * operations for value in samples], ceiling)


def embed(bench: Bench, world: World, name: str, trunk: Path, ceiling: float) -> None:
    """The corpus through the passage tower."""
    model = _model(world, trunk)
    model.compute_with(model.choose_compute(ComputeSettings(), "forward"))
    with counting(model) as count:
        list(embed_corpus(model, world.store))
    number = len(world.store)
    side = rate(number, lambda: list(embed_corpus(model, world.store)))
    samples = by_turns({OURS: side}, bench.repeats)[OURS]
    what = f"{name}, passages embedded"
    bench.report.compare(what, {OURS: samples}, None, unit="passages/s")
    operations = count["operations"] / number
    _add_share(bench.report, what, [value * operations for value in samples], ceiling)


def search(bench: Bench) -> None:
    """Exact search with the index on the device."""
    device = default_device()
    generator = torch.Generator(device).manual_seed(0)
    rows = torch.empty(_ROWS[bench.size], _DIM, dtype=torch.float16, device=device)
    index = ExactIndex(rows.normal_(generator=generator))
    for number in _QUERIES:
        queries = torch.randn(number, _DIM, device=device, generator=generator)

        def find(queries: torch.Tensor = queries) -> None:
            index.search(queries, _DEPTH).rows.cpu()

        samples = by_turns({OURS: rate(number, find)}, bench.repeats)
        what = f"exact top {_DEPTH} of {len(index):,} x {_DIM}, {number:,} at once"
        bench.report.compare(what, samples, None, unit="queries/s")


def _write_trunk(path: Path, tokenizer_from: str, shape: Shape, num_layers: int) -> Path:
    """A configuration without weights: a trunk of random ones, with a tokenizer of another."""
    own = TrunkShape(
        num_layers=num_layers, width=shape.width, num_heads=shape.heads, inner_width=shape.inner
    )
    write_untrained_trunk(path, own, read_tokenizer(locate_trunk(tokenizer_from)), settings={})
    return path


def _operations(trunk: Any, length: int) -> float:
    """Forward, for one input; the last layer makes keys and values alone where it is not asked."""
    shape, layers = shape_of(trunk), int(trunk.config.num_hidden_layers)
    every: float = length * shape.layer_flops(length)
    places = getattr(trunk.encoder.layer[-1].attention, "places", None)
    if places is None:
        return layers * every
    keys_and_values = 4.0 * shape.width**2
    asked: float = places.shape[1] * (shape.layer_flops(length) - keys_and_values)
    return (layers - 1) * every + length * keys_and_values + asked


@contextmanager
def counting(model: Model) -> Iterator[dict[str, float]]:
    """Count the operations of the trunks inside the block, by the lengths that were read."""
    count = {"operations": 0.0}

    def note(trunk: nn.Module, arguments: Any, named: Any) -> None:
        lengths = named["attention_mask"].sum(dim=1).tolist()
        passes = PASSES["training" if torch.is_grad_enabled() else "forward"]
        count["operations"] += passes * sum(_operations(trunk, length) for length in lengths)

    trunks = {model.embedder.query_tower.trunk, model.embedder.passage_tower.trunk}
    hooks = [
        trunk.register_forward_pre_hook(note, with_kwargs=True)
        for trunk in {*trunks, model.reader.trunk}
    ]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def _model(world: World, trunk: Path) -> Model:
    packing = world.model().packer.settings.model_dump()
    return new_model(
        EmbedderSettings(trunk=str(trunk)), ReaderSettings(trunk=str(trunk)),
        PackingSettings.model_validate(packing),
    )  # fmt: skip


def _objective(bench: Bench, world: World, trunk: Path) -> RealmObjective:
    settings = RealmSettings(
        batch_size=_BATCHES[bench.size], num_candidates=_CANDIDATES[bench.size],
        token_budget=_TOKEN_BUDGET,
    )  # fmt: skip
    model = _model(world, trunk)
    model.compute_with(model.choose_compute(ComputeSettings(), "training"))
    masker = make_masker(settings.masking, world.store, world.run.spans())
    objective = RealmObjective(model, world.store, masker, settings, seed=0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot"
        snapshot = write_snapshot(path, model, world.store, checkpoint="benchmark", step=0)
        objective.index = ExactIndex(snapshot.embeddings.clone())
    return objective


def _add_share(report: Report, what: str, rates: Sequence[float], ceiling: float) -> None:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
    report.compare(
        f"{what}: operations",
        {OURS: [value / 1e12 for value in rates], "matrix product": [ceiling / 1e12]},
        "matrix product", unit="TFLOP/s", tuned=True,
        note=f"the ratio is the share of what {device} reaches",
    )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Choose the device, then measure."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options, others = parser.parse_known_args(arguments)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when CUDA is asked for the first time
    elif not torch.cuda.is_available():
        print("gpu.py: there is no CUDA device: try --device cpu --size tiny", file=sys.stderr)
        raise SystemExit(2)
    run(measure, str(__doc__), others)


if __name__ == "__main__":
    main(sys.argv[1:])
