"""When are recent documents merged, and by whom? In time, by a thread that nobody waits for."""

import logging
from collections.abc import Callable
from threading import Thread

from realm.living.state import State

_LOG = logging.getLogger("realm.living")
_FEWEST = 1_000  # recent documents
_SHARE = 8  # so many times more are in the segment: merging stays a small part of editing


class BackgroundMerger:
    """Merges when there are many recent documents, one merge at a time."""

    def __init__(self, merge: Callable[[], None]) -> None:
        self._merge = merge
        self._thread: Thread | None = None

    def merge_in_time(self, state: State) -> None:
        """Begin to merge if the state has many recent documents."""
        num_merged = state.segment.num_documents if state.segment else 0
        is_time = len(state.recent) >= max(_FEWEST, num_merged // _SHARE)
        if is_time and (self._thread is None or not self._thread.is_alive()):
            self._thread = Thread(target=self._merge_if_possible, daemon=True)
            self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a merge that is under way, and say whether it came to an end."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _merge_if_possible(self) -> None:
        try:
            self._merge()
        except Exception:  # noqa: BLE001  (nobody else learns of it)
            _LOG.exception("a merge failed; all edits are safe, and the next one tries again")
