"""Which documents are there after some edits, and which rows do these edits hide?

A state is a value: an edit makes a new one, at a cost that does not grow with the corpus, and
whoever still searches the old one is not disturbed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from realm.corpus.documents import Document
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.living.documents import MemoryStore
from realm.living.journal import Entry, Facts
from realm.living.segment import Placed

Integers = NDArray[np.int64]
_NONE = np.empty(0, dtype=np.int64)


class UnknownDocument(SourceError):
    """There is no document with that id."""

    def __init__(self, document_id: str) -> None:
        super().__init__(f"the corpus has no document {document_id!r}: check the id")


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of a document; `num_passages` are those that were added or taken away."""

    id: str
    action: Literal["added", "replaced", "removed"]
    num_passages: int


@dataclass(frozen=True)
class State:
    """The base corpus, what was edited in it, and where added documents stand."""

    base: PassageStore
    sequence: int
    """Number of the last edit."""
    entries: Mapping[str, Entry]
    """Every edited document, by id."""
    recent: Mapping[str, MemoryStore]
    """Added documents that no segment holds yet, by id; the older edits come first."""
    segment_name: str
    segment: PassageStore | None
    hidden_in_base: Integers
    hidden_in_segment: Integers
    """Rows of replaced and removed documents, in ascending order."""

    @property
    def version(self) -> str:
        """Fingerprint of the base corpus and number of the last edit."""
        return f"{self.base.fingerprint}:{self.sequence}"

    @property
    def num_documents(self) -> int:
        """Documents that are there."""
        hidden = sum(entry.base_row is not None for entry in self.entries.values())
        added = sum(not entry.is_removed for entry in self.entries.values())
        return self.base.num_documents - hidden + added

    @property
    def num_passages(self) -> int:
        """Passages that can be found."""
        in_segment = len(self.segment) - len(self.hidden_in_segment) if self.segment else 0
        recent = sum(map(len, self.recent.values()))
        return len(self.base) - len(self.hidden_in_base) + in_segment + recent

    def entry(self, document_id: str) -> Entry | None:
        """The last word on a document, if it was edited."""
        return self.entries.get(document_id)

    def document(self, document_id: str) -> Document:
        """The document as it was put, or as the base has it.

        Raises:
            UnknownDocument: there is no document with that id.
        """
        entry = self.entry(document_id)
        if entry is not None and entry.is_removed:
            raise UnknownDocument(document_id)
        if document_id in self.recent:
            return self.recent[document_id].document_at(0)
        if entry is not None and self.segment is not None and entry.segment_row is not None:
            return self.segment.document_at(entry.segment_row)
        try:
            return self.base.document(document_id)
        except SourceError:
            raise UnknownDocument(document_id) from None

    def with_edits(self, edits: Sequence[tuple[Entry, MemoryStore | None]]) -> "State":
        """The state after edits, in their order; each comes with the document that it added."""
        entries, recent = dict(self.entries), dict(self.recent)
        in_base: list[int] = []
        in_segment: list[int] = []
        for entry, store in edits:
            old = entries.get(entry.document_id)
            if old is None and entry.base_row is not None:
                in_base.append(entry.base_row)
            if old is not None and old.segment_row is not None:
                in_segment.append(old.segment_row)
            recent.pop(entry.document_id, None)
            entries[entry.document_id] = entry
            if store is not None:
                recent[entry.document_id] = store
        return replace(
            self,
            sequence=max([self.sequence, *(entry.sequence for entry, _ in edits)]),
            entries=entries,
            recent=recent,
            hidden_in_base=_joined(self.hidden_in_base, self.base, in_base),
            hidden_in_segment=_joined(self.hidden_in_segment, self.segment, in_segment),
        )

    def placed(self) -> list[tuple[Entry, Placed]]:
        """All added documents in the order in which they were put, with where they stand."""
        result = []
        for entry in self.entries.values():
            if entry.is_recent:
                result.append(
                    (entry, Placed(self.recent[entry.document_id], 0, entry.first_passage_id))
                )
            elif self.segment is not None and entry.segment_row is not None:
                result.append(
                    (entry, Placed(self.segment, entry.segment_row, entry.first_passage_id))
                )
        return sorted(result, key=lambda pair: pair[0].sequence)


def opened(
    base: PassageStore,
    facts: Facts,
    entries: Sequence[Entry],
    recent: Mapping[str, MemoryStore],
    segment: PassageStore | None,
) -> State:
    """The state that the database tells of, without going through the edits one by one."""
    hidden_in_segment = _NONE
    if segment is not None:
        is_kept = np.zeros(segment.num_documents, dtype=bool)
        is_kept[[e.segment_row for e in entries if e.segment_row is not None]] = True
        hidden_in_segment = np.flatnonzero(~is_kept[segment.document_rows()])
    return State(
        base=base,
        sequence=facts.sequence,
        entries={entry.document_id: entry for entry in entries},
        recent=recent,
        segment_name=facts.segment,
        segment=segment,
        hidden_in_base=_joined(
            _NONE, base, [e.base_row for e in entries if e.base_row is not None]
        ),
        hidden_in_segment=hidden_in_segment,
    )


def passage_rows(store: PassageStore, document_rows: Sequence[int]) -> Integers:
    """The rows of all passages of some documents."""
    documents = np.asarray(document_rows, dtype=np.int64)
    column = store.document_rows()
    begins, ends = (np.searchsorted(column, documents, side=s) for s in ("left", "right"))
    lengths = ends - begins
    jumps = np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
    return jumps + np.arange(len(jumps))


def _joined(hidden: Integers, store: PassageStore | None, documents: Sequence[int]) -> Integers:
    if store is None or not documents:
        return hidden
    return np.sort(np.concatenate([hidden, passage_rows(store, documents)]))
