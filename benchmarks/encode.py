"""How many passages a second are embedded, beside sentence-transformers with the same trunk?

Ours reads the wordpieces that the corpus build made and writes a snapshot, as `realm index` does;
sentence-transformers splits the text into wordpieces in every repeat, as it always does.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from harness import OURS, Bench, by_turns, rate, run
from peer import open_peer
from realm.index.encode import pack_passage
from realm.index.snapshot import write_snapshot
from realm.models.checkpoint import Model
from realm.models.precision import shape_of
from realm.models.trunk import locate_trunk
from world import Extent, World, open_world

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "20000"}
_PEER = "sentence-transformers"
_BFLOAT16 = f"{_PEER}, bf16"
_TUNED = f"{_PEER}, bf16, eager attention, 16 passages at once"


def measure(bench: Bench) -> None:
    """Embed the same passages on both sides."""
    world = open_world(bench, _EXTENTS[bench.size])
    model, number = world.model(), len(world.store)
    with TemporaryDirectory() as folder, open_peer(bench, _PEER, "embedding") as peer:
        sides = {OURS: rate(number, lambda: index(model, world, Path(folder)))}
        if peer is not None:
            peer.call("read", passages=str(world.passages()))
            for name, precision, attention, batch in (
                (_PEER, "float32", "sdpa", 32), (_BFLOAT16, "bfloat16", "sdpa", 32),
                (_TUNED, "bfloat16", "eager", 16),
            ):  # fmt: skip
                trunk, options = str(locate_trunk(bench.trunk)), {"attention": attention}
                peer.call("load", name=name, trunk=trunk, precision=precision, **options)
                sides[name] = peer.side("embed", name=name, batch_size=batch)
        # Thousands of passages in each turn: what the first batches take longer does not count.
        samples = by_turns(sides, bench.repeats, warm_ups=0)
    name = f"{number:,} passages embedded"
    bench.report.compare_all(name, samples, unit="passages/s", tuned={_BFLOAT16, _TUNED})
    operations = operations_per_passage(model, world)
    ceiling = bench.report.machine.best_teraflops
    bench.report.compare(
        "matrix products of the trunk",
        {OURS: [value * operations / 1e12 for value in samples[OURS]], "ceiling": [ceiling]},
        "ceiling", unit="TFLOP/s", tuned=True,
        note="the ratio is the share of the measured matrix rate",
    )  # fmt: skip


def index(model: Model, world: World, folder: Path) -> None:
    """Write a snapshot, once more each time."""
    path = folder / f"snapshot-{len(list(folder.iterdir()))}"
    write_snapshot(path, model, world.store, checkpoint="benchmark", step=0)


def operations_per_passage(model: Model, world: World) -> float:
    """Multiplications and additions in the trunk's matrix products, without padding."""
    trunk = model.embedder.passage_tower.trunk
    shape, num_layers = shape_of(trunk), int(trunk.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    rows = range(len(world.store))
    lengths = [len(pack_passage(world.store, model.packer, row)) for row in rows]
    return num_layers * sum(n * shape.layer_flops(n) for n in lengths) / len(lengths)


if __name__ == "__main__":
    run(measure, str(__doc__))
