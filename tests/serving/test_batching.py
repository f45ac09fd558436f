"""Do concurrent requests share batches, and do those nobody waits for free their places?"""

import asyncio
import threading
import time
from collections.abc import Hashable
from typing import Any

import pytest

from realm.serving.batching import Batcher, DeadlineError, QueueFullError


class Worker:
    """Work that waits until it is let, and writes down what it was given."""

    def __init__(self) -> None:
        self.batches: list[tuple[Hashable, list[Any]]] = []
        self.may_work = threading.Event()
        self.has_begun = threading.Event()

    def __call__(self, group: Hashable, items: list[Any]) -> list[Any]:
        self.batches.append((group, items))
        self.has_begun.set()
        assert self.may_work.wait(timeout=10)
        if "mistake" in items:
            raise ValueError("mistake")
        return [f"{group}{item}" for item in items]


def make(worker: Worker, **values: Any) -> Batcher:
    settings: dict[str, Any] = {"batch_size": lambda group: 3, "queue_size": 8, "deadline": 10.0}
    return Batcher(worker, **(settings | values))


async def begun(worker: Worker) -> None:
    assert await asyncio.to_thread(worker.has_begun.wait, 10)


def test_what_waits_together_is_done_together() -> None:
    worker, sizes = Worker(), list[int]()
    batcher = make(worker, on_batch=sizes.append)

    async def ask() -> list[Any]:
        first = asyncio.ensure_future(batcher.submit("a", [0]))
        await begun(worker)  # while it works these come in:
        others = [
            asyncio.ensure_future(batcher.submit(group, items))
            for group, items in (("a", [1]), ("b", [2]), ("a", [3, 4, 5]), ("b", [6]))
        ]
        await asyncio.sleep(0.01)
        assert len(batcher) == 6
        worker.may_work.set()
        return [await first, *[await other for other in others]]

    results = asyncio.run(ask())
    assert results == [["a0"], ["a1"], ["b2"], ["a3", "a4", "a5"], ["b6"]]
    # Batches of one group, the longest waiting first, no longer than three.
    expected = [("a", [0]), ("a", [1, 3, 4]), ("b", [2, 6]), ("a", [5])]
    assert worker.batches == expected
    assert sizes == [1, 3, 2, 1]
    assert batcher.close(timeout=10)


def test_much_of_one_kind_lets_others_have_their_turn() -> None:
    """As few of them at once as their kind allows, and in between what else waits."""
    worker = Worker()
    batcher = make(worker, batch_size=lambda group: 1 if group == "slow" else 3)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit("slow", [0]))
        await begun(worker)
        slow = asyncio.ensure_future(batcher.submit("slow", [1, 2, 3]))
        await asyncio.sleep(0)
        quick = asyncio.ensure_future(batcher.submit("quick", [4, 5]))
        await asyncio.sleep(0)
        worker.may_work.set()
        await first
        assert await slow == ["slow1", "slow2", "slow3"]
        assert await quick == ["quick4", "quick5"]

    asyncio.run(ask())
    expected = [("slow", [0]), ("slow", [1]), ("quick", [4, 5]), ("slow", [2]), ("slow", [3])]
    assert worker.batches == expected


def test_nobody_alone_waits_for_company() -> None:
    worker = Worker()
    worker.may_work.set()
    batcher = make(worker, batch_size=lambda group: 16)

    async def ask_in_turn() -> float:
        await batcher.submit("a", [0])
        began = time.perf_counter()
        for number in range(50):
            await batcher.submit("a", [number])
        return (time.perf_counter() - began) / 50

    assert asyncio.run(ask_in_turn()) < 0.005, "seconds for each; measured 0.0002"


def test_a_full_queue_takes_nothing_more() -> None:
    worker = Worker()
    batcher = make(worker, queue_size=2)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit("a", [0]))
        await begun(worker)  # what is worked on waits no more
        waiting = asyncio.ensure_future(batcher.submit("a", [1]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await batcher.submit("a", [2, 3])
        assert len(batcher) == 1, "of two that do not fit none is taken"
        worker.may_work.set()
        assert [await first, await waiting] == [["a0"], ["a1"]]
        many = await batcher.submit("a", [2, 3, 4])
        assert many == ["a2", "a3", "a4"], "to try again helps: an empty queue takes them"

    asyncio.run(ask())


def test_who_goes_away_frees_the_place() -> None:
    worker = Worker()
    batcher = make(worker)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit("a", [0]))
        await begun(worker)
        waiting = asyncio.ensure_future(batcher.submit("a", [1, 2]))
        await asyncio.sleep(0)
        assert len(batcher) == 2
        waiting.cancel()
        await asyncio.wait([waiting])
        assert len(batcher) == 0
        first.cancel()  # too late to leave the work out, early enough not to wait
        await asyncio.wait([first])
        worker.may_work.set()
        assert await batcher.submit("a", [3]) == ["a3"]

    asyncio.run(ask())
    assert worker.batches == [("a", [0]), ("a", [3])]


def test_a_deadline_ends_the_wait() -> None:
    worker = Worker()
    batcher = make(worker, deadline=0.05)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit("a", [0]))
        await begun(worker)
        with pytest.raises(DeadlineError):
            await batcher.submit("a", [1])
        assert len(batcher) == 0
        with pytest.raises(DeadlineError):
            await first
        worker.may_work.set()
        assert await batcher.submit("a", [2]) == ["a2"], "the thread lives on"

    asyncio.run(ask())
    assert worker.batches == [("a", [0]), ("a", [2])]


def test_what_cannot_be_taken_back_is_waited_for_once_it_has_begun() -> None:
    worker = Worker()
    batcher = make(worker, deadline=0.05, sees_through=True)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit("a", [0]))
        await begun(worker)
        with pytest.raises(DeadlineError):
            await batcher.submit("a", [1])
        await asyncio.sleep(0.05)
        assert not first.done(), "its deadline is over, it is not"
        worker.may_work.set()
        assert await first == ["a0"]

    asyncio.run(ask())
    assert worker.batches == [("a", [0])], "what was given up is not done"


def test_an_error_reaches_all_who_shared_it_and_nobody_else() -> None:
    worker = Worker()
    worker.may_work.set()
    batcher = make(worker)

    async def ask() -> list[Any]:
        waiting = batcher.submit("a", ["mistake"]), batcher.submit("b", [1])
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    failed, done = asyncio.run(ask())
    assert isinstance(failed, ValueError)
    assert done == ["b1"]


def test_a_closed_one_finishes_what_waits_and_takes_nothing() -> None:
    worker = Worker()
    batcher = make(worker)

    async def ask() -> None:
        first = asyncio.ensure_future(batcher.submit("a", [0]))
        await begun(worker)
        waiting = asyncio.ensure_future(batcher.submit("a", [1]))
        await asyncio.sleep(0)
        assert not batcher.close(), "the thread still works"
        with pytest.raises(QueueFullError):
            await batcher.submit("a", [2])
        worker.may_work.set()
        assert [await first, await waiting] == [["a0"], ["a1"]]

    asyncio.run(ask())
    assert batcher.close(timeout=10)
