"""How long does an answer take, alone and among 64, beside `RealmForOpenQA` and BM25?

Exact search on all sides, and five passages are read of each question. BM25 stands before our own
reader, so that the difference is retrieval's alone. `RealmForOpenQA` gets as many passages as fit
in memory beside ours.
"""

import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from harness import OURS, Bench, Repeat, Samples, by_turns, percentile, run
from peer import Peer, open_peer
from port_answering import load_port
from realm.models.precision import quickest_precision, shape_of
from realm.openqa.answerer import Answerer
from realm.openqa.objective import OpenQaSettings
from realm.retrieval.lexical import LexicalIndex
from realm.retrieval.retriever import Ranker, Retriever
from world import Extent, World, open_world_to_search, questions

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "corpus"}
_ALONE = {"tiny": 2, "reduced": 32, "full": 200}
_TOGETHER = {"tiny": 4, "reduced": 64, "full": 64}
_READ = 5
_BM25 = "bm25s and our reader"
_PORT = "RealmForOpenQA, fp32"
_BEAMS = {"searcher_beam_size": _READ, "reader_beam_size": _READ}


@dataclass(frozen=True)
class LexicalRanker:
    """BM25 in the place of the embedder's ranking."""

    index: LexicalIndex

    def search(self, questions: Sequence[str], vectors: Tensor, k: int) -> Tensor:
        """Rows of the best passages by words."""
        return torch.from_numpy(self.index.search(questions, k)[0])


def measure(bench: Bench) -> None:
    """Ask the same questions on all sides."""
    extent = _EXTENTS[bench.size]
    world = open_world_to_search(bench, extent)
    asked = [question.question for question in questions(extent, 500)]
    alone = list(islice(cycle(asked), _ALONE[bench.size]))
    together = list(islice(cycle(asked), _TOGETHER[bench.size]))
    dense, lexical = answerers(world)
    sides: dict[str, Repeat] = {OURS: one_by_one(dense, alone), _BM25: one_by_one(lexical, alone)}
    batches: dict[str, Repeat] = {OURS: at_once(dense, together), _BM25: at_once(lexical, together)}
    notes = [world.note] if world.note else []
    quicker = quickest_precision(shape_of(world.model().reader.trunk), "forward")
    tuned = f"RealmForOpenQA, {quicker}"
    with TemporaryDirectory() as folder, open_peer(bench, "transformers-4.39.3", "port") as peer:
        if peer is not None:
            # It trims its padding itself, and drops nothing out where it answers.
            training = {"dropout": 0.1, "is_fused": False}
            variants = {_PORT: {"beams": _BEAMS, "training": training}}
            number = load_port(bench, peer, world, Path(folder), variants)
            if number < len(world.store):
                notes.append(f"the port holds {number:,} passages")
            for name, precision in ((_PORT, "fp32"), (tuned, quicker)):
                options = {"name": _PORT, "precision": precision}
                sides[name] = peer.side("answer", questions=alone, **options)
                batches[name] = total_seconds(peer, together, options)
        singles, groups = by_turns(sides, bench.repeats), by_turns(batches, bench.repeats)
    best = {_BM25, quickest(groups, {_PORT, tuned} & groups.keys())}
    over, note = f"{len(world.store):,} passages", "; ".join(notes)
    for share in (0.5, 0.95):
        at_share = {name: [percentile(values, share)] for name, values in singles.items()}
        bench.report.compare_all(
            f"one question over {over}, p{share * 100:.0f}", at_share, unit="ms",
            better="lower", tuned=best, note=note,
        )  # fmt: skip
    name = f"{len(together)} questions at once over {over}"
    bench.report.compare_all(name, groups, unit="s", better="lower", tuned=best, note=note)


def quickest(seconds: Samples, names: Collection[str]) -> str:
    """Which of some sides is at its best: half the width helps where its vectors stay so."""
    return min(names, key=lambda name: statistics.median(seconds[name]), default=OURS)


def answerers(world: World) -> tuple[Answerer, Answerer]:
    """The same model behind our exact search and behind BM25."""
    model, store, snapshot = world.model(), world.store, world.snapshot
    settings = OpenQaSettings(reader_passages=_READ)
    index = snapshot.index(world.run.experiment.index)
    rankers: tuple[Ranker, Ranker] = (Retriever(index), LexicalRanker(world.run.lexical()))
    first, second = (Answerer(model, store, snapshot, ranker, settings) for ranker in rankers)
    return first, second


def one_by_one(answerer: Answerer, asked: Sequence[str]) -> Repeat:
    """A side that reports the milliseconds of every question."""

    def repeat() -> list[float]:
        milliseconds = []
        for question in asked:
            begin = time.perf_counter()
            answerer.answer([question])
            milliseconds.append(1000 * (time.perf_counter() - begin))
        return milliseconds

    return repeat


def at_once(answerer: Answerer, asked: Sequence[str]) -> Repeat:
    """A side that reports the seconds that all questions took."""

    def repeat() -> list[float]:
        begin = time.perf_counter()
        answerer.answer(asked)
        return [time.perf_counter() - begin]

    return repeat


def total_seconds(peer: Peer, asked: Sequence[str], options: dict[str, str]) -> Repeat:
    """The port takes one question at a time: all of them, one after another."""
    return lambda: [sum(peer.call("answer", questions=asked, **options)) / 1000]


if __name__ == "__main__":
    run(measure, str(__doc__))
