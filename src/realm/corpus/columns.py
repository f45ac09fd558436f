"""Which files hold a corpus, and how do they grow so that a killed build can go on?

Strings stand in Arrow streams, numbers in flat `.npy` arrays. Every file only grows at its end,
so a commit is a list of sizes, and going on after a crash is cutting the files back to them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from realm.artifact import write_atomically
from realm.corpus.documents import Document
from realm.corpus.passages import DocumentCut, PassageCut

TEXT = pa.large_string()
SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))
SCHEMAS = {
    "documents": pa.schema(
        [("document_id", TEXT), ("title", TEXT), ("text", TEXT), ("spans", SPANS)]
    ),
    "passages": pa.schema([("text", TEXT)]),
}
DTYPES = {
    # one for each passage
    "passage_ids": "<i8",
    "document_rows": "<i8",
    "source_starts": "<i8",
    "source_ends": "<i8",
    "content_hashes": "<u8",
    "token_offsets": "<i8",
    "sentence_offsets": "<i8",
    # one for each body token of a passage
    "token_ids": "<u4",  # <u2 where the vocabulary allows it
    "token_starts": "<u2",
    "token_ends": "<u2",
    # one for each sentence of a passage
    "sentence_ends": "<u2",
    # one for each document, and for each token of its title
    "title_token_offsets": "<i8",
    "title_token_ids": "<u4",
}
VALUES_BY_OFFSETS = {
    "token_offsets": "token_ids",
    "sentence_offsets": "sentence_ends",
    "title_token_offsets": "title_token_ids",
}
"""Offsets begin with 0 and have one entry more than there are rows."""

JOURNAL = "journal.json"
_NPY_HEADER_BYTES = 128


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive documents, their passages, and the numbers of `DTYPES`, all counted from 0."""

    documents: Sequence[Document]
    texts: Sequence[str]
    numbers: dict[str, NDArray[np.generic]]


def make_batch(documents: Sequence[Document], cuts: Sequence[DocumentCut]) -> Batch:
    """Lay the passages of some documents out in columns."""
    passages = [passage for cut in cuts for passage in cut.passages]
    num_passages = [len(cut.passages) for cut in cuts]
    titles = [
        d.title for d, count in zip(documents, num_passages, strict=True) for _ in range(count)
    ]
    title_ids = [cut.title_token_ids for cut in cuts]
    columns: dict[str, NDArray[np.generic]] = {
        "passage_ids": np.arange(len(passages)),
        "document_rows": np.repeat(np.arange(len(documents)), num_passages),
        "source_starts": np.array([passage.source_start for passage in passages], dtype=np.int64),
        "source_ends": np.array([passage.source_end for passage in passages], dtype=np.int64),
        "content_hashes": np.array(list(map(_content_hash, titles, passages)), dtype=np.uint64),
        "token_offsets": _ends([passage.token_ids for passage in passages]),
        "sentence_offsets": _ends([passage.sentence_ends for passage in passages]),
        "token_ids": _join([passage.token_ids for passage in passages]),
        "token_starts": _join([passage.token_starts for passage in passages]),
        "token_ends": _join([passage.token_ends for passage in passages]),
        "sentence_ends": _join([passage.sentence_ends for passage in passages]),
        "title_token_offsets": _ends(title_ids),
        "title_token_ids": _join(title_ids),
    }
    numbers = {name: column.astype(DTYPES[name]) for name, column in columns.items()}
    return Batch(documents, [passage.text for passage in passages], numbers)


class CorpusWriter:
    """Appends batches to the files of a corpus in a directory that outlives a crash.

    `key` names what is being written; files of another key are thrown away.
    """

    def __init__(self, directory: Path, key: str, *, vocabulary_size: int) -> None:
        self._directory, self._key = directory, key
        small = {"token_ids": "<u2", "title_token_ids": "<u2"} if vocabulary_size <= 2**16 else {}
        self._dtypes = {**DTYPES, **small}
        sizes = _committed_sizes(directory, key)
        self._streams: dict[str, BinaryIO] = {}
        for name in file_names():
            stream = (directory / name).open("r+b" if sizes else "w+b")
            if sizes:
                stream.truncate(sizes[name])
                stream.seek(0, os.SEEK_END)
            else:
                self._begin(stream, name)
            self._streams[name] = stream
        self.num_documents = self._length("title_token_offsets") - 1
        self.num_passages = self._length("passage_ids")

    def append(self, batch: Batch) -> None:
        """Add the documents and passages of a batch after those that are there."""
        bases = {"passage_ids": self.num_passages, "document_rows": self.num_documents}
        bases |= {name: self._length(values) for name, values in VALUES_BY_OFFSETS.items()}
        for name, column in batch.numbers.items():
            values = (column + bases[name] if name in bases else column).astype(self._dtypes[name])
            self._streams[f"{name}.npy"].write(values.tobytes())
        rows = [(d.document_id, d.title, d.text, d.spans) for d in batch.documents]
        self._write("documents", [list(column) for column in zip(*rows, strict=True)])
        self._write("passages", [list(batch.texts)])
        self.num_documents += len(batch.documents)
        self.num_passages += len(batch.texts)

    def commit(self) -> None:
        """Make everything appended so far survive a crash."""
        sizes = {}
        for name, stream in self._streams.items():
            stream.flush()
            os.fsync(stream.fileno())
            sizes[name] = stream.tell()
        text = json.dumps({"key": self._key, "sizes": sizes})
        write_atomically(self._directory / JOURNAL, text)

    def finish(self, directory: Path) -> None:
        """Complete the files and give them to another directory of the same disk as well.

        They stay where they are too: a crash before the other directory is complete loses nothing.
        """
        self.commit()
        for name, dtype in self._dtypes.items():
            header = _npy_header(dtype, self._length(name))
            self._streams[f"{name}.npy"].seek(0)
            self._streams[f"{name}.npy"].write(header)
        self.__exit__(None, None, None)
        for name in file_names():
            try:
                (directory / name).hardlink_to(self._directory / name)
            except OSError:  # a file system without links
                shutil.copyfile(self._directory / name, directory / name)

    def __enter__(self) -> "CorpusWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for stream in self._streams.values():
            stream.close()

    def _begin(self, stream: BinaryIO, name: str) -> None:
        stem, _, suffix = name.rpartition(".")
        if suffix == "arrow":
            stream.write(SCHEMAS[stem].serialize())
            return
        stream.write(_npy_header(self._dtypes[stem], 0))
        if stem in VALUES_BY_OFFSETS:
            stream.write(np.zeros(1, dtype=self._dtypes[stem]).tobytes())

    def _length(self, name: str) -> int:
        num_bytes = self._streams[f"{name}.npy"].tell() - _NPY_HEADER_BYTES
        return num_bytes // np.dtype(self._dtypes[name]).itemsize

    def _write(self, name: str, columns: Sequence[Sequence[Any]]) -> None:
        schema = SCHEMAS[name]
        arrays = [
            pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
        ]
        self._streams[f"{name}.arrow"].write(pa.record_batch(arrays, schema).serialize())


def file_names() -> list[str]:
    """The files of a corpus that hold its columns."""
    return [*(f"{name}.arrow" for name in SCHEMAS), *(f"{name}.npy" for name in DTYPES)]


def open_strings(directory: Path, name: str) -> pa.Table:
    """Map the columns of one of `SCHEMAS` into memory."""
    with pa.memory_map(str(directory / f"{name}.arrow")) as source:
        return pa.ipc.open_stream(source).read_all()


def open_numbers(directory: Path, name: str) -> NDArray[np.generic]:
    """Map the numbers of one of `DTYPES` into memory."""
    column: NDArray[np.generic] = np.load(directory / f"{name}.npy", mmap_mode="r")
    return column.view(np.ndarray)  # slices of a plain array are cheaper than those of a memmap


def _npy_header(dtype: str, length: int) -> bytes:
    """An .npy header whose size does not depend on the length (numpy's format 1.0)."""
    facts = repr({"descr": dtype, "fortran_order": False, "shape": (length,)})
    text = facts.ljust(_NPY_HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1")


def _committed_sizes(directory: Path, key: str) -> dict[str, int]:
    """Sizes at the last commit; empty where nothing of this key can be gone on with."""
    try:
        journal = json.loads((directory / JOURNAL).read_text(encoding="utf-8"))
        sizes: dict[str, int] = journal["sizes"]
        fits = journal["key"] == key and all(
            (directory / name).stat().st_size >= sizes[name] for name in file_names()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return sizes if fits else {}


def _content_hash(title: str, passage: PassageCut) -> int:
    content = f"{title}\n{passage.text}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _ends(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.cumsum([len(part) for part in parts], dtype=np.int64)


def _join(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
