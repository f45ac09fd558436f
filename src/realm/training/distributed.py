"""Who else trains on this step? One process is the group of one.

A launcher (`torchrun`) starts the processes and sets their environment; each takes its share
of every batch, and gradients are averaged over the group. What depends on the moment is decided
by the first process alone, and it alone writes.
"""

import atexit
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from realm.examples.stream import batch_at

# The others wait while the first one embeds the whole corpus; a launcher ends them if it dies.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def batch_at(self, num_examples: int, batch_size: int, *, step: int, seed: int) -> np.ndarray:
        """Indices of this process's share of the examples of a step."""
        rank, size = self.rank, self.size
        return batch_at(num_examples, batch_size, step=step, seed=seed, rank=rank, size=size)

    def average(self, gradients: Iterable[Tensor]) -> None:
        """Replace gradients by their mean over the group."""
        if self.size == 1:
            return
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
            gradient /= self.size

    def gather(self, rows: Float[Tensor, "own dim"]) -> Float[Tensor, "all dim"]:
        """The rows of all processes in the order of their ranks; each has equally many.

        Gradients go back to the process that the rows came from, summed over all.
        """
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self.rank, self.size)  # type: ignore[no-untyped-call]
        return gathered

    def agree(self, value: int) -> int:
        """What the first process says; the values of the others do not count."""
        if self.size == 1:
            return value
        said = torch.tensor(value, device=_device())
        torch.distributed.broadcast(said, src=0)
        return int(said)

    def total(self, counts: Mapping[str, int]) -> dict[str, int]:
        """What all processes counted together; each has the same names, in the same order."""
        if self.size == 1 or not counts:
            return dict(counts)
        sums = torch.tensor(list(counts.values()), device=_device())
        torch.distributed.all_reduce(sums)
        return dict(zip(counts, sums.tolist(), strict=True))

    def wait(self) -> None:
        """Let all processes arrive here."""
        if self.size > 1:
            torch.distributed.barrier()


def _device() -> str:
    """Where tensors have to be for this group to exchange them."""
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"


class _Gather(torch.autograd.Function):
    """The rows [rows, dim] of all processes, in the order of their ranks; each has as many."""

    @staticmethod
    def forward(context: Any, rows: Tensor, rank: int, size: int) -> Tensor:
        """From a process's own rows to those of all [size * rows, dim]."""
        context.own = slice(rank * len(rows), (rank + 1) * len(rows))
        parts = [torch.empty_like(rows) for _ in range(size)]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """What the losses of all processes say of the own rows, summed."""
        # A copy: what autograd hands out may be shared.
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total[context.own], None, None


def join_group() -> ProcessGroup:
    """Join the group that a launcher announced in the environment, or stay alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ProcessGroup()
    if not torch.distributed.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "nccl"
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
        # Threads of the group that still run when the interpreter ends would abort it.
        atexit.register(torch.distributed.destroy_process_group)
    return ProcessGroup(torch.distributed.get_rank(), size)
