"""How does cost grow with the corpus, the candidates and the batch?

Beside each measured figure stands the straight line through all of its kind: what grows faster
than linearly lies over the line at the far end.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from harness import OURS, Bench, Repeat, by_turns, fitted_line, run
from realm.examples.masking import make_masker
from realm.index.exact import ExactIndex
from realm.index.snapshot import write_snapshot
from realm.models.checkpoint import Model
from realm.pretraining.objective import RealmObjective, RealmSettings
from realm.stopwatch import measured, total_by_stage
from steps import steps_side
from world import Extent, World, open_world

_CORPORA: dict[str, tuple[Extent, ...]] = {
    "tiny": ("tiny",),
    "reduced": ("2000", "6000"),
    "full": ("2000", "6000", "20000"),
}
_ROWS = {"tiny": (1_000, 3_000, 10_000), "reduced": (62_000, 186_000, 620_000)}
_CANDIDATES = {"tiny": (2, 3, 4), "reduced": (2, 4, 8, 16), "full": (2, 4, 8, 16)}
_BATCHES = {"tiny": (1, 2), "reduced": (2, 4, 8), "full": (2, 4, 8, 16)}
_STEPS = {"tiny": 1, "reduced": 1, "full": 5}
_LINE = "the fitted line"


@dataclass(frozen=True)
class Growth:
    """One kind of cost, at several sizes."""

    name: str
    unit: str
    sizes: Sequence[int]
    sides: Sequence[Repeat]


def measure(bench: Bench) -> None:
    """Measure each kind of cost at its sizes, by turns."""
    worlds = [open_world(bench, extent) for extent in _CORPORA[bench.size]]
    model = worlds[0].model()
    add_growth(bench, search_growth(bench))
    add_growth(bench, step_growth(bench, model, worlds[0], "candidates"))
    add_growth(bench, step_growth(bench, model, worlds[0], "queries in a batch"))
    if len(worlds) > 1:
        add_corpus_growth(bench, model, worlds)


def add_growth(bench: Bench, growth: Growth) -> None:
    """A row for each size: what was measured, and what the line through all of them says."""
    sides = dict(zip(map(str, growth.sizes), growth.sides, strict=True))
    samples = by_turns(sides, bench.repeats)
    add_rows(bench, growth.name, growth.unit, {int(k): v for k, v in samples.items()})


def add_rows(bench: Bench, name: str, unit: str, samples: dict[int, list[float]]) -> None:
    """Rows beside the line through the medians; one through two of them would meet both."""
    medians = [statistics.median(values) for values in samples.values()]
    line = fitted_line(list(samples), medians)
    against = _LINE if len(samples) > 2 else None
    for (size, values), on_line in zip(samples.items(), line, strict=True):
        bench.report.compare(
            f"{name}: {size:,}", {OURS: values, _LINE: [on_line]}, against, unit=unit,
            better="lower",
        )  # fmt: skip


def search_growth(bench: Bench) -> Growth:
    """Exact search of one query, by number of passages."""
    rows = _ROWS["tiny" if bench.size == "tiny" else "reduced"]
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(rows[-1], 128, generator=generator).half()
    query = torch.randn(1, 128, generator=generator)
    indexes = [ExactIndex(vectors[:number]) for number in rows]
    sides = [milliseconds(lambda index=index: index.search(query, 10)) for index in indexes]  # type: ignore[misc]
    return Growth("exact search of one query, passages", "ms", rows, sides)


def step_growth(bench: Bench, model: Model, world: World, axis: str) -> Growth:
    """A pre-training step, by number of candidates or of queries."""
    is_candidates = axis == "candidates"
    numbers = (_CANDIDATES if is_candidates else _BATCHES)[bench.size]
    fixed = {"tiny": 2, "reduced": 4, "full": 8}[bench.size]
    sides = []
    for number in numbers:
        batch, candidates = (fixed, number) if is_candidates else (number, fixed)
        settings = RealmSettings(batch_size=batch, num_candidates=candidates)
        masker = make_masker(settings.masking, world.store, world.run.spans())
        objective = RealmObjective(model, world.store, masker, settings, seed=0)
        objective.index = ExactIndex(world.snapshot.embeddings)
        per_second = steps_side(objective, batch, _STEPS[bench.size])
        sides.append(lambda side=per_second, batch=batch: [batch / v for v in side()])
    return Growth(f"pre-training step, {axis}", "s", numbers, sides)


def add_corpus_growth(bench: Bench, model: Model, worlds: Sequence[World]) -> None:
    """Time and peak memory of embedding a corpus, by number of passages."""
    peaks: dict[int, list[float]] = {}
    sides: dict[str, Repeat] = {}
    with TemporaryDirectory() as name:
        for world in worlds:
            number = len(world.store)
            peaks[number] = []
            sides[str(number)] = embedding_side(model, world, Path(name), peaks[number])
        samples = by_turns(sides, 1 if bench.size == "reduced" else bench.repeats, warm_ups=0)
    add_rows(bench, "embedding, passages", "s", {int(k): v for k, v in samples.items()})
    add_rows(bench, "peak memory of embedding, passages", "MB", peaks)


def embedding_side(model: Model, world: World, folder: Path, peaks: list[float]) -> Repeat:
    """Seconds of writing a snapshot; its peak memory is added to `peaks`."""

    def repeat() -> list[float]:
        with TemporaryDirectory(dir=folder) as name:
            log = Path(name) / "stages.jsonl"
            with measured(log, "index"):
                write_snapshot(
                    Path(name) / "snapshot", model, world.store, checkpoint="benchmark", step=0
                )
            total = total_by_stage(log)["index"]
        peaks.append(float(total["peak_megabytes"]))
        return [float(total["seconds"])]

    return repeat


def milliseconds(run_once: Callable[[], object]) -> Repeat:
    """A side that reports how long a call takes."""

    def repeat() -> list[float]:
        begin = time.perf_counter()
        run_once()
        return [1000 * (time.perf_counter() - begin)]

    return repeat


if __name__ == "__main__":
    run(measure, str(__doc__))
