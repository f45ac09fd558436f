"""Freed memory goes back to the system."""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from realm.memory import return_freed_memory, uncollected


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


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_the_c_library_takes_what_a_server_asks_of_it() -> None:
    """In a process of its own: it cannot be taken back."""
    ask = "from realm.memory import keep_freed_memory as k; print(k())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_tensors_take_the_pages_of_those_before_them() -> None:
    faults = """
import resource
from realm.memory import keep_freed_tensors

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        first, second = bytearray(b"1") * 12_000_000, bytearray(b"1") * 12_000_000
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_freed_tensors()
faults()
print(before > 5 * faults())
"""
    done = subprocess.run(
        [sys.executable, "-c", faults], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_the_collector_rests_and_goes_on() -> None:
    @uncollected()
    def fail() -> None:
        with uncollected():
            pass
        raise ValueError(f"collecting: {gc.isenabled()}")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="collecting: False"):
        fail()
    assert gc.isenabled()
