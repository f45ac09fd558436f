"""How are the passages of a released checkpoint read, which lie in a pickle, without unpickling?

`block_records.npy` is an array of Python byte strings, so numpy stored it as a pickle: a program
that could do anything. Here nothing is run. The few steps that build such an array are followed on
a stack of plain values and compared with what they have to be; from then on the stream is one
string after the other. Whatever else stands there is refused.

Memory does not grow with the texts: of each of them 8 bytes are kept, its place in the file, since
a pickle may refer back to a text that came before.
"""

import struct
from array import array
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realm.errors import SourceError

SUFFIX = ".npy"
MAX_RECORD_BYTES = (
    1 << 26
)  # no passage is that long: memory for a length that lies is not asked for
_MAX_WORD_BYTES = 64  # names and format letters that stand before the records
_MAX_STEPS = 100  # about 40 are needed
_BUFFER_BYTES = 1 << 20

_RECONSTRUCT = [(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")]
_NAMES = {("numpy", "ndarray"), ("numpy", "dtype"), *_RECONSTRUCT}
_OBJECTS = (
    "state",
    ("call", ("numpy", "dtype"), ("O8", False, True)),
    (3, "|", None, None, None, -1, -1, 63),
)


class _Mark:
    """Where the values of a tuple or of a batch begin."""


_MARK = _Mark()


def count_block_records(path: Path) -> int:
    """How many records the header of the file announces.

    Raises:
        SourceError: the file is no array of objects of one dimension.
    """
    with path.open("rb") as stream:
        return _read_header(stream, path)


def read_block_records(path: Path) -> Iterator[str]:
    """Stream the texts of the file in their order.

    Raises:
        SourceError: the file is cut short, holds something else than byte strings of UTF-8, or
            asks for anything to be run.
    """
    with BufferedReader(path.open("rb", buffering=0), _BUFFER_BYTES) as stream:
        count = _read_header(stream, path)
        number = -1
        for number, record in enumerate(_Reader(stream, path).records(count)):
            if number == count:
                break
            try:
                yield record.decode()
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{path}, record {number:,}: not UTF-8 at byte {error.start}: repair it"
                ) from error
        if number + 1 != count:
            raise SourceError(
                f"{path} announces {count:,} records and holds "
                f"{'more' if number == count else f'{number + 1:,}'}: download it again"
            )


def write_block_records(path: Path, texts: Iterable[str], count: int) -> None:
    """Write texts as such a file, one after the other; numpy loads it with `allow_pickle`."""
    header = {"descr": "|O", "fortran_order": False, "shape": (count,)}
    with path.open("wb", buffering=_BUFFER_BYTES) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(
            b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
            b"(K\x01J" + struct.pack("<i", count) + b"\x85cnumpy\ndtype\nX\x02\x00\x00\x00O8"
            b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]("
        )
        for text in texts:
            record = text.encode()
            stream.write(b"B" + struct.pack("<I", len(record)) + record)
        stream.write(b"etb.")


def _read_header(stream: BinaryIO, path: Path) -> int:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} is no .npy file: download it again") from error
    if dtype != np.dtype(object) or len(shape) != 1:
        raise SourceError(
            f"{path} holds no block records but an array of {dtype} of shape {shape}: give the "
            "block_records.npy of a released checkpoint"
        )
    return int(shape[0])


class _Reader:
    """Follows one pickle that has to build an array of byte strings."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._memo: list[Any] = []
        self._places = array("Q")
        """Where the text of each memo entry after those of `_memo` stands; 0 for none."""

    def records(self, count: int) -> Iterator[bytes]:
        """The strings of the list, after what comes before it, before what comes after it."""
        self._follow_to_the_list(count)
        self._skip_memo()
        while True:
            code = self._code()
            if code == b"(":
                yield from self._batch()
            elif code == b"t":
                break
            else:
                yield self._record(code)
                self._expect(b"a")
        self._skip_memo()
        self._expect(b"b")
        self._expect(b".")
        if self._stream.read(1):
            raise self._refusal("something follows the array")

    def _batch(self) -> Iterator[bytes]:
        while (code := self._code()) != b"e":
            yield self._record(code)

    def _record(self, code: bytes) -> bytes:
        """One string, or one that came before."""
        if code in b"hj":
            return self._remembered(_number(self._exactly(1 if code == b"h" else 4)))
        if code not in b"CB\x8e":
            raise self._refusal(f"a record is no byte string (step {code!r})")
        length = _number(self._exactly({b"C": 1, b"B": 4, b"\x8e": 8}[code]))
        if length > MAX_RECORD_BYTES:
            raise self._refusal(f"a record is said to have {length:,} bytes")
        place = self._stream.tell()
        record = self._exactly(length)
        self._put(place, length)
        return record

    def _put(self, place: int, length: int) -> None:
        """Note the place of a record where the pickle gives it a number."""
        before = len(self._places)
        self._skip_memo()
        if len(self._places) > before:
            self._places[-1] = place << 27 | length

    def _remembered(self, number: int) -> bytes:
        number -= len(self._memo)
        if not 0 <= number < len(self._places) or not self._places[number]:
            raise self._refusal("a record refers to something that is no record")
        place, length = self._places[number] >> 27, self._places[number] & (1 << 27) - 1
        here = self._stream.tell()
        self._stream.seek(place)
        record = self._exactly(length)
        self._stream.seek(here)
        return record

    def _skip_memo(self) -> None:
        """Number what was just read, where the pickle says so."""
        code = self._peek()
        if code == b"\x95":  # a frame of its own follows a long text
            self._exactly(9)
            code = self._peek()
        if code not in (b"q", b"r", b"\x94"):
            return
        self._exactly(1)
        size = {b"q": 1, b"r": 4}.get(code, 0)
        known = len(self._memo) + len(self._places)
        if size and _number(self._exactly(size)) != known:
            raise self._refusal("its values are not numbered in their order")
        self._places.append(0)

    def _peek(self) -> bytes:
        return self._stream.peek(1)[:1]  # type: ignore[attr-defined, no-any-return]

    def _follow_to_the_list(self, count: int) -> None:
        """Follow the steps up to the empty list of records, and compare what they built."""
        if self._exactly(1) != b"\x80" or self._exactly(1)[0] not in (3, 4, 5):
            raise self._refusal("its protocol is none of 3 to 5: save it again with numpy")
        stack: list[Any] = []
        for _ in range(_MAX_STEPS):
            code = self._code()
            if code == b"]":
                break
            self._step(code, stack)
        for reconstruct in _RECONSTRUCT:
            array_of_nothing = ("call", reconstruct, (("numpy", "ndarray"), (0,), b"b"))
            if stack == [array_of_nothing, _MARK, 1, (count,), _OBJECTS, False]:
                return
        raise self._refusal("it builds something else")

    def _step(self, code: bytes, stack: list[Any]) -> None:
        constants = {b"N": None, b"\x88": True, b"\x89": False, b")": (), b"(": _MARK}
        tuples = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
        if code in constants:
            stack.append(constants[code])
        elif code in (b"q", b"r", b"\x94"):
            if code != b"\x94":
                self._exactly(1 if code == b"q" else 4)
            self._memo.append(self._top(stack, 1)[0])
        elif code in (b"h", b"j"):
            number = _number(self._exactly(1 if code == b"h" else 4))
            if number >= len(self._memo):
                raise self._refusal("it refers to a value that is not there")
            stack.append(self._memo[number])
        elif code in (b"c", b"\x93"):
            stack.append(self._name(code, stack))
        elif code in tuples:
            values = self._top(stack, tuples[code])
            stack[-len(values) :] = [tuple(values)]
        elif code == b"t":
            self._close_tuple(stack)
        elif code in (b"R", b"b"):
            first, second = self._top(stack, 2)
            # Nothing is called: what would be is written down, to be compared later.
            stack[-2:] = [("call" if code == b"R" else "state", first, second)]
        else:
            stack.append(self._value(code))

    def _close_tuple(self, stack: list[Any]) -> None:
        marks = [place for place, value in enumerate(stack) if value is _MARK]
        if not marks:
            raise self._refusal("a step lacks its values")
        stack[marks[-1] :] = [tuple(stack[marks[-1] + 1 :])]

    def _value(self, code: bytes) -> int | str | bytes:
        if code in (b"K", b"M", b"J"):
            raw = self._exactly({b"K": 1, b"M": 2, b"J": 4}[code])
            return int.from_bytes(raw, "little", signed=code == b"J")
        if code in (b"X", b"\x8c", b"C"):
            length = _number(self._exactly(4 if code == b"X" else 1))
            if length > _MAX_WORD_BYTES:
                raise self._refusal("a long text stands where none is needed")
            raw = self._exactly(length)
            return raw if code == b"C" else raw.decode("utf-8", "replace")
        raise self._refusal(f"the step {code!r} is none that builds an array of byte strings")

    def _name(self, code: bytes, stack: list[Any]) -> tuple[str, str]:
        if code == b"\x93":
            module, name = self._top(stack, 2)
            del stack[-2:]
        else:
            module, name = (
                self._stream.readline(_MAX_WORD_BYTES).rstrip(b"\n").decode("utf-8", "replace")
                for _ in range(2)
            )
        if (module, name) not in _NAMES:
            raise self._refusal(f"it asks for {module}.{name}")
        return (module, name)

    def _top(self, stack: list[Any], number: int) -> list[Any]:
        if len(stack) < number:
            raise self._refusal("a step lacks its values")
        return stack[-number:]

    def _code(self) -> bytes:
        """The next step; frames, which only group bytes, are stepped over."""
        while (code := self._exactly(1)) == b"\x95":
            self._exactly(8)
        return code

    def _expect(self, wanted: bytes) -> None:
        code = self._code()
        if code != wanted:
            raise self._refusal(f"the step {code!r} stands where {wanted!r} has to")

    def _exactly(self, length: int) -> bytes:
        found = self._stream.read(length)
        if len(found) != length:
            raise SourceError(f"{self._path} is cut short: download it again")
        return found

    def _refusal(self, reason: str) -> SourceError:
        return SourceError(
            f"{self._path} is no plain array of byte strings and is not loaded ({reason}): "
            "take the file from a source that you trust"
        )


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
