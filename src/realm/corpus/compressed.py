"""How is a compressed file read, so that one that was cut short is not taken for whole?"""

import bz2
import gzip
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

import zstandard

COMPRESSIONS = ("", ".gz", ".bz2", ".zst")
_COMPRESSED_BYTES = 1 << 16  # what they stand for is kept at once


def open_compressed(path: Path, compression: str) -> BufferedIOBase:
    """A stream of what a file holds; one that was cut short ends in an error, not early."""
    match compression:
        case ".gz":
            return gzip.open(path)
        case ".bz2":
            return bz2.open(path)
        case ".zst":
            return BufferedReader(_WholeFrames(path))
    return path.open("rb")


class _WholeFrames(RawIOBase):
    """A zstandard file that has to be whole: the library's own reader says nothing of a cut."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._has_begun, self._compressed, self._text = False, b"", memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            EOFError: the last frame is not complete.
        """
        while not self._text:
            if self._frame.eof:  # another frame may follow
                self._compressed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._has_begun = False
            self._compressed = self._compressed or self._file.read(_COMPRESSED_BYTES)
            if not self._compressed:
                if self._has_begun:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            self._text = memoryview(self._frame.decompress(self._compressed))
            self._has_begun, self._compressed = True, b""
        number = min(len(buffer), len(self._text))
        buffer[:number], self._text = self._text[:number], self._text[number:]
        return number

    def close(self) -> None:
        """Close the file as well."""
        self._file.close()
        super().close()
