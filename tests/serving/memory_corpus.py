"""A corpus in memory that is built anew for every edit, and a service over it."""

import json
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from realm.corpus.build import build_corpus
from realm.corpus.documents import Document, read_documents
from realm.corpus.passages import CorpusSettings
from realm.errors import SourceError
from realm.evaluation.fill_mask import MaskFiller
from realm.examples.packing import PackingSettings
from realm.index.snapshot import IndexSettings, write_snapshot
from realm.living.listing import DocumentSummary
from realm.living.state import Edit
from realm.living.view import View
from realm.models.checkpoint import Model, new_model
from realm.models.embedder import EmbedderSettings
from realm.models.reader import ReaderSettings
from realm.openqa.answerer import Answerer
from realm.openqa.objective import OpenQaSettings
from realm.pretraining.objective import RealmSettings
from realm.retrieval.retriever import Retriever
from realm.serving.results import Versions
from realm.serving.service import Served, Service, ServiceSettings

VERSIONS = Versions("finetune:0123456789abcdef", "fedcba9876543210")


class MemoryCorpus:
    """As the living corpus, without its speed and without its disk."""

    def __init__(
        self, folder: Path, model: Model, tokenizer_file: Path, documents: Sequence[Document]
    ) -> None:
        self._folder, self._model, self._tokenizer_file = folder, model, tokenizer_file
        self._base = {document.document_id: document for document in documents}
        self._documents = dict(self._base)
        self._numbers = count()
        self._view = self._build(self._documents)
        self.before_view = threading.Event()
        """A test that clears it holds up whoever wants a view."""
        self.before_view.set()
        self.num_views = 0
        """How often a view was wanted."""
        self.is_closed = False

    @property
    def version(self) -> str:
        return self._view.version

    @property
    def num_documents(self) -> int:
        return len(self._documents)

    @property
    def num_passages(self) -> int:
        return len(self._view.answerer.store)

    def put(self, documents: Sequence[Document]) -> list[Edit]:
        wanted = self._documents | {document.document_id: document for document in documents}
        before, self._view = self._documents, self._build(wanted)
        self._documents = wanted
        return [
            Edit(
                document.document_id,
                "replaced" if document.document_id in before else "added",
                self._num_passages(document.document_id),
            )
            for document in documents
        ]

    def remove(self, ids: Sequence[str]) -> list[Edit]:
        edits = [Edit(i, "removed", self.summary(i).num_passages) for i in ids]
        wanted = {i: document for i, document in self._documents.items() if i not in ids}
        self._view = self._build(wanted)
        self._documents = wanted
        return edits

    def document(self, id: str) -> Document:
        if id not in self._documents:
            raise SourceError(f"the corpus has no document {id!r}: check the id")
        return self._documents[id]

    def summary(self, id: str) -> DocumentSummary:
        document = self.document(id)
        return DocumentSummary(
            id, document.title, self._num_passages(id),
            "base" if self._base.get(id) is document else "edited",
        )  # fmt: skip

    def list(
        self, *, text: str = "", after: str = "", limit: int = 50
    ) -> "Sequence[DocumentSummary]":
        found = [
            i
            for i, document in sorted(self._documents.items())
            if i > after and text.lower() in f"{i} {document.title} {document.text}".lower()
        ]
        return [self.summary(i) for i in found[:limit]]

    def view(self) -> View:
        self.num_views += 1
        self.before_view.wait(timeout=30)
        return self._view

    def close(self, timeout: float | None = None) -> None:
        self.is_closed = True

    def _num_passages(self, id: str) -> int:
        store = self._view.answerer.store
        return sum(store.passage(row).document_id == id for row in range(len(store)))

    def _build(self, documents: dict[str, Document]) -> View:
        number = next(self._numbers)
        folder = self._folder / str(number)
        source = folder / "documents"
        source.mkdir(parents=True)
        write_documents(source / "all.jsonl", list(documents.values()))
        store = build_corpus(
            [source / "all.jsonl"], folder / "corpus", tokenizer_file=self._tokenizer_file,
            settings=CorpusSettings(passage_tokens=64, num_workers=1),
        )  # fmt: skip
        snapshot = write_snapshot(
            folder / "snapshot", self._model, store, checkpoint="start", step=0
        )
        retriever = Retriever(snapshot.index(IndexSettings()))
        settings = OpenQaSettings(reader_passages=4)
        return View(f"memory:{number}", Answerer(self._model, store, snapshot, retriever, settings))


def write_documents(file: Path, documents: Sequence[Document]) -> None:
    rows = ({"id": d.document_id, "title": d.title, "text": d.text} for d in documents)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_model(trunk_folder: Path) -> Model:
    """A tiny model, always with the same random weights."""
    torch.manual_seed(0)
    return new_model(
        EmbedderSettings(trunk=str(trunk_folder), projection_width=16),
        ReaderSettings(trunk=str(trunk_folder), span_width=24, max_answer_tokens=4),
        PackingSettings(query_tokens=32, passage_tokens=64),
    )


def make_corpus(
    folder: Path, trunk_folder: Path, source: Path, kind: type[MemoryCorpus] = MemoryCorpus
) -> MemoryCorpus:
    documents = list(read_documents([source]))
    tokenizer_file = trunk_folder / "tokenizer.json"
    return kind(folder, make_model(trunk_folder), tokenizer_file, documents)


def make_service(corpus: MemoryCorpus, *, served: Any = None, **settings: Any) -> Service:
    """A service over it that can do everything."""

    def mask_filler(view: View) -> MaskFiller:
        answerer, settings = view.answerer, RealmSettings(num_candidates=4)
        index = answerer.snapshot.index(IndexSettings())
        return MaskFiller(answerer.model, answerer.store, index, settings)

    facts = {"name": "small", "versions": VERSIONS, "snapshot_made": 0.0,
             "examples": ("Where is Tavil?",), "mask_filler": mask_filler}  # fmt: skip
    known = Served(**(facts | (served or {})))
    return Service(corpus, known, ServiceSettings.model_validate(settings))
