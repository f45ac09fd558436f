"""Which records does a TFRecord file hold, and which features does a tf.train.Example have?

Without TensorFlow and without protobuf. A record is framed by its length and two checksums,

    length (8 bytes)  checksum of the length (4)  content  checksum of the content (4)

and a tf.train.Example is a map from names to lists of bytes, floats or whole numbers, in the
wire format of protocol buffers.
"""

import struct
from collections.abc import Iterator
from io import BufferedIOBase

from realm.corpus.checksums import crc32c
from realm.errors import SourceError

Feature = list[bytes] | list[int]

_LONGEST_RECORD = 1 << 30  # a longer one is a damaged length that happens to have its checksum
_VARINT, _LENGTH_DELIMITED = 0, 2  # wire types
_SIZES = {1: 8, 5: 4}  # bytes of the other wire types
_BYTES_LIST, _INT64_LIST = 1, 3  # fields of a Feature; its floats are of no use here


def read_records(stream: BufferedIOBase, name: str) -> Iterator[tuple[bytes, str]]:
    """Stream the contents of a TFRecord file, each with its place, after comparing checksums.

    Raises:
        SourceError: the file is cut short or damaged; the message names the record.
    """
    number = 1
    while head := stream.read(12):
        place = f"{name}, record {number}"
        length = struct.unpack("<Q", _checked(head[:8], head[8:], 8, place))[0]
        if length > _LONGEST_RECORD:
            raise SourceError(f"{place}: a length of {length:,} bytes cannot be: replace the file")
        content, checksum = stream.read(length), stream.read(4)
        yield _checked(content, checksum, length, place), place
        number += 1


def record_ends(beginning: bytes) -> list[int]:
    """Where, in the first bytes of a file, the records end that are whole."""
    ends, end = [], 0
    while len(beginning) >= end + 12:
        (length,) = struct.unpack_from("<Q", beginning, end)
        end += 12 + length + 4
        if end > len(beginning):
            break
        ends.append(end)
    return ends


def parse_example(content: bytes, place: str) -> dict[str, Feature]:
    """The features of a tf.train.Example by name; those that hold floats are empty here.

    Raises:
        SourceError: it is no tf.train.Example.
    """
    try:
        return {
            name.decode(): _feature(feature)
            for features in _parts(content, 1)
            for entry in _parts(features, 1)
            for name, feature in zip(_parts(entry, 1), _parts(entry, 2), strict=True)
        }
    except (ValueError, IndexError) as error:
        raise SourceError(
            f"{place}: not a tf.train.Example ({error}): give a file of salient_span_wikipedia"
        ) from error


def _checked(content: bytes, checksum: bytes, length: int, place: str) -> bytes:
    if len(content) < length or len(checksum) < 4:
        raise SourceError(f"{place}: the file is cut short: fetch it again")
    # Stored turned by 15 bits and shifted, so that a record may itself hold checksums.
    value = crc32c(content)
    masked = (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    if masked != int.from_bytes(checksum, "little"):
        raise SourceError(f"{place}: damaged, its checksum differs: fetch the file again")
    return content


def _feature(content: bytes) -> Feature:
    for field, value in _fields(content):
        if field == _BYTES_LIST and isinstance(value, bytes):
            return [*_parts(value, 1)]
        if field == _INT64_LIST and isinstance(value, bytes):
            return [number for _, packed in _fields(value) for number in _numbers(packed)]
    return []


def _parts(content: bytes, wanted: int) -> Iterator[bytes]:
    """The strings or messages in one field."""
    for field, value in _fields(content):
        if field == wanted:
            if isinstance(value, int):
                raise ValueError(f"field {field} holds a number")
            yield value


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers of the fields of a message with their values, in the order of the wire."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(content, position)
            yield key >> 3, value
            continue
        if kind == _LENGTH_DELIMITED:
            size, position = _varint(content, position)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if position + size > len(content):
            raise ValueError("a field is longer than its message")
        yield key >> 3, content[position : position + size]
        position += size


def _numbers(packed: int | bytes) -> Iterator[int]:
    """Whole numbers, of which a list may be packed into one string."""
    if isinstance(packed, int):
        yield _signed(packed)
        return
    position = 0
    while position < len(packed):
        number, position = _varint(packed, position)
        yield _signed(number)


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = content[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
        if shift >= 70:
            raise ValueError("a number of more than ten bytes")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
