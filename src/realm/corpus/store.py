"""How are the passages of a corpus read without loading them?

A row counts passages in the order of the corpus; a `passage_id` names one for ever. Opening
a store maps its files into memory, so it costs milliseconds and processes share the pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from realm.artifact import Manifest, open_artifact
from realm.config import read_settings
from realm.corpus.annotated import GivenSpan
from realm.corpus.columns import DTYPES, open_numbers, open_strings
from realm.corpus.documents import Document
from realm.corpus.passages import CorpusSettings, normalise
from realm.corpus.tokenizer import load_tokenizer
from realm.errors import SourceError

KIND = "corpus"
TOKENIZER = "tokenizer.json"

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage to read or to show; `source_start` and `source_end` count in its document."""

    passage_id: int
    document_id: str
    title: str
    text: str
    source_start: int
    source_end: int


class PassageStore:
    """A finished corpus; all rows are those of its passages unless they say document."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.fingerprint = manifest.fingerprint
        self.settings = read_settings(CorpusSettings, manifest.settings, origin=str(path))
        self.num_documents = int(manifest.counts["num_documents"])
        self._num_passages = int(manifest.counts["num_passages"])
        self._documents = open_strings(path, "documents")
        self._texts = open_strings(path, "passages")["text"]
        self._columns: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, path: Path) -> "PassageStore":
        """Open a finished corpus.

        Raises:
            ArtifactError: there is none at `path`, or it is damaged.
        """
        return cls(path, open_artifact(path, KIND))

    def __len__(self) -> int:
        return self._num_passages

    def __reduce__(self) -> tuple[Any, ...]:
        return (PassageStore.open, (self.path,))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the passages were cut with; it neither truncates nor pads."""
        return load_tokenizer(self.path / TOKENIZER)

    def passage(self, row: int) -> Passage:
        """The passage in a row, with its text as the models read it."""
        document = self.document_row(row)
        return Passage(
            int(self._column("passage_ids")[row]),
            self._documents["document_id"][document].as_py(),
            self._documents["title"][document].as_py(),
            self.text(row),
            int(self._column("source_starts")[row]),
            int(self._column("source_ends")[row]),
        )

    def text(self, row: int) -> str:
        """The normalised text of a passage."""
        text: str = self._texts[row].as_py()
        return text

    def token_ids(self, row: int) -> Integers:
        """Wordpieces of the body, without special tokens."""
        return self._ragged("token_offsets", "token_ids", row)

    def title_token_ids(self, row: int) -> Integers:
        """Wordpieces of the title of a passage's document."""
        return self._ragged("title_token_offsets", "title_token_ids", self.document_row(row))

    def token_spans(self, row: int) -> Integers:
        """Start and end of each body token as characters of the passage's text, [tokens, 2]."""
        starts = self._ragged("token_offsets", "token_starts", row)
        return np.stack([starts, self._ragged("token_offsets", "token_ends", row)], axis=1)

    def sentences(self, row: int) -> Integers:
        """First and last (exclusive) body token of each sentence, [sentences, 2]."""
        ends = self._ragged("sentence_offsets", "sentence_ends", row)
        return np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)

    def document_row(self, row: int) -> int:
        """Which document a passage was cut from."""
        return int(self._column("document_rows")[row])

    def passage_ids(self) -> Integers:
        """The id of every passage."""
        return self._column("passage_ids")

    def document_rows(self) -> Integers:
        """The document row of every passage, in ascending order."""
        return self._column("document_rows")

    def content_hashes(self) -> NDArray[np.uint64]:
        """A hash of title and normalised text of every passage: equal ones look the same."""
        return self._column("content_hashes")

    def num_tokens(self) -> Integers:
        """Length of every body in wordpieces."""
        return np.diff(self._column("token_offsets"))

    def num_title_tokens(self) -> Integers:
        """Length of every passage's title in wordpieces."""
        lengths: Integers = np.diff(self._column("title_token_offsets"))
        return lengths[self.document_rows()]

    def source_span(self, row: int, start: int, end: int) -> tuple[int, int]:
        """Turn characters of a passage's text into characters of the user's document."""
        source_start, source_end = self._source(row)
        text = self._document_text(self.document_row(row))[source_start:source_end]
        first, last = normalise(text).source_span(start, end)
        return source_start + first, source_start + last

    def published_spans(self, row: int) -> list[GivenSpan] | None:
        """Spans that the source itself names inside a passage, as characters of its text.

        Nothing where the source says nothing of spans: an empty list says that there are none.
        """
        document = self.document_row(row)
        spans = self._given_spans(document)
        if spans is None:
            return None
        first, last = self._source(row)
        text = normalise(self._document_text(document)[first:last])
        return [
            (text.offset_of(s["start"] - first), text.offset_of(s["end"] - first), s["label"])
            for s in spans
            if first <= s["start"] < s["end"] <= last
        ]

    def num_published_spans(self, document_row: int) -> tuple[int, int]:
        """How many spans the source names in a document, and how many of those are broken."""
        spans = self._given_spans(document_row) or []
        return len(spans), sum(s["start"] == s["end"] for s in spans)

    def document(self, document_id: str) -> Document:
        """The document of the user with this id.

        Raises:
            SourceError: the corpus has no such document.
        """
        row = pc.index(self._documents["document_id"], document_id).as_py()
        if row < 0:
            raise SourceError(f"the corpus has no document {document_id!r}: check the id")
        return self.document_at(row)

    def document_at(self, document_row: int) -> Document:
        """The document of the user in a document row."""
        names = ("document_id", "title", "text")
        return Document(*(self._documents[name][document_row].as_py() for name in names))

    def document_row_by_id(self, document_ids: Sequence[str]) -> dict[str, int]:
        """The document rows of those of the ids that the corpus has; one pass for all of them."""
        column = self._documents["document_id"]
        is_wanted = pc.is_in(column, value_set=pa.array(document_ids, column.type))
        rows = np.flatnonzero(is_wanted.to_numpy())
        return {column[int(row)].as_py(): int(row) for row in rows}

    def ids_without_text(self) -> list[str]:
        """The ids of the documents that gave no passage."""
        rows = np.setdiff1d(np.arange(self.num_documents), self.document_rows())
        return [self._documents["document_id"][int(row)].as_py() for row in rows]

    def documents(self) -> pa.Table:
        """The columns document_id, title and text of all documents, memory-mapped."""
        return self._documents.select(["document_id", "title", "text"])

    def map_all(self) -> "PassageStore":
        """Map every column now, so that the files may go while the store is in use."""
        for name in DTYPES:
            self._column(name)
        return self

    def _given_spans(self, document_row: int) -> list[dict[str, Any]] | None:
        if "spans" not in self._documents.column_names:  # made by an earlier version
            return None
        spans: list[dict[str, Any]] | None = self._documents["spans"][document_row].as_py()
        return spans

    def _source(self, row: int) -> tuple[int, int]:
        return int(self._column("source_starts")[row]), int(self._column("source_ends")[row])

    def _document_text(self, row: int) -> str:
        text: str = self._documents["text"][row].as_py()
        return text

    def _ragged(self, offsets: str, values: str, row: int) -> Integers:
        start, end = self._column(offsets)[row : row + 2]
        return self._column(values)[start:end].astype(np.int64)

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            self._columns[name] = open_numbers(self.path, name)
        return self._columns[name]
