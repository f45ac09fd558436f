"""How does work that comes now and then leave the thread that answers its speed?

A thread that computes with torch keeps workers of OpenMP for the next time. As long as all threads
together have no more of them than there are processors, workers wait awake for their next share,
of which a question has hundreds; from there on they sleep in between, and every question takes a
tenth longer. So one thread keeps its workers, and others end when their work is done.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def in_passing(work: Callable[[], Result]) -> Result:
    """Do some work in a thread that ends with it, and give what it gave or raise what it raised.

    A process that is told to end does not wait for the thread.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  (whoever asked gets it)
            done.set_exception(error)

    thread = Thread(target=run, name="realm-in-passing", daemon=True)
    thread.start()
    thread.join()
    return done.result()
