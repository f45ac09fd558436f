"""How long did a stage take, and how much memory at its peak?

One JSON line for each piece of work that a process did; a stage that was resumed has several.
The peak is that of the largest single process, this one or a child of it that ended. A sum
would mislead: to the system, a child begins with the peak of the process that started it.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from realm.json_lines import append_json_line, read_json_lines

# Peaks so far of the blocks that are being measured, the innermost last: the system keeps one
# peak for the process, and forgets it at the beginning of every block.
_peaks: list[int] = []


@contextmanager
def measured(log: Path, stage: str) -> Iterator[None]:
    """Append the wall time and peak memory of the block, also when it fails; blocks may nest."""
    _raise_last(_peak_bytes())
    _reset_peak()
    _peaks.append(0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    try:
        yield
    finally:
        _raise_last(max(_peak_bytes(), _largest_child_since(children)))
        peak = _peaks.pop()
        _raise_last(peak)
        row = {
            "stage": stage,
            "seconds": round(time.perf_counter() - begin, 2),
            "peak_megabytes": round(peak / 1e6),
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        append_json_line(log, row)


def total_by_stage(log: Path) -> dict[str, dict[str, Any]]:
    """Seconds summed, and memory at its greatest, over all lines of each stage."""
    totals: dict[str, dict[str, Any]] = {}
    for row in read_json_lines(log):
        total = totals.setdefault(row["stage"], {"seconds": 0.0, "peak_megabytes": 0})
        total["seconds"] = round(total["seconds"] + row["seconds"], 2)
        total["peak_megabytes"] = max(total["peak_megabytes"], row["peak_megabytes"])
    return totals


def _raise_last(peak: int) -> None:
    if _peaks:
        _peaks[-1] = max(_peaks[-1], peak)


def _reset_peak() -> None:
    """Let Linux forget earlier peaks; elsewhere the peak is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_bytes() -> int:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _maxrss_bytes(resource.getrusage(resource.RUSAGE_SELF))


def _largest_child_since(begin: resource.struct_rusage) -> int:
    """Peak of the largest child so far, if any ended since; the system knows no other."""
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 0 if now == begin else _maxrss_bytes(now)


def _maxrss_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
