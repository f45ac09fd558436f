"""Which number format is quickest on this machine?

Measured, not assumed: machines with matrix units for bfloat16 gain four times from it, others
lose. A training writes the answer into its journal, so that a resumed run computes alike.
"""

import time
from typing import Literal

import torch

from realm.errors import SettingError

Precision = Literal["auto", "fp32", "bf16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_precision(setting: str) -> torch.dtype:
    """`fp32` or `bf16` as asked, or the quicker of the two for `auto`."""
    if setting == "auto":
        return torch.bfloat16 if _bfloat16_speedup() > 1.3 else torch.float32
    if setting not in _DTYPES:
        raise SettingError(f"precision {setting!r}: choose auto, fp32 or bf16")
    return _DTYPES[setting]


def precision_name(dtype: torch.dtype) -> str:
    """The setting that stands for a number format."""
    return next(name for name, value in _DTYPES.items() if value == dtype)


def default_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _bfloat16_speedup(size: int = 1024, repeats: int = 5) -> float:
    seconds = {}
    for name, dtype in _DTYPES.items():
        matrix = torch.ones(size, size, dtype=dtype, device=default_device())
        best = float("inf")
        for _ in range(repeats):
            begin = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            best = min(best, time.perf_counter() - begin)
        seconds[name] = best
    return seconds["fp32"] / seconds["bf16"]
