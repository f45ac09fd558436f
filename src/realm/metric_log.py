"""Where do the scalars of a run go, and how are they read again?

`metrics.jsonl` holds one JSON object a line, each with its step. A resumed run first cuts the
lines that a killed run wrote after its last checkpoint, so that every step stands there once.
TensorBoard gets the same scalars where it is installed.
"""

import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from realm.artifact import write_atomically
from realm.json_lines import read_json_lines

SKIPPED = "skipped_"  # begins the names of what counts skipped examples, by reason


class MetricLog:
    """Appends scalars by step to a JSON-lines file, and to TensorBoard where it is installed."""

    def __init__(self, path: Path, *, keep_until_step: int) -> None:
        """Open the log; lines after `keep_until_step` are dropped, they will be written again."""
        kept = [row for row in read_json_lines(path) if row["step"] <= keep_until_step]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._stream = path.open("a", encoding="utf-8")
        self._board = _open_tensorboard(path.parent / "tensorboard", purge_step=keep_until_step + 1)

    def write(self, step: int, scalars: Mapping[str, float | int | str]) -> None:
        """Add one line; numbers that are not finite are stored as null."""
        row = {name: _storable(value) for name, value in scalars.items()}
        self._stream.write(json.dumps({"step": step, **row}) + "\n")
        self._stream.flush()
        if self._board is not None:
            for name, value in scalars.items():
                if not isinstance(value, str):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        self._stream.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def skipped_examples(folder: Path, *, until_step: int | None = None) -> dict[str, int]:
    """How many examples a training had skipped at its last checkpoint up to a step, by reason."""
    rows = read_json_lines(folder / "metrics.jsonl")
    rows = [row for row in rows if until_step is None or row["step"] <= until_step]
    counts: dict[str, int] = {}
    for row in rows:
        found = {name: value for name, value in row.items() if name.startswith(SKIPPED)}
        counts = {name.removeprefix(SKIPPED): int(n) for name, n in found.items()} or counts
    return counts


def _storable(value: float | int | str) -> float | int | str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Seven digits are all that single precision has; small numbers keep theirs.
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _open_tensorboard(directory: Path, *, purge_step: int) -> Any:
    try:
        module = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return module.SummaryWriter(str(directory), purge_step=purge_step)
