"""What does a question see of a corpus that is being edited? One moment of it, which stays.

A view is made of parts: the base corpus, the segment, and each recent document. Rows count on
from part to part, in the order of passage ids, so that equal scores are ordered by passage id.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from realm.corpus.annotated import GivenSpan
from realm.corpus.documents import Document
from realm.corpus.store import Passage, PassageStore
from realm.index.exact import ExactIndex, Found, Index, best_of_few, merge
from realm.index.snapshot import IndexSettings, Snapshot
from realm.openqa.answerer import Answerer

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """The corpus at one moment, to be searched and read while edits go on."""

    version: str
    answerer: Answerer


class JointStore(PassageStore):
    """Several stores read as one; rows that are hidden from search can still be read."""

    def __init__(self, parts: Sequence[PassageStore], fetch: Callable[[str], Document]) -> None:
        first = parts[0]
        self.path, self.settings, self.fingerprint = first.path, first.settings, first.fingerprint
        self._parts, self._fetch = parts, fetch
        self._begins = [0, *np.cumsum([len(part) for part in parts]).tolist()]
        counts = [part.num_documents for part in parts]
        self._document_begins = [0, *np.cumsum(counts).tolist()]
        self.num_documents, self._num_passages = self._document_begins[-1], self._begins[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a view belongs to its process")

    def passage(self, row: int) -> Passage:
        """The passage in a row, with its text as the models read it."""
        part, row = self._at(row)
        return part.passage(row)

    def text(self, row: int) -> str:
        """The normalised text of a passage."""
        part, row = self._at(row)
        return part.text(row)

    def token_ids(self, row: int) -> Integers:
        """Wordpieces of the body, without special tokens."""
        part, row = self._at(row)
        return part.token_ids(row)

    def title_token_ids(self, row: int) -> Integers:
        """Wordpieces of the title of a passage's document."""
        part, row = self._at(row)
        return part.title_token_ids(row)

    def token_spans(self, row: int) -> Integers:
        """Start and end of each body token as characters of the passage's text, [tokens, 2]."""
        part, row = self._at(row)
        return part.token_spans(row)

    def sentences(self, row: int) -> Integers:
        """First and last (exclusive) body token of each sentence, [sentences, 2]."""
        part, row = self._at(row)
        return part.sentences(row)

    def source_span(self, row: int, start: int, end: int) -> tuple[int, int]:
        """Turn characters of a passage's text into characters of the user's document."""
        part, row = self._at(row)
        return part.source_span(row, start, end)

    def published_spans(self, row: int) -> list[GivenSpan] | None:
        """Spans that the source itself names inside a passage, as characters of its text."""
        part, row = self._at(row)
        return part.published_spans(row)

    def document_row(self, row: int) -> int:
        """Which document a passage was cut from."""
        number = bisect_right(self._begins, row) - 1
        return self._parts[number].document_row(row - self._begins[number]) + int(
            self._document_begins[number]
        )

    def document_at(self, document_row: int) -> Document:
        """The document of the user in a document row."""
        number = bisect_right(self._document_begins, document_row) - 1
        return self._parts[number].document_at(document_row - self._document_begins[number])

    def document(self, document_id: str) -> Document:
        """The document with this id, as it was put or as the base has it."""
        return self._fetch(document_id)

    def document_rows(self) -> Integers:
        """The document row of every passage, in ascending order."""
        parts = zip(self._parts, self._document_begins, strict=False)
        return np.concatenate([part.document_rows() + begin for part, begin in parts])

    def num_title_tokens(self) -> Integers:
        """Length of every passage's title in wordpieces."""
        return np.concatenate([part.num_title_tokens() for part in self._parts])

    def num_tokens(self) -> Integers:
        """Length of every body in wordpieces."""
        return np.concatenate([part.num_tokens() for part in self._parts])

    def _column(self, name: str) -> NDArray[Any]:
        """Those with one entry for each passage, which alone can be joined."""
        return np.concatenate([part._column(name) for part in self._parts])

    def _at(self, row: int) -> tuple[PassageStore, int]:
        number = bisect_right(self._begins, row) - 1
        return self._parts[number], row - self._begins[number]


class JointIndex:
    """Several indexes searched as one; rows count on from part to part."""

    def __init__(self, parts: Sequence[Index], begins: Sequence[int]) -> None:
        self._parts, self._begins = parts, begins

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        """The `k` best rows, or all where there are fewer; equal scores are ordered by row."""
        exact = [part for part in self._parts if isinstance(part, ExactIndex)]
        if len(exact) == len(self._parts):
            few = best_of_few(queries.detach().float(), exact, min(k, len(self)))
            if few is not None:
                return few
        found = []
        for part, begin in zip(self._parts, self._begins, strict=True):
            own = part.search(queries, k)
            rows = torch.where(own.rows < 0, own.rows, own.rows + begin)
            found.append(Found(own.scores, rows))
        return merge(found, min(k, len(self)))


@dataclass(frozen=True)
class JointSnapshot(Snapshot):
    """The snapshot of the base, which knows the embeddings of the other parts as well."""

    parts: tuple[Tensor, ...]
    searchable: Index

    @cached_property
    def embeddings(self) -> Float[Tensor, "passages dim"]:
        """All rows, those that search passes over among them; a copy of the whole index."""
        return torch.cat([part.float() for part in self.parts])

    def embeddings_of(self, rows: Tensor) -> Float[Tensor, "... dim"]:
        """Embeddings of chosen rows in single precision; row -1 is the null passage."""
        chosen = self.null_embedding.expand(*rows.shape, -1).clone()
        begin = 0
        for part in self.parts:
            is_here = (rows >= begin) & (rows < begin + len(part))
            chosen[is_here] = part[rows[is_here] - begin].float()
            begin += len(part)
        return chosen

    def index(self, settings: IndexSettings) -> Index:
        """The index of the view, which is of the kind that the run's settings name."""
        return self.searchable
