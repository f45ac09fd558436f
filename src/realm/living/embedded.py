"""Where do the embeddings of added passages come from, and how do they become searchable?

From the run's own passage embedder, by the function that embeds the corpus, title and all. They
are kept under the fingerprint of the checkpoint that made them: where the run's embedder is
another one by now, the added passages are embedded again, and vector spaces are never mixed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from realm.corpus.documents import Document
from realm.corpus.passages import DocumentCut
from realm.corpus.store import PassageStore
from realm.index.approximate import ApproximateIndex
from realm.index.encode import embed_corpus
from realm.index.exact import ExactIndex, Index
from realm.living.documents import MemoryStore
from realm.living.journal import Journal
from realm.living.segment import segment_vectors
from realm.living.state import State, passage_rows
from realm.living.view import JointIndex, JointSnapshot, JointStore, View
from realm.living.words import AddedWords
from realm.openqa.answerer import Answerer
from realm.progress import Progress
from realm.retrieval.lexical import LexicalIndex
from realm.retrieval.retriever import Retriever


class Embedded:
    """The run's model, and the embeddings of what was added to its corpus."""

    def __init__(
        self, base: Answerer, folder: Path, require_embedder: Callable[[], None], progress: Progress
    ) -> None:
        self.answerer = base
        self._folder, self._require_embedder, self._progress = folder, require_embedder, progress
        base.model.modules().eval()  # for good: threads share it
        retriever = base.retriever
        assert isinstance(retriever, Retriever), "a view is made of its parts"
        assert isinstance(retriever.index, ExactIndex | ApproximateIndex)
        assert isinstance(retriever.lexical, LexicalIndex | None)
        self._retriever, self._index = retriever, retriever.index
        self._words = AddedWords(retriever.lexical, base.store) if retriever.lexical else None
        self._dtype = base.snapshot.embeddings.dtype
        self._recent: dict[int, Tensor] = {}
        self._segment = "", torch.empty(0, 0)

    def embed(
        self, documents: Sequence[Document], cuts: Sequence[DocumentCut]
    ) -> list[Float[Tensor, "passages dim"]]:
        """The embeddings of each document's passages, of the width that the snapshot has."""
        store = MemoryStore(documents, cuts, 0, self.answerer.store)
        return self._embed(store, [len(cut.passages) for cut in cuts])

    def keep(self, journal: Journal, vectors: Mapping[int, Tensor]) -> None:
        """Write the embeddings of recent documents, by sequence number, into a transaction."""
        blobs = {sequence: rows.numpy().tobytes() for sequence, rows in vectors.items()}
        journal.write_vectors(self.answerer.snapshot.checkpoint, blobs)

    def learn(self, vectors: Mapping[int, Tensor]) -> None:
        """Have them at hand as well, once the transaction is over."""
        self._recent.update(vectors)

    def view(self, state: State, journal: Journal) -> View:
        """A state as questions see it."""
        base = self.answerer
        stores: list[PassageStore] = [state.base]
        vectors = [base.snapshot.embeddings]
        indexes: list[Index] = [_without(self._index, state.hidden_in_base)]
        if state.segment is not None:
            stores.append(state.segment)
            vectors.append(self._segment_vectors(state))
            indexes.append(_without(ExactIndex(vectors[-1]), state.hidden_in_segment))
        if state.recent:
            stores += state.recent.values()
            vectors.append(torch.cat(self._recent_vectors(state, journal)))
            indexes.append(ExactIndex(vectors[-1]))
        begins = np.cumsum([0, *map(len, vectors[:-1])]).tolist()
        index = JointIndex(indexes, begins)
        snapshot = base.snapshot
        joint = JointSnapshot(snapshot.path, snapshot.manifest, tuple(vectors), index)
        store = JointStore(stores, state.document)
        lexical = self._words.search_in(state, stores[1:]) if self._words else None
        retriever = replace(self._retriever, index=index, lexical=lexical)
        return View(state.version, Answerer(base.model, store, joint, retriever, base.settings))

    def vectors(self, state: State, journal: Journal) -> Float[Tensor, "passages dim"]:
        """The embeddings of all added documents, in the order in which they were put."""
        parts = []
        if state.recent:
            self._recent_vectors(state, journal)
        for entry, placed in state.placed():
            if entry.is_recent:
                parts.append(self._recent[entry.sequence])
            else:
                rows = passage_rows(placed.store, [placed.document_row])
                parts.append(self._segment_vectors(state)[rows])
        return torch.cat(parts) if parts else torch.empty(0, 0)

    def _recent_vectors(self, state: State, journal: Journal) -> list[Tensor]:
        stores = {state.entries[name].sequence: store for name, store in state.recent.items()}
        if any(sequence not in self._recent for sequence in stores):
            kept = journal.vectors(self.answerer.snapshot.checkpoint)
            for sequence in stores.keys() & kept.keys():
                self._recent[sequence] = self._from_bytes(kept[sequence])
        missing = {s: store for s, store in stores.items() if s not in self._recent}
        if missing:
            self._embed_again(missing, state, journal)
        self._recent = {sequence: self._recent[sequence] for sequence in stores}
        return list(self._recent.values())

    def _embed_again(
        self, stores: Mapping[int, MemoryStore], state: State, journal: Journal
    ) -> None:
        """Embed documents that were put while the run had another embedder."""
        self._require_embedder()
        joint = JointStore(list(stores.values()), state.document)
        sizes = [len(store) for store in stores.values()]
        vectors = dict(zip(stores, self._embed(joint, sizes), strict=True))
        with journal.transaction():
            self.keep(journal, vectors)
        self.learn(vectors)

    def _segment_vectors(self, state: State) -> Tensor:
        if state.segment is not None and self._segment[0] != state.segment_name:
            vectors = segment_vectors(
                self._folder / state.segment_name, state.segment, self.answerer.model,
                self.answerer.snapshot, self._progress,
            )  # fmt: skip
            self._segment = state.segment_name, vectors
        return self._segment[1]

    def _embed(self, store: PassageStore, sizes: Sequence[int]) -> list[Tensor]:
        blocks = []
        done = 0
        with self._progress("added passages embedded", len(store)) as advance:
            for block in embed_corpus(self.answerer.model, store):
                blocks.append(block.to(self._dtype))
                done += len(block)
                advance(done, "")
        return list(torch.cat(blocks).split(list(sizes)))

    def _from_bytes(self, blob: bytes) -> Tensor:
        width = self.answerer.snapshot.embeddings.shape[1]
        return torch.frombuffer(bytearray(blob), dtype=self._dtype).view(-1, width)


def _without(index: ExactIndex | ApproximateIndex, rows: np.ndarray) -> Index:
    return index.without(rows) if len(rows) else index
