"""Which JSON values does a file hold, be it one value, a list or one value a line?

Lists and lines are read as a stream: a file of DPR has several gigabytes. Every value comes
with its place, for messages about it.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

from realm.errors import SourceError

_READ_AT_ONCE = 1 << 20  # characters
_LONGEST_ITEM = 1 << 28  # characters in which the end of an item is looked for
_BETWEEN = re.compile(r"[\s,]*")
_BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the byte order mark

Placed = tuple[Any, str]


def read_json_values(path: Path) -> Iterator[Placed]:
    """Stream the values of a file, also a gzipped one, each with its place.

    Raises:
        SourceError: no such file, or something in it is no JSON; the message names the place.
    """
    try:
        with _open(path) as stream:
            beginning = b""
            while not beginning and (piece := stream.read(4096)):
                beginning = piece.lstrip(_BLANK)
        yield from (_items if beginning[:1] == b"[" else _lines)(path)
    except FileNotFoundError as error:
        raise SourceError(f"there is no question file {path}: check the path") from error
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path) -> Iterator[Placed]:
    """One value a line; a first line that is no value begins one that takes the whole file."""
    is_first = True
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            place = f"{path}, line {number}"
            text = _decode(line, place)
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                if not is_first:
                    raise SourceError(f"{place}: not JSON: {_reason(error)}") from error
                yield _whole(text + _decode(stream.read(), f"{path}, after line {number}"), path)
                return
            is_first = False
            yield value, place


def _whole(text: str, path: Path) -> Placed:
    try:
        return json.loads(text), str(path)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}"
        raise SourceError(f"{place}: not JSON: {_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not JSON: {_reason(error)}") from error


def _items(path: Path) -> Iterator[Placed]:
    """The values of one list, without having all of it in memory."""
    decoder, number = json.JSONDecoder(), 1
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as text:
        buffer = _read(text, path, number)
        position = buffer.index("[") + 1
        while True:
            place = f"{path}, item {number}"
            position = _after_blanks(buffer, position)
            if buffer.startswith("]", position):
                return
            try:
                value, position = decoder.raw_decode(buffer, position)
            except (ValueError, RecursionError) as error:
                # It may go on in what was not read yet.
                may_go_on = isinstance(error, json.JSONDecodeError) and len(buffer) <= _LONGEST_ITEM
                more = _read(text, path, number, len(buffer)) if may_go_on else ""
                if not more:
                    raise SourceError(f"{place}: not JSON: {_reason(error, buffer)}") from error
                buffer, position = buffer[position:] + more, 0
                continue
            yield value, place
            number += 1


def _after_blanks(buffer: str, position: int) -> int:
    found = _BETWEEN.match(buffer, position)
    return found.end() if found else position


def _read(text: IO[str], path: Path, number: int, size: int = 0) -> str:
    try:
        return text.read(max(_READ_AT_ONCE, size))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, item {number} or later: not UTF-8: convert it") from error


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{place}: not UTF-8 at byte {error.start}: convert it") from error


def _reason(error: ValueError | RecursionError, buffer: str = "") -> str:
    """What is wrong and where; in a buffer, whose beginning moves, after which text."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)  # a number of thousands of digits
    if buffer:
        return f"{error.msg} after {buffer[max(0, error.pos - 20) : error.pos]!r}"
    return f"{error.msg} at column {error.colno}"
