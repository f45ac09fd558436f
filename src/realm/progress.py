"""How does long work show that it is getting on, whoever looks at it?"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, str], None]
"""Gets how much of the work is done, and a short note to show beside it."""


class Progress(Protocol):
    """Shows pieces of work, one after the other or one within another."""

    def __call__(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        """Show one piece of work while the block runs; `total` is None where nobody knows it."""


@contextmanager
def no_progress(title: str, total: int | None) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda done, note: None
