"""What must survive a kill, so that a resumed training equals an uninterrupted one?

All sampling is a function of (seed, step): the data position and the random state are the step
number itself. What is left is the weights and moments (in checkpoints), and the choices that
depended on the moment they were made: they stand in a journal, and a resumed run repeats them.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from realm.artifact import is_finished, remove_artifact
from realm.json_lines import append_json_line, read_json_lines


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where a stage keeps the checkpoint of a step."""
    return folder / "checkpoints" / f"step-{step:09d}"


def steps_in(directory: Path) -> list[int]:
    """Steps of the finished artifacts in a directory of checkpoints or snapshots, ascending."""
    if not directory.is_dir():
        return []
    finished = (path for path in directory.glob("step-*") if is_finished(path))
    return sorted(int(path.name.removeprefix("step-")) for path in finished)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest finished checkpoint of a stage."""
    steps = steps_in(folder / "checkpoints")
    return checkpoint_path(folder, steps[-1]) if steps else None


def best_step(folder: Path, scalar: str) -> int | None:
    """The step at which a scalar that is measured beside checkpoints was greatest, the first such.

    The log is cut where a resumed training begins, so that it says the same of any past step.
    """
    rows = read_json_lines(folder / "metrics.jsonl")
    measured = [(row[scalar], -row["step"]) for row in rows if row.get(scalar) is not None]
    return -max(measured)[1] if measured else None


def best_checkpoint(folder: Path, scalar: str) -> Path | None:
    """The checkpoint at which a scalar was greatest, where a training kept it."""
    step = best_step(folder, scalar)
    path = None if step is None else checkpoint_path(folder, step)
    return path if path is not None and is_finished(path) else None


def due_steps(directory: Path, every: int) -> list[int]:
    """Those of the finished artifacts that stand at a multiple of `every` steps, ascending."""
    # Step 0 is what the training was given.
    return [step for step in steps_in(directory) if step > 0 and step % every == 0]


def prune(
    directory: Path, *, keep: int, every: int | None = None, protected: Collection[int] = ()
) -> None:
    """Remove all but the newest artifacts of a directory and the newest at a multiple of `every`.

    Steps that are `protected` stay as well. A checkpoint that another process is to make a snapshot
    from must outlast its successors.
    """
    steps = steps_in(directory)
    due = [] if every is None else due_steps(directory, every)[-1:]
    for step in sorted({*steps[:-keep]} - {*due, *protected}):
        remove_artifact(directory / f"step-{step:09d}")


class Journal:
    """Choices of a run by step, appended durably and read again on resume."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries = read_json_lines(path)

    def find(self, event: str, step: int) -> dict[str, Any] | None:
        """The entry of an event at a step, if it was made before."""
        for entry in self.entries:
            if entry["event"] == event and entry["step"] == step:
                return entry
        return None

    def latest(self, event: str, until_step: int) -> dict[str, Any] | None:
        """The last entry of an event up to a step."""
        found = [e for e in self.entries if e["event"] == event and e["step"] <= until_step]
        return found[-1] if found else None

    def last_step(self, event: str) -> int:
        """The greatest step at which an event was journalled; -1 where there is none."""
        return max((e["step"] for e in self.entries if e["event"] == event), default=-1)

    def write(self, event: str, step: int, **facts: Any) -> dict[str, Any]:
        """Append an entry and sync it to the disk before anything depends on it."""
        entry = {"event": event, "step": step, **facts}
        append_json_line(self._path, entry)
        self.entries.append(entry)
        return entry
