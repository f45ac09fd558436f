"""CRC-32C against published values and against the definition."""

import numpy as np
import pytest

from realm.corpus.checksums import crc32c


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (
            bytes.fromhex(
                "01c00000000000000000000000000000"
                "14000000000004000000001400000018"
                "28000000000000000200000000000000"
            ),
            0xD9963A56,
        ),
        # The check value of the catalogues of checksums.
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_values(content: bytes, expected: int) -> None:
    assert crc32c(content) == expected


def bit_by_bit(content: bytes) -> int:
    """The definition: division of polynomials over two elements."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 * (register & 1))
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [1, 3, 15, 16, 17, 1023, 1024, 1025, 1028, 3072, 5000])
def test_every_length_agrees_with_the_definition(length: int) -> None:
    content = np.random.default_rng(length).integers(256, size=length, dtype=np.uint8).tobytes()
    assert crc32c(content) == bit_by_bit(content)
