"""How do documents that were put become passages in memory, and bytes that bring them back?

With the very cutting of the corpus build; what it makes is read through the very `PassageStore`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from realm.corpus.columns import DTYPES, SCHEMAS, VALUES_BY_OFFSETS, make_batch
from realm.corpus.documents import Document, replace_surrogates
from realm.corpus.passages import DocumentCut, PassageCut, cut_documents, normalise
from realm.corpus.store import PassageStore
from realm.errors import SourceError

_DOCUMENTS_AT_ONCE = 64  # cut with one call of the tokenizer

Integers = NDArray[np.int64]


class MemoryStore(PassageStore):
    """Documents in memory, read as a corpus is read; rows count from 0."""

    def __init__(
        self,
        documents: Sequence[Document],
        cuts: Sequence[DocumentCut],
        first_passage_id: int,
        like: PassageStore,
    ) -> None:
        batch = make_batch(documents, cuts)
        numbers = dict(batch.numbers)
        for offsets in VALUES_BY_OFFSETS:
            numbers[offsets] = np.concatenate([np.zeros(1, DTYPES[offsets]), numbers[offsets]])
        numbers["passage_ids"] = numbers["passage_ids"] + first_passage_id
        self.path, self.settings, self.fingerprint = like.path, like.settings, like.fingerprint
        self.num_documents, self._num_passages = len(documents), len(batch.texts)
        rows = [(d.document_id, d.title, d.text, d.spans) for d in documents]
        columns = [list(column) for column in zip(*rows, strict=True)]
        self._documents = pa.table(columns, schema=SCHEMAS["documents"])
        self._texts = pa.chunked_array([list(batch.texts)], SCHEMAS["passages"].field("text").type)
        self._columns = numbers


def cut(documents: Sequence[Document], like: PassageStore) -> list[DocumentCut]:
    """Cut documents as those of a corpus were cut.

    Raises:
        SourceError: a document gives no passage.
    """
    cuts: list[DocumentCut] = []
    for begin in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        few = documents[begin : begin + _DOCUMENTS_AT_ONCE]
        cuts += cut_documents(few, like.tokenizer, like.settings)
    for document, own in zip(documents, cuts, strict=True):
        if not any(len(passage.token_ids) for passage in own.passages):
            raise SourceError(
                f"the document {document.document_id!r} has no text: give it some, or remove it"
            )
    return cuts


def checked(documents: Sequence[Document]) -> list[Document]:
    """The documents as they can be stored.

    Raises:
        SourceError: an id is empty or occurs twice, or a text is blank.
    """
    result: dict[str, Document] = {}
    for document in documents:
        parts = (document.document_id, document.title, document.text)
        document_id, title, text = map(replace_surrogates, parts)
        if not document_id:
            raise SourceError("a document has an empty id: give every document an id of its own")
        if document_id in result:
            raise SourceError(
                f"the document id {document_id!r} occurs twice: give each document an id of its own"
            )
        if not text.strip():
            raise SourceError(f"the document {document_id!r} has no text: give it some")
        result[document_id] = Document(document_id, title, text)
    return list(result.values())


def cut_of(store: PassageStore, document_row: int) -> DocumentCut:
    """A document of a store as it was cut."""
    bounds = np.searchsorted(store.document_rows(), [document_row, document_row + 1])
    rows = range(*bounds.tolist())
    return DocumentCut(store.title_token_ids(rows[0]), [_passage_of(store, row) for row in rows])


def _passage_of(store: PassageStore, row: int) -> PassageCut:
    passage, spans = store.passage(row), store.token_spans(row)
    return PassageCut(
        passage.source_start, passage.source_end, passage.text, store.token_ids(row),
        spans[:, 0], spans[:, 1], store.sentences(row)[:, 1],
    )  # fmt: skip


def to_bytes(cut: DocumentCut) -> bytes:
    """The numbers of a document's passages; their text follows from that of the document."""
    parts = [cut.title_token_ids]
    for passage in cut.passages:
        bounds = np.array([passage.source_start, passage.source_end])
        parts += [bounds, passage.token_ids, passage.token_starts, passage.token_ends]
        parts.append(passage.sentence_ends)
    lengths = [len(part) for part in parts]
    return np.concatenate([[len(parts)], lengths, *parts]).astype("<i4").tobytes()


def from_bytes(blob: bytes, text: str) -> DocumentCut:
    """The passages of a document with that text."""
    numbers = np.frombuffer(blob, dtype="<i4").astype(np.int64)
    num_parts = int(numbers[0])
    ends = np.cumsum(numbers[1 : 1 + num_parts])
    title, *parts = np.split(numbers[1 + num_parts :], ends[:-1])
    return DocumentCut(title, list(_passages_from(parts, text)))


def _passages_from(parts: Sequence[Integers], text: str) -> Iterator[PassageCut]:
    for first in range(0, len(parts), 5):
        bounds, ids, starts, ends, sentence_ends = parts[first : first + 5]
        start, end = bounds.tolist()
        normalised = normalise(text[start:end]).text
        yield PassageCut(start, end, normalised, ids, starts, ends, sentence_ends)
