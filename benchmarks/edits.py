"""What do thousands of edits cost a search, beside an index built anew over the same documents?

A third of the edits replaces a document, a third adds one and a third removes one. Afterwards
corpus and index are built anew from the documents that are there, with the same model; both are
searched by turns, and must give the same passages. What a search costs is made by the number of
vectors, their width and how they are spread: over the whole corpus a trunk of one layer and random
weights, made here with the tokenizer of `--trunk`, measures the same as a trained one and embeds
within minutes. How quick edits are it does not say, and the row names it.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from harness import OURS, Bench, Repeat, by_turns, rate, run
from realm.corpus.build import build_corpus
from realm.corpus.documents import Document
from realm.corpus.store import TOKENIZER, PassageStore
from realm.index.exact import Found, Index
from realm.index.snapshot import IndexSettings, write_snapshot
from realm.living.corpus import LivingCorpus
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.models.own_trunk import TrunkShape, write_own_trunk, write_untrained_trunk
from realm.models.reader import Reader, ReaderSettings
from realm.models.trunk import load_trunk, locate_trunk, read_tokenizer
from realm.openqa.answerer import Answerer
from realm.openqa.objective import embed_questions
from world import Extent, World, open_world, questions, write_lines

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "corpus"}
_EDITS = {"tiny": 12, "reduced": 60, "full": 10_000}
_QUESTIONS = {"tiny": 8, "reduced": 128, "full": 256}
_REBUILT = "built anew"
_TOP = 100
_EDITS_AT_ONCE = 100  # documents in one request, as a bulk edit has them
_SHAPE = TrunkShape(num_layers=1, width=128, num_heads=2, inner_width=256)
_FREQUENT = 10  # one in so many wordpieces stands in every text; they come first in a vocabulary

Passages = list[list[tuple[str, int]]]
"""For each question the document and the first character of every passage, best first."""


def measure(bench: Bench) -> None:
    """Edit, build anew, and search both."""
    if bench.size != "reduced":
        bench = replace(bench, trunk=str(_quick_trunk(bench)))
    world = open_world(bench, _EXTENTS[bench.size])
    asked = [q.question for q in questions(_EXTENTS[bench.size], _QUESTIONS[bench.size])]
    with TemporaryDirectory(dir=bench.cache) as name:
        folder = Path(name)
        documents = _edit(bench, _open(folder, world), world.store)
        begin = time.perf_counter()
        living = _open(folder, world)
        edited = living.view().answerer
        taken = time.perf_counter() - begin
        name = f"opened again by a process that had it open, {_embedder(bench)}"
        bench.report.compare(name, {OURS: [taken]}, None, unit="s", better="lower")
        store, index = _rebuilt(folder, world, edited.model, documents)
        _compare(bench, edited, store, index, asked)
        living.close()


def _quick_trunk(bench: Bench) -> Path:
    """A trunk of random weights whose vectors are spread as those of a trained one are.

    Words that every text has would make all vectors alike, and every passage as good as the best:
    they count nothing, and neither do places.
    """
    path = bench.cache / f"quick-{Path(bench.trunk).name}" / "trunk"
    if not path.is_dir():
        tokenizer = read_tokenizer(locate_trunk(bench.trunk))
        with TemporaryDirectory(dir=bench.cache) as name:
            write_untrained_trunk(Path(name) / "untrained", _SHAPE, tokenizer, settings={})
            torch.manual_seed(0)
            trunk: Any = load_trunk(Path(name) / "untrained", dropout=0.0)
        words = trunk.embeddings.word_embeddings.weight.data
        words[: len(words) // _FREQUENT] = 0
        for same in (trunk.embeddings.position_embeddings, trunk.embeddings.token_type_embeddings):
            same.weight.data.zero_()
        reader = Reader(trunk, ReaderSettings())
        write_own_trunk(path, _SHAPE, tokenizer, reader, settings={}, inputs={})
    return path


def _embedder(bench: Bench) -> str:
    """Who embeds, for the names of rows that depend on it."""
    return Path(bench.trunk).name if bench.size == "reduced" else "a trunk of one layer"


def _open(folder: Path, world: World) -> LivingCorpus:
    return LivingCorpus(folder / "living", world.store, lambda: world.run.searcher("start"))


def _edit(bench: Bench, living: LivingCorpus, base: PassageStore) -> list[Document]:
    """Edit the corpus; return the documents of then, in the order in which they were put."""
    count = _EDITS[bench.size] // 3
    step = base.num_documents // (3 * count)
    chosen = [base.document_at(row) for row in range(0, base.num_documents, step)]
    replaced, copied, removed = (chosen[part::3][:count] for part in range(3))
    # What is put differs from all other texts, so that no two passages have the same score.
    put = [_noted(d, d.document_id) for d in replaced]
    put += [_noted(d, f"added {d.document_id}") for d in copied]
    living.view()  # the model is loaded, as it is where questions are answered
    begin = time.perf_counter()
    for first in range(0, len(put), _EDITS_AT_ONCE):
        living.put(put[first : first + _EDITS_AT_ONCE])
    gone = [document.document_id for document in removed]
    for first in range(0, len(gone), _EDITS_AT_ONCE):
        living.remove(gone[first : first + _EDITS_AT_ONCE])
    edits_per_second = (len(put) + len(gone)) / (time.perf_counter() - begin)
    name = f"edits, a hundred at once, {_embedder(bench)}"
    bench.report.compare(name, {OURS: [edits_per_second]}, None, unit="documents/s")
    living.close()  # waits for a merge that they began
    hidden = {document.document_id for document in (*replaced, *removed)}
    every = (base.document_at(row) for row in range(base.num_documents))
    return [document for document in every if document.document_id not in hidden] + put


def _noted(document: Document, name: str) -> Document:
    return Document(name, document.title, f"Edited as {name}. {document.text}")


def _rebuilt(
    folder: Path, world: World, model: Model, documents: Sequence[Document]
) -> tuple[PassageStore, Index]:
    """Corpus and index of the documents, made without any edit."""
    source = folder / "documents.jsonl"
    rows = ({"id": d.document_id, "title": d.title, "text": d.text} for d in documents)
    write_lines(source, rows)
    like = world.store
    store = build_corpus(
        [source], folder / "corpus", tokenizer_file=like.path / TOKENIZER, settings=like.settings
    )
    snapshot = write_snapshot(folder / "snapshot", model, store, checkpoint="start", step=0)
    return store, snapshot.index(IndexSettings())


def _compare(
    bench: Bench, edited: Answerer, store: PassageStore, index: Index, asked: Sequence[str]
) -> None:
    with evaluating(edited.model.embedder):
        vectors = embed_questions(edited.model, asked)
    joint = edited.snapshot.index(IndexSettings())
    best, expected_best = joint.search(vectors, _TOP), index.search(vectors, _TOP)
    found, expected = _passages(edited.store, best), _passages(store, expected_best)
    equal = sum(ours == theirs for ours, theirs in zip(found, expected, strict=True))
    shared = sum(len({*ours} & {*theirs}) for ours, theirs in zip(found, expected, strict=True))
    total = sum(map(len, expected))
    # An edited passage was embedded in another batch, whose padding rounds it otherwise.
    apart = float((best.scores - expected_best.scores).abs().max())
    note = f"{equal} of {len(asked)} lists equal, {shared} of {total} passages the same, "
    note += f"scores at most {apart:.1g} apart"
    for size in (1, 64):
        sides = {OURS: _searching(joint, vectors, size), _REBUILT: _searching(index, vectors, size)}
        name = f"exact top {_TOP}, {size} at once, {len(joint):,} passages"
        samples = by_turns(sides, bench.repeats)
        bench.report.compare(name, samples, _REBUILT, unit="queries/s", tuned=True, note=note)


def _passages(store: PassageStore, found: Found) -> Passages:
    every = ([store.passage(row) for row in rows if row >= 0] for rows in found.rows.tolist())
    return [[(p.document_id, p.source_start) for p in passages] for passages in every]


def _searching(index: Index, vectors: Tensor, size: int) -> Repeat:
    def search() -> None:
        for few in vectors.split(size):
            index.search(few, _TOP)

    return rate(len(vectors), search)


if __name__ == "__main__":
    run(measure, str(__doc__))
