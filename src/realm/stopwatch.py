"""How long did a stage take, and how much memory at its peak?

One JSON line for each piece of work that a process did; a stage that was resumed has several.
"""

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def measured(log: Path, stage: str) -> Iterator[None]:
    """Append the wall time and peak memory of the block, also when it fails."""
    _reset_peak()
    begin = time.perf_counter()
    try:
        yield
    finally:
        row = {
            "stage": stage,
            "seconds": round(time.perf_counter() - begin, 2),
            "peak_megabytes": round(_peak_bytes() / 1e6),
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def total_by_stage(log: Path) -> dict[str, dict[str, Any]]:
    """Seconds summed, and memory at its greatest, over all lines of each stage."""
    totals: dict[str, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        row = json.loads(line)
        total = totals.setdefault(row["stage"], {"seconds": 0.0, "peak_megabytes": 0})
        total["seconds"] = round(total["seconds"] + row["seconds"], 2)
        total["peak_megabytes"] = max(total["peak_megabytes"], row["peak_megabytes"])
    return totals


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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
