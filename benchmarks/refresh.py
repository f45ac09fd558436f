"""What does keeping the index fresh cost a training, and how fresh is it then?

The same pre-training three times: with no refresh, with one that training waits for, and with one
in a second process, to which the trainer gives up a thread. How soon a snapshot is done depends on
both, so its age is measured as well.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from harness import OURS, Bench, Repeat, Samples, by_turns, run
from realm.examples.held_out import split_rows
from realm.examples.masking import make_masker
from realm.examples.query_maker import MaskSettings, QueryMaker
from realm.index.encode import embed_corpus
from realm.index.exact import ExactIndex
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import load_model
from realm.models.embedder import evaluating
from realm.pretraining.objective import embed_masked
from realm.pretraining.refresh import snapshot_path
from realm.pretraining.run import Pretraining, PretrainSettings
from realm.training.loop import Scalars
from realm.training.state import latest_checkpoint, steps_in
from world import Extent, World, at_work, open_world

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "6000"}
_STEPS = {"tiny": 8, "reduced": 20, "full": 60}
_EVERY = {"tiny": 2, "reduced": 5, "full": 20}  # long enough for one to be done in time
_BATCH = {"tiny": 2, "reduced": 4, "full": 4}
_NONE, _INLINE = "no refresh", "inline refresh"
_PROCESS = "process refresh"
_ROUNDS = {"tiny": 1, "reduced": 1, "full": 3}
_TOP = 8
_QUERIES = 64
_SWAP_MILLISECONDS = 50.0


@dataclass
class Watched:
    """What a training showed while it ran."""

    seconds: list[float]
    """When each step ended."""
    ages: list[float]
    swaps: list[float]
    """Milliseconds that a step waited which adopted a snapshot."""
    stale_share: list[float]


def measure(bench: Bench) -> None:
    """Train in each way, by turns."""
    world = open_world(bench, _EXTENTS[bench.size])
    steps, every = _STEPS[bench.size], _EVERY[bench.size]
    ways: dict[str, dict[str, Any]] = {
        _NONE: {"every": steps},
        _INLINE: {"every": every, "mode": "inline"},
        _PROCESS: {"every": every, "mode": "process"},
    }
    seen = {name: Watched([], [], [], []) for name in ways}
    sides: dict[str, Repeat] = {
        name: training_side(bench, world, refresh, seen[name]) for name, refresh in ways.items()
    }
    rounds = min(bench.repeats, _ROUNDS[bench.size])
    samples = by_turns(sides, rounds, warm_ups=0)  # the first step of each is its own
    torch.set_num_threads(bench.threads)
    report_rows(bench, samples, seen, f"{steps} steps over {len(world.store):,} passages")


def report_rows(bench: Bench, samples: Samples, seen: dict[str, Watched], what: str) -> None:
    """Rows: speed of each way beside none, and what the index was like."""
    add = bench.report.compare
    for way in (_INLINE, _PROCESS):
        add(f"{way}, {what}", {OURS: samples[way], _NONE: samples[_NONE]}, _NONE, unit="steps/s")
    left = max(1, bench.threads - 1) / bench.threads
    fair = [value * left for value in samples[_NONE]]
    share = f"the trainer's share of {bench.threads} cores"
    add(_PROCESS, {OURS: samples[_PROCESS], share: fair}, share, unit="steps/s")
    for way in (_INLINE, _PROCESS):
        age = {OURS: [statistics.mean(seen[way].ages or [0.0])]}
        add(f"mean age of the snapshot, {way}", age, None, unit="steps", better="lower")
        if seen[way].stale_share:
            unit = f"share of the top {_TOP}"
            found = {OURS: [statistics.mean(seen[way].stale_share)]}
            add(f"found as by a fresh index, {way}, mean", found, None, unit=unit)
    if swaps := seen[_PROCESS].swaps:
        samples = {OURS: [max(swaps)], "the bound": [_SWAP_MILLISECONDS]}
        add("longest swap", samples, "the bound", unit="ms", better="lower", tuned=True)


def training_side(bench: Bench, world: World, refresh: dict[str, Any], seen: Watched) -> Repeat:
    """A side that pre-trains from the start and reports steps a second, refreshes included."""
    settings = PretrainSettings.model_validate(
        {
            "loop": {
                "num_steps": _STEPS[bench.size],
                "save_every": _EVERY[bench.size],
            },
            "objective": {"batch_size": _BATCH[bench.size], "num_candidates": _TOP},
            "refresh": refresh,
            "num_held_out": 2,
        }
    )

    def repeat() -> list[float]:
        torch.set_num_threads(bench.threads)
        seconds, ages = [], [0.0]

        def watch(step: int, row: Scalars) -> None:
            seconds.append(time.perf_counter())
            if row["staleness"] < ages[-1]:
                seen.swaps.append(1000 * row["refresh_wait_seconds"])
            ages.append(row["staleness"])

        with TemporaryDirectory() as name:
            folder = Path(name)
            Pretraining(
                folder, load_model(world.run.checkpoint("start")), world.store, world.run.spans(),
                world.snapshot, settings, world.run.experiment.index, {},
            ).run(watch)  # fmt: skip
            seen.stale_share += share_still_found(folder, world)
        seen.ages += ages[1:]
        return [(len(seconds) - 1) / (seconds[-1] - seconds[0])]

    return repeat


def share_still_found(folder: Path, world: World) -> list[float]:
    """For each of some masked queries: the share of a fresh index's top that the last one gives."""
    steps = steps_in(folder / "snapshots")
    checkpoint = latest_checkpoint(folder)
    if not steps or checkpoint is None:
        return []
    model = at_work(load_model(checkpoint))
    stale = Snapshot.open(snapshot_path(folder, steps[-1]), world.store)
    fresh = ExactIndex(torch.cat(list(embed_corpus(model, world.store))).half())
    settings = MaskSettings()
    masker = make_masker(settings.masking, world.store, world.run.spans())
    rows, _ = split_rows(masker.rows(), world.store)
    maker = QueryMaker(world.store, model.packer, masker, settings, seed=1)
    with evaluating(model.embedder):
        queries = maker.usable([int(row) for row in rows[:_QUERIES]], 0)
        vectors = embed_masked(model, queries, 4096)
    now = fresh.search(vectors, _TOP).rows.tolist()
    before = ExactIndex(stale.embeddings).search(vectors, _TOP).rows.tolist()
    return [len({*a} & {*b}) / len(a) for a, b in zip(now, before, strict=True)]


if __name__ == "__main__":
    run(measure, str(__doc__))
