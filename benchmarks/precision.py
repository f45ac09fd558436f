"""Does pre-training learn as much in bfloat16 as in single precision?

The same steps twice from the same start, with the same seed and so the same queries, everything
training. Both run at once, each with half of the threads: what is compared is the loss, not the
time. Started again it goes on from the last checkpoints; `--page` writes the curves.
"""

import argparse
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from harness import OURS, Bench, Better, Size, run
from realm.evaluation.curves import Curve, draw
from realm.evaluation.report import write_page
from realm.json_lines import read_json_lines
from realm.models.checkpoint import load_model
from realm.pretraining.run import Pretraining, PretrainSettings
from realm.stages import Run
from world import Extent, open_world

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "20000"}
_STEPS = {"tiny": 4, "reduced": 500, "full": 500}
_PARTS = {"tiny": 2, "reduced": 5, "full": 5}  # of the steps, each a row
_EVERY = {"tiny": 2, "reduced": 125, "full": 125}
_QUERIES = {"tiny": 2, "reduced": 2, "full": 8}
_CANDIDATES = {"tiny": 2, "reduced": 4, "full": 8}
_HELD_OUT = {"tiny": 2, "reduced": 64, "full": 128}
_HALF, _SINGLE = "bf16", "fp32"
_RATES = {"learning_rate": 5e-5, "embedder_learning_rate": 1e-4}  # those of `recipes/small.toml`


def measure(bench: Bench, page: Path | None = None) -> None:
    """Train in both formats; rows of the loss, and a page of it where one is asked for."""
    world = open_world(bench, _EXTENTS[bench.size])
    folder = bench.cache / f"precision-{bench.size}"
    work = partial(train, world.run.path, folder, bench.size, max(1, bench.threads // 2))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        half, single = pool.map(work, (_HALF, _SINGLE))
    _add_rows(bench, half, single)
    if page is not None:
        write_page(page, "Pre-training in two number formats", {"figures": figures(half, single)})


def train(path: Path, folder: Path, size: Size, threads: int, precision: str) -> list[Any]:
    """Pre-train the start of a run in a number format; return what was logged."""
    torch.set_num_threads(threads)
    start, every = Run.open(path), _EVERY[size]
    settings = PretrainSettings.model_validate(
        {
            "loop": {
                "num_steps": _STEPS[size], "save_every": every, "log_every": 1,
                "precision": precision, "num_threads": threads, "optim": _RATES,
            },
            "objective": {"batch_size": _QUERIES[size], "num_candidates": _CANDIDATES[size]},
            "refresh": {"every": every, "mode": "inline"},
            "num_held_out": _HELD_OUT[size],
        }
    )  # fmt: skip
    Pretraining(
        folder / precision, load_model(start.checkpoint("start")), start.corpus(), start.spans(),
        start.snapshot("start"), settings, start.experiment.index, {},
    ).run()  # fmt: skip
    return read_json_lines(folder / precision / "metrics.jsonl")


def _add_rows(bench: Bench, half: Sequence[Any], single: Sequence[Any]) -> None:
    part = _STEPS[bench.size] // _PARTS[bench.size]
    for begin in range(0, _STEPS[bench.size], part):
        name = f"loss, steps {begin + 1} to {begin + part}"
        ours, theirs = (losses(rows)[begin : begin + part] for rows in (half, single))
        _compare(bench, name, ours, theirs)
    for name, what in (
        ("held_out_loss", "loss of held-out queries"),
        ("held_out_retrieval_utility", "retrieval utility of held-out queries"),
    ):
        ours, theirs = ([row[name] for row in rows if name in row] for rows in (half, single))
        _compare(bench, f"{what}, at the end", ours[-1:], theirs[-1:])


def _compare(bench: Bench, name: str, half: Iterable[float], single: Iterable[float]) -> None:
    sides = {OURS: [statistics.mean(half)], _SINGLE: [statistics.mean(single)]}
    better: Better = "higher" if "utility" in name else "lower"
    bench.report.compare(name, sides, _SINGLE, unit="nats", better=better)


def losses(rows: Sequence[Any]) -> list[float]:
    """The loss of every step."""
    return [row["loss"] for row in rows if "loss" in row]


def figures(half: Sequence[Any], single: Sequence[Any]) -> str:
    """The curves of both: what was trained on, and what was held out."""
    every = []
    for title, name in (
        ("Loss of each step", "loss"),
        ("Retrieval utility of held-out queries", "held_out_retrieval_utility"),
    ):
        curves = [
            Curve(precision, [(row["step"], row[name]) for row in rows if name in row])
            for precision, rows in ((_HALF, half), (_SINGLE, single))
        ]
        every.append(draw(title, curves))
    return "".join(every)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--page", type=Path, metavar="FILE", help="draw the curves there")
    own, rest = parser.parse_known_args()
    run(lambda bench: measure(bench, own.page), str(__doc__), rest)
