"""Writes TFRecord files of tf.train.Example as TensorFlow does, from the description of both."""

import struct
from collections.abc import Mapping, Sequence

from realm.corpus.checksums import crc32c


def varint(number: int) -> bytes:
    number %= 1 << 64
    parts = []
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(values: Sequence[int | float | str | bytes]) -> bytes:
    if all(isinstance(value, int) for value in values):
        return field(3, field(1, b"".join(varint(int(value)) for value in values)))
    if all(isinstance(value, float) for value in values):
        return field(2, field(1, b"".join(struct.pack("<f", value) for value in values)))
    texts = [value.encode() if isinstance(value, str) else value for value in values]
    return field(1, b"".join(field(1, text) for text in texts if isinstance(text, bytes)))


def example(features: Mapping[str, Sequence[int | float | str | bytes]]) -> bytes:
    entries = [field(1, name.encode()) + field(2, feature(v)) for name, v in features.items()]
    return field(1, b"".join(field(1, entry) for entry in entries))


def masked(content: bytes) -> bytes:
    checksum = crc32c(content)
    turned = (checksum >> 15) | (checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (turned + 0xA282EAD8) & 0xFFFFFFFF)


def record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)
