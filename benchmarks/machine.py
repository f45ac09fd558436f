"""What machine is this, how quick are its matrix units, and how busy is it?"""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

_REPEATS = 5


@dataclass(frozen=True)
class Machine:
    """The machine, and how much of it a benchmark uses."""

    processor: str
    cores: int
    threads: int
    memory_gigabytes: int
    fp32_teraflops: float
    """Measured rate of a single-precision matrix product."""
    bf16_teraflops: float

    def __str__(self) -> str:
        """One line for tables and files."""
        return (
            f"{self.processor}, {self.cores} cores, {self.threads} threads used, "
            f"{self.memory_gigabytes} GB, torch {torch.__version__}, matrix product "
            f"{self.fp32_teraflops:.2f} (fp32) and {self.bf16_teraflops:.2f} (bf16) TFLOP/s"
        )

    @property
    def best_teraflops(self) -> float:
        """The ceiling: the rate of the quicker number format."""
        return max(self.fp32_teraflops, self.bf16_teraflops)


def describe_machine(threads: int, *, matrix_size: int) -> Machine:
    """Look at the machine and multiply a few matrices; takes seconds at size 4096."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        _processor(), len(available_cores()), threads, round(memory / 1e9),
        _matrix_teraflops(matrix_size, torch.float32),
        _matrix_teraflops(matrix_size, torch.bfloat16),
    )  # fmt: skip


def available_cores() -> set[int]:
    """The cores that this process may run on, which `taskset` may have made fewer."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def free_bytes() -> int:
    """Memory that processes could still be given; the rest of the memory where nobody says."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load() -> float:
    """Mean number of processes that ran or wanted to during the last minute."""
    return round(os.getloadavg()[0], 2)


def _matrix_teraflops(size: int, dtype: torch.dtype) -> float:
    matrix = torch.ones(size, size, dtype=dtype)
    best = float("inf")
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best / 1e12


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
