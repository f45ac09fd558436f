"""Freed memory goes back to the system."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from realm.training.memory import return_freed_memory


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_gaps_between_what_is_used_are_given_back() -> None:
    # Blocks under the threshold of 128 KiB come from the heap, and the kept ones hold it open.
    blocks = [bytearray(100_000) for _ in range(2_000)]
    kept = blocks[::100]
    full = resident_megabytes()
    del blocks
    return_freed_memory()
    assert len(kept) == 20
    assert full - resident_megabytes() > 150


_FAULTS = """
import resource, sys, torch
from realm.training.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(40_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_a_server_uses_its_pages_again() -> None:
    """160 MB of new pages are 39,063 faults, or some 80 where the system gives large ones."""
    faults = {}
    for how in ("kept", "given back"):
        command = [sys.executable, "-c", _FAULTS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["kept"] < 10 < faults["given back"]
