"""What becomes of memory that is done with: who looks for it, is it kept, or given back?

A training has tensors of other lengths at every step, and the C library keeps the gaps between
them for later: after 35 steps of fine-tuning 2.8 GB where 1.1 GB was in use. Giving the gaps back
costs the step after it a seventh of its time, so it is done now and then. A server's questions are
alike: it keeps what it had, instead of 110 MB of new pages for each of them.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

STEPS_BETWEEN = 5
# glibc keeps at the end of its heap twice the largest block that was freed, if that is one of 32 MB
# at most, its own head among them.
_LARGEST_COUNTED = (32 << 20) - (64 << 10)
# One place for all threads to take memory from, which takes large tensors as well and gives nothing
# back: M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's malloc.h, and their values.
_KEEPING = ((-8, 1), (-3, 1 << 30), (-1, 1 << 30))


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python's collector rest inside the block, which makes much that stays.

    It would look through all of it again and again: a fifth of the time of importing transformers.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def _c_library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None  # glibc alone has it


def return_freed_memory() -> None:
    """Give what is no longer used back to the system, where the C library can."""
    if (library := _c_library()) is not None:
        library.malloc_trim(0)


def keep_freed_memory() -> bool:
    """Keep what this process frees for its own next use; False where the C library cannot."""
    library = _c_library()
    return library is not None and all(library.mallopt(*setting) for setting in _KEEPING)


def keep_freed_tensors() -> None:
    """Let the C library keep so much as the tensors of a batch take, for the next batch.

    It would learn that by itself from the first tensor of that size, which may never come.
    """
    bytearray(_LARGEST_COUNTED)  # freed at once, and never touched
