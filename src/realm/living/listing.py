"""Which documents are there, page by page in the order of their ids?"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import merge
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from realm.corpus.documents import Document
from realm.corpus.store import PassageStore
from realm.living.journal import Entry
from realm.living.state import State, UnknownDocument, passage_rows

_PATTERNS_KEPT = 8  # pages of one search follow each other


@dataclass(frozen=True, slots=True, order=True)
class DocumentSummary:
    """What a list says of a document."""

    id: str
    title: str
    num_passages: int
    origin: Literal["base", "edited"]


class Listing:
    """Lists the documents of a base corpus and of a state of its edits."""

    def __init__(self, base: PassageStore) -> None:
        self._base = base
        self._in_base = lru_cache(_PATTERNS_KEPT)(lambda text: _holding(base, text))

    def page(self, state: State, *, text: str, after: str, limit: int) -> list[DocumentSummary]:
        """The first documents after an id, of those that hold the text in id, title or text."""
        edited = iter(sorted(self._edited(state, text, after)))
        return list(islice(merge(self._from_base(state, text, after), edited), limit))

    def summary(self, state: State, document_id: str) -> DocumentSummary:
        """What a list says of one document.

        Raises:
            UnknownDocument: there is no document with that id.
        """
        entry = state.entry(document_id)
        if entry is not None:
            if entry.is_removed:
                raise UnknownDocument(document_id)
            return _summary_of(entry)
        rows = self._base.document_row_by_id([document_id])
        if document_id not in rows:
            raise UnknownDocument(document_id)
        return self._of_base(rows[document_id])

    def _from_base(self, state: State, text: str, after: str) -> Iterator[DocumentSummary]:
        rows = self._order
        if text:
            rows = rows[self._in_base(text)[rows]]
        for row in rows[self._place_after(rows, after) :].tolist():
            if self._ids[row].as_py() not in state.entries:
                yield self._of_base(row)

    def _edited(self, state: State, text: str, after: str) -> Iterator[DocumentSummary]:
        in_segment = _holding(state.segment, text) if text and state.segment is not None else None
        for entry in state.entries.values():
            if entry.is_removed or entry.document_id <= after:
                continue
            if entry.is_recent:
                is_wanted = _holds(state.recent[entry.document_id].document_at(0), text)
            else:
                is_wanted = in_segment is None or bool(in_segment[entry.segment_row])
            if is_wanted:
                yield _summary_of(entry)

    def _of_base(self, row: int) -> DocumentSummary:
        document_id, title = (
            self._base.documents()[name][row].as_py() for name in ("document_id", "title")
        )
        return DocumentSummary(document_id, title, len(passage_rows(self._base, [row])), "base")

    def _place_after(self, rows: NDArray[np.int64], after: str) -> int:
        return bisect_right(rows, after, key=lambda row: self._ids[int(row)].as_py())

    @cached_property
    def _ids(self) -> Any:
        return self._base.documents()["document_id"].combine_chunks()

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        order: NDArray[np.int64] = pc.sort_indices(self._ids).to_numpy().astype(np.int64)
        return order


def _summary_of(entry: Entry) -> DocumentSummary:
    return DocumentSummary(entry.document_id, entry.title or "", entry.num_passages, "edited")


def _holding(store: PassageStore, text: str) -> NDArray[np.bool_]:
    """Which documents of a store hold a text, in whichever case."""
    is_found = np.zeros(store.num_documents, dtype=bool)
    for column in store.documents().columns:
        is_found |= pc.match_substring(column, text, ignore_case=True).to_numpy()
    return is_found


def _holds(document: Document, text: str) -> bool:
    parts = (document.document_id, document.title, document.text)
    return any(text.lower() in part.lower() for part in parts)
