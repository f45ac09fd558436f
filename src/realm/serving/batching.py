"""How do concurrent requests share batches, and what happens when there are too many?

One thread does the work and owns the model; the event loop only waits. A batch is what has come
in when the thread is free, up to a size: nobody who is alone waits for company. What waits too
long, or finds too many before it, is told so; what nobody waits for any more is not begun.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Work = Callable[[Hashable, list[Any]], Sequence[Any]]
"""Does items that belong to one group; as many results as items."""


class QueueFullError(Exception):
    """More is waiting than is allowed."""


class DeadlineError(Exception):
    """The work was not done in time."""


@dataclass(eq=False)
class _Job:
    group: Hashable
    item: Any
    future: "asyncio.Future[Any]"


class Batcher:
    """A queue and the one thread that works on it, a batch of one group at a time, in turn."""

    def __init__(
        self,
        work: Work,
        *,
        batch_size: Callable[[Hashable], int],
        queue_size: int,
        deadline: float,
        sees_through: bool = False,
        on_batch: Callable[[int], None] = lambda size: None,
        name: str = "worker",
    ) -> None:
        """`batch_size` says how many of a group are done together, `on_batch` gets how many were.

        `deadline` is in seconds. With `sees_through` it is for waiting alone: what has begun cannot
        be taken back, and is waited for to its end.
        """
        self._work, self._on_batch, self._sees_through = work, on_batch, sees_through
        self._batch_size, self._queue_size, self.deadline = batch_size, queue_size, deadline
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        # A daemon: work that nobody waits for any more must not keep the process.
        self._thread = threading.Thread(target=self._run, name=f"realm-{name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, group: Hashable, items: Sequence[Any]) -> list[Any]:
        """The results of these items, in their order.

        Raises:
            QueueFullError: others wait, and there is no room for all of these; none was taken.
            DeadlineError: time is up; those that were not begun will not be.
        """
        loop = asyncio.get_running_loop()
        jobs = [_Job(group, item, loop.create_future()) for item in items]
        with self._changed:
            num_waiting = len(self._waiting)
            if self._is_closed or (num_waiting and num_waiting + len(jobs) > self._queue_size):
                raise QueueFullError
            self._waiting.extend(jobs)
            self._changed.notify()
        futures = [job.future for job in jobs]
        try:
            _, late = await asyncio.wait(futures, timeout=self.deadline)
            if late and (self._forget(jobs) or not self._sees_through):
                raise DeadlineError
            return await asyncio.gather(*futures)
        finally:
            self._forget(jobs)
            for future in futures:
                future.cancel()

    def close(self, timeout: float = 0.0) -> bool:
        """Take nothing more; wait so many seconds for the thread to end, and say whether it did."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _forget(self, jobs: Sequence[_Job]) -> int:
        """Free the places of jobs that nobody waits for, and say how many had not begun."""
        with self._changed:
            forgotten = [job for job in jobs if job in self._waiting]
            for job in forgotten:
                self._waiting.remove(job)
        return len(forgotten)

    def _run(self) -> None:
        while batch := self._next_batch():
            self._on_batch(len(batch))
            outcomes: Sequence[Any]
            try:
                outcomes = self._work(batch[0].group, [job.item for job in batch])
            except Exception as error:  # noqa: BLE001  (whoever asked gets it)
                outcomes = [error] * len(batch)
            _deliver(batch, outcomes)

    def _next_batch(self) -> list[_Job]:
        """The first jobs that wait and belong together; empty when closed.

        Those for which there is no room go behind the other groups: much of one kind does not keep
        the little of another waiting.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return []
            group = self._waiting[0].group
            same = [job for job in self._waiting if job.group == group]
            others = [job for job in self._waiting if job.group != group]
            size = self._batch_size(group)
            self._waiting = deque(others + same[size:])
            return same[:size]


def _deliver(batch: Sequence[_Job], outcomes: Sequence[Any]) -> None:
    """Hand results to the loops that wait for them: one call into each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any]]] = {}
    for job, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(job.future.get_loop(), []).append((job, outcome))
    for loop, pairs in by_loop.items():
        with suppress(RuntimeError):  # a loop that was closed waits for nothing
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[_Job, Any]]) -> None:
    for job, outcome in pairs:
        if job.future.done():  # given up meanwhile
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
