"""How are rows of a table made at once, on a machine that one training leaves idle?

A small model keeps neither a GPU nor many cores busy. Each row is made by a process of its own,
and one that shares a training with a row in the making waits for that: nothing is made twice.
Run as a module, this file is such a process: `python -m realm.tables.side_by_side ROW`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from realm.children import end, leave_when_ended, start_module
from realm.errors import RealmError, ResourceError
from realm.stages import Run
from realm.tables.making import (
    Job,
    begin_row,
    drop_intermediate_checkpoints,
    finish_row,
    row_run,
)
from realm.tables.sharing import keys_in_the_making, keys_of_trainings

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class _Process:
    job: Job
    run: Run
    process: subprocess.Popen[bytes]


def make_rows_at_once(
    base: Run, jobs: Sequence[Job], number: int, on_change: Callable[[str, Job], None]
) -> None:
    """Make rows, at most `number` at a time; `on_change` hears what became of which.

    What each process says stands in RUN/rows/NAME-SEED.log. A row that fails holds no other up.

    Raises:
        SettingError: a row was begun with another recipe.
        ResourceError: rows failed; those that did not are finished.
    """
    _make_what_all_share(base)
    waiting, failed = list(jobs), list[Job]()
    running: list[_Process] = []
    try:
        while waiting or running:
            for done in [each for each in running if each.process.poll() is not None]:
                running.remove(done)
                if done.process.returncode:
                    failed.append(done.job)
                    on_change("failed", done.job)
                else:
                    drop_intermediate_checkpoints(done.run)
                    on_change("finished", done.job)
            while len(running) < number and (job := _next(base, waiting, running)):
                waiting.remove(job)
                running.append(_start(base, job, number))
                on_change("begun", job)
            time.sleep(_POLL_SECONDS)
    finally:
        end(each.process for each in running)
    if failed:
        names = ", ".join(job.name for job in failed)
        raise ResourceError(
            f"{names} failed: read {_log_of(row_run(base, failed[0]))}, mend the cause and start "
            "again; what is finished stays"
        )


def _make_what_all_share(base: Run) -> None:
    """Passages, spans and words, the trunk, and pairs to learn reading from."""
    base.trunk()
    if base.experiment.warm_start.reader.loop.num_steps:
        base.reading_pairs()


def _next(base: Run, waiting: Iterable[Job], running: Iterable[_Process]) -> Job | None:
    """The first row that shares no training with one that is making it just now."""
    busy = set[str]().union(*(keys_in_the_making(each.run) for each in running))
    for job in waiting:
        if busy.isdisjoint(keys_of_trainings(row_run(base, job).experiment)):
            return job
    return None


def _start(base: Run, job: Job, number: int) -> _Process:
    run = row_run(base, job)
    begin_row(base, run)
    threads = max(1, (os.cpu_count() or 1) // number)
    environment = {"OMP_NUM_THREADS": str(threads)}
    with _log_of(run).open("ab") as log:
        process = start_module(
            __name__, str(run.path), environment=environment, stdout=log, stderr=log
        )
    return _Process(job, run, process)


def _log_of(run: Run) -> Path:
    return run.path.with_name(f"{run.path.name}.log")


def _main() -> None:
    leave_when_ended()  # what it did so far has taken its time
    try:
        finish_row(Run.open(Path(sys.argv[1])))
    except RealmError as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    _main()
