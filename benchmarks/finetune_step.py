"""How many questions a second does fine-tuning learn from, beside `RealmForOpenQA`?

The port is fine-tuned as documented, over 5,000 retrieved passages that it splits into wordpieces
in every step (all, where the corpus has fewer), one question a step; and at its best, with our
number of passages and one step of a fused optimiser for as many questions as in one of ours.
"""

from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import OURS, Bench, by_turns, run
from peer import open_peer
from port_answering import load_port, plain
from realm.models.precision import quickest_precision, shape_of
from realm.openqa.objective import OpenQaObjective, OpenQaSettings
from steps import steps_side
from world import Extent, open_world, questions

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "20000"}
_STEPS = {"tiny": 1, "reduced": 4, "full": 10}
_QUESTIONS = {"tiny": 1, "reduced": 2, "full": 4}  # of the port as documented, in each repeat
_RETRIEVED, _READ = 100, 5
_RETRIEVED_BY_PORT = 5_000


def measure(bench: Bench) -> None:
    """Fine-tune on both sides."""
    extent = _EXTENTS[bench.size]
    world = open_world(bench, extent)
    model, number = world.model(), len(world.store)
    model.embedder = model.embedder.with_own_query_tower()
    retrieved = min(_RETRIEVED, number)
    settings = OpenQaSettings(retriever_passages=retrieved, reader_passages=_READ)
    learned = questions(extent, 256)
    objective = OpenQaObjective(model, world.store, world.snapshot, learned, settings, seed=0)
    sides = {OURS: steps_side(objective, settings.batch_size, _STEPS[bench.size])}
    quicker = quickest_precision(shape_of(model.reader.trunk), "training")
    batch = settings.batch_size
    tuned = f"RealmForOpenQA, {quicker}, no dropout, {retrieved} passages, {batch} a step"
    beam = min(_RETRIEVED_BY_PORT, number)
    documented = f"RealmForOpenQA, fp32, {beam:,} passages"
    variants = {
        documented: {
            "training": {"dropout": 0.1, "is_fused": False},
            "beams": {"searcher_beam_size": beam, "reader_beam_size": _READ},
        },
        tuned: {
            "training": {"dropout": 0.0, "is_fused": True},
            "beams": {"searcher_beam_size": retrieved, "reader_beam_size": _READ},
        },
    }  # fmt: skip
    with TemporaryDirectory() as folder, open_peer(bench, "transformers-4.39.3", "port") as peer:
        if peer is not None:
            load_port(bench, peer, world, Path(folder), variants)
            for name, precision, count, at_once in (
                (documented, "fp32", _QUESTIONS[bench.size], 1), (tuned, quicker, batch, batch),
            ):  # fmt: skip
                sides[name] = peer.side(
                    "finetune", name=name, questions=plain(list(islice(cycle(learned), count))),
                    precision=precision, batch=at_once,
                )  # fmt: skip
        samples = by_turns(sides, bench.repeats)
    name = f"fine-tuning over {number:,} passages"
    bench.report.compare_all(name, samples, unit="questions/s", tuned={tuned})


if __name__ == "__main__":
    run(measure, str(__doc__))
