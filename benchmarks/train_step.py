"""How many masked queries a second does pre-training read, beside transformers' REALM classes?

Ours draws other queries in every step, the peer reads the same ones again, taken evenly from all
over the corpus, with the eight candidates that ours would choose. It is given wordpieces, so that
no time of its tokenizer counts, and nothing to retrieve: ours does both parts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import OURS, Bench, by_turns, run
from peer import open_peer
from realm.examples.held_out import split_rows
from realm.examples.masked_query import MaskedQuery
from realm.examples.masking import Masker, make_masker
from realm.examples.packing import Packed
from realm.examples.query_maker import QueryMaker
from realm.index.encode import pack_joint, pack_passage
from realm.index.exact import ExactIndex
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.models.precision import quickest_precision, shape_of
from realm.models.trunk import locate_trunk
from realm.pretraining.objective import RealmObjective, RealmSettings, embed_masked
from realm.retrieval.candidates import choose_candidates
from steps import steps_side
from world import Extent, World, open_world

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "20000"}
_SETTINGS = {
    "tiny": RealmSettings(batch_size=2, num_candidates=4),
    "reduced": RealmSettings(batch_size=8, num_candidates=8),
    "full": RealmSettings(batch_size=8, num_candidates=8),
}
_STEPS = {"tiny": 1, "reduced": 3, "full": 10}
_AS_DOCUMENTED = {"tiny": 1, "reduced": 2, "full": 4}  # queries a step: eight take 12 GB
_LENGTHS = {"query": 96, "passage": 288, "joint": 384}  # of the released model
_SPARE = 8


def measure(bench: Bench) -> None:
    """Train on both sides."""
    world, settings = open_world(bench, _EXTENTS[bench.size]), _SETTINGS[bench.size]
    model = world.model()
    masker = make_masker(settings.masking, world.store, world.run.spans())
    objective = RealmObjective(model, world.store, masker, settings, seed=0)
    objective.index = world.snapshot.index(world.run.experiment.index)
    sides = {OURS: steps_side(objective, settings.batch_size, _STEPS[bench.size])}
    quicker = quickest_precision(shape_of(model.reader.trunk), "training")
    documented = _AS_DOCUMENTED[bench.size]
    tuned = f"transformers, {quicker}, trimmed, no dropout, fused optimiser"
    variants: dict[str, dict[str, Any]] = {
        "transformers, fp32": {"precision": "fp32", "queries": documented},
        "transformers, bf16 autocast": {"precision": "bf16", "queries": documented},
        tuned: {"precision": quicker, "queries": settings.batch_size, "is_trimmed": True},
    }
    with TemporaryDirectory() as folder, open_peer(bench, "transformers-4.39.3", "port") as peer:
        if peer is not None:
            file = Path(folder) / "batch.json"
            file.write_text(json.dumps(a_batch(model, world, masker, settings)), encoding="utf-8")
            config = str(locate_trunk(bench.trunk) / "config.json")
            for name, options in variants.items():
                is_tuned = name == tuned
                peer.call(
                    "load_pretraining", name=name, config=config, is_fused=is_tuned,
                    dropout=0.0 if is_tuned else 0.1, num_candidates=settings.num_candidates,
                )  # fmt: skip
                sides[name] = peer.side(
                    "pretrain", name=name, batch=str(file), lengths=_LENGTHS, **options
                )
        samples = by_turns(sides, bench.repeats)
    name = f"pre-training, {settings.num_candidates} candidates"
    bench.report.compare_all(name, samples, unit="queries/s", tuned={tuned})


def a_batch(
    model: Model, world: World, masker: Masker, settings: RealmSettings
) -> dict[str, list[Any]]:
    """Wordpieces of masked queries, their candidates, and both together; and what is masked."""
    store = world.store
    rows, _ = split_rows(masker.rows(), store)
    maker = QueryMaker(store, model.packer, masker, settings, seed=0)
    spread = rows[:: max(1, len(rows) // settings.batch_size)][: settings.batch_size]
    queries = maker.batch([int(row) for row in spread], 1, rows)
    chosen = candidates_of(model, world, queries, settings.num_candidates)
    return {
        "queries": [ids_of(model.packer.query(query.ids)) for query in queries],
        "passages": [
            [ids_of(pack_passage(store, model.packer, row)) for row in rows] for rows in chosen
        ],
        "joints": [
            [ids_of(pack_joint(store, model.packer, query.ids, row)) for row in rows]
            for query, rows in zip(queries, chosen, strict=True)
        ],
        "positions": [query.positions.tolist() for query in queries],
        "targets": [query.targets.tolist() for query in queries],
    }


def candidates_of(
    model: Model, world: World, queries: Sequence[MaskedQuery], number: int
) -> list[list[int]]:
    """The candidates that our objective would choose, the null passage among them."""
    hashes = world.store.content_hashes()
    with evaluating(model.embedder):
        vectors = embed_masked(model, queries, 4096)
    found = ExactIndex(world.snapshot.embeddings).search(vectors, number + _SPARE)
    own = [int(hashes[query.row]) for query in queries]
    chosen: list[list[int]] = choose_candidates(found.rows, own, hashes, number).tolist()
    return chosen


def ids_of(packed: Packed) -> list[int]:
    """Plain numbers for JSON."""
    return [int(i) for i in packed.ids]


if __name__ == "__main__":
    run(measure, str(__doc__))
