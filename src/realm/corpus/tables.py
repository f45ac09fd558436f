"""How are rows with `id`, `title` and `text` read from JSON lines, CSV, Parquet and the hub?"""

import csv
import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from realm.errors import ResourceError, SourceError

KEYS = ("id", "title", "text")
PARQUET_ROWS = 256  # read at once
_MOST_PARTS = 2  # behind the name of a data set

Row = tuple[str, str, str]


def read_json_lines(stream: BufferedIOBase, name: str) -> Iterator[Row]:
    """One JSON object a line; empty lines are skipped."""
    for number, line in enumerate(stream, start=1):
        text = _decode(line, name, number)
        if not text.strip():
            continue
        place = f"{name}, line {number}"
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"{place}: not valid JSON ({error}): mend or remove the line"
            ) from error
        if not isinstance(value, dict):
            raise SourceError(f"{place}: not a JSON object: each line needs id, title and text")
        yield _row(value, place)


def read_csv(stream: BufferedIOBase, name: str, *, delimiter: str = ",") -> Iterator[Row]:
    """Rows below a header that names the columns id, title and text."""
    csv.field_size_limit(sys.maxsize)  # the default refuses documents over 128 kB
    lines = (_decode(line, name, number) for number, line in enumerate(stream, start=1))
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        for value in reader:
            place = f"{name}, line {reader.line_num}"
            if None in value:
                raise SourceError(
                    f"{place}: more cells than in the header: put quotes around a text that holds "
                    f"{delimiter!r}"
                )
            if None in value.values():
                raise SourceError(f"{place}: fewer cells than in the header: give it all of them")
            yield _row(value, place)
    except csv.Error as error:
        place = f"{name}, line {reader.line_num + 1}"  # lines that were read without an error
        raise SourceError(f"{place}: not valid CSV ({error}): mend or remove it") from error


def count_parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has."""
    with _reading_parquet(path):
        return int(pq.read_metadata(path).num_rows)


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file with the columns id, title and text."""
    number = 0
    with _reading_parquet(path):
        file = pq.ParquetFile(path)
        for key in KEYS:
            if key not in file.schema_arrow.names:
                raise SourceError(f"{path} has no column {key!r}: it needs id, title and text")
        for batch in file.iter_batches(PARQUET_ROWS, columns=list(KEYS)):
            for value in batch.to_pylist():
                number += 1
                yield _row(value, f"{path}, row {number}")


@contextmanager
def _reading_parquet(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise SourceError(f"{path} is not a readable Parquet file ({error}): replace it") from error


def read_hub(source: str) -> Iterator[Row]:
    """Stream `hub:NAME`, `hub:NAME:SPLIT` or `hub:NAME:CONFIGURATION:SPLIT`; the split is train.

    Raises:
        ResourceError: the package `datasets` is not installed; or rows came and then no more.
        SourceError: it is not named so; or the hub does not have it, or cannot be reached.
    """
    name, *rest = source.removeprefix("hub:").split(":")
    if not name or not all(rest) or len(rest) > _MOST_PARTS:
        raise SourceError(
            f"{source} names no data set: write hub:NAME, hub:NAME:SPLIT or "
            "hub:NAME:CONFIGURATION:SPLIT"
        )
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        message = f"{source} needs the package datasets: pip install 'realm-lm[hub]'"
        raise ResourceError(message) from error
    configuration = rest[0] if len(rest) > 1 else None
    split = rest[-1] if rest else "train"
    number = 0
    try:
        rows: Iterable[Any] = datasets.load_dataset(
            name, configuration, split=split, streaming=True
        )
        for number, value in enumerate(rows, start=1):
            yield _row(value, f"{source}, row {number}")
    except SourceError:
        raise
    except Exception as error:  # the library raises errors of many packages
        reason = " ".join(str(error).split())
        if number:
            raise ResourceError(
                f"{source} broke off after row {number:,} ({reason}): start again, and it goes on "
                "from there"
            ) from error
        raise SourceError(
            f"cannot read {source} ({reason}): check its name, its split and the connection"
        ) from error


def _row(value: Mapping[str, Any], place: str) -> Row:
    for key in KEYS:
        if key not in value:
            raise SourceError(f"{place}: there is no {key!r}: a document needs id, title and text")
    document_id, title, text = (value[key] for key in KEYS)
    if isinstance(document_id, bool) or not isinstance(document_id, str | int) or document_id == "":
        raise SourceError(f"{place}: the id is {document_id!r}: give a string or a whole number")
    for key, content in (("title", title), ("text", text)):
        if not isinstance(content, str | None):
            kind = type(content).__name__
            raise SourceError(f"{place}: {key!r} is of type {kind}: give a string")
    return str(document_id), title or "", text or ""


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{name}, line {number}: byte {error.start} is not UTF-8: convert the file to UTF-8"
        ) from error
