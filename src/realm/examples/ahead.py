"""How is a batch made while an accelerator is at the one before?

On a CPU making a batch and computing share the cores, so it is made when it is asked for. Beside
an accelerator other processes make the batches of the next steps.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset, Sampler

from realm.machine import default_device

Batch = TypeVar("Batch")
_MOST_WORKERS = 4


def workers_beside_the_device() -> int:
    """How many processes make batches on this machine: none where the CPU itself computes."""
    if default_device().type == "cpu":
        return 0
    return min(_MOST_WORKERS, max(0, (os.cpu_count() or 1) - 1))


class Ahead(Generic[Batch]):
    """What a function makes of the number of a step, begun before it is asked for."""

    def __init__(self, make: Callable[[int], Batch], num_workers: int) -> None:
        """`make` depends on nothing that changes: the processes have it as it is now."""
        self._make, self._num_workers = make, num_workers
        self._step = -1
        self._batches: Iterator[Batch] = iter(())

    def at(self, step: int) -> Batch:
        """The batch of a step; of steps that follow one another it is there already."""
        if self._num_workers == 0:
            return self._make(step)
        if step != self._step:
            self._step, self._batches = step, self._from(step)
        self._step += 1
        return next(self._batches)

    def _from(self, step: int) -> Iterator[Batch]:
        loader: DataLoader[Batch] = DataLoader(
            _Steps(self._make), batch_size=None, sampler=_From(step), collate_fn=_as_it_is,
            num_workers=self._num_workers, multiprocessing_context="fork",
        )  # fmt: skip
        return iter(loader)


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    make: Callable[[int], Batch]

    def __getitem__(self, step: int) -> Batch:
        return self.make(step)


@dataclass(frozen=True)
class _From(Sampler[int]):
    step: int

    def __iter__(self) -> Iterator[int]:
        return count(self.step)


def _as_it_is(batch: Batch) -> Batch:
    return batch
