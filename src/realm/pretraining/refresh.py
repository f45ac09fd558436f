"""How does the index follow the model while training goes on (REALM, section 3.3)?

Two ordinary functions and a directory. `refresh_once` turns the newest checkpoint into a
snapshot; `LiveIndex.before_step` adopts the newest snapshot between steps and reports its age.
Neither knows the other: they may run in one process, in two, or on two machines. Run as a module,
this file is the second process: `python -m realm.pretraining.refresh TASK TRAINER`, a
`RefreshTask` as JSON and the number of the process that it serves.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from realm.artifact import is_finished, read_manifest
from realm.children import end, leave_when_ended, start_module
from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, RealmError, ResourceError
from realm.index.snapshot import IndexSettings, Snapshot, write_snapshot
from realm.index.trunk_vectors import TrunkVectors
from realm.models.checkpoint import Model, load_model
from realm.models.precision import ComputeSettings, kept_for_embedding
from realm.progress import Advance, Progress, no_progress
from realm.training.distributed import join_group
from realm.training.state import Journal, checkpoint_path, due_steps, prune, steps_in

_POLL_SECONDS = 0.2
_ADOPTION = "adopt"


class RefreshSettings(Settings):
    """When the index is rebuilt, where, and how old it may become."""

    every: int = Field(default=500, ge=1)
    """Steps between the checkpoints that are turned into snapshots (section 3.3)."""
    mode: Literal["inline", "process", "elsewhere"] = "inline"
    """`process` keeps training while a second process embeds the corpus; `elsewhere` leaves that
    to `realm refresh --watch`, on any machine that sees the run's directory."""
    max_staleness: int | None = Field(default=None, ge=0)
    """Steps after which the trainer waits for a newer snapshot; `None` never waits."""
    adoption_lag: int | None = Field(default=None, ge=0)
    """Adopt each snapshot exactly this many steps after its checkpoint; makes the asynchronous
    refresh repeatable, for tests. `None` adopts as soon as a snapshot is there."""
    num_threads: int = Field(default=1, ge=1)
    """Threads of the refresh process; the trainer does without so many, unless its own are set."""


def snapshot_path(folder: Path, step: int) -> Path:
    """Where a training keeps the snapshot of a step."""
    return folder / "snapshots" / f"step-{step:09d}"


def refresh_once(
    folder: Path,
    store: PassageStore,
    *,
    every: int,
    num_steps: int | None = None,
    vectors: TrunkVectors | None = None,
    index: IndexSettings | None = None,
    progress: Progress = no_progress,
) -> Snapshot | None:
    """Embed the corpus with the newest due checkpoint of a training, if that was not done yet.

    Nothing is made for a training that has come to its last step, `num_steps`: nobody would
    adopt it. `vectors` are projected instead of running the trunk, where the training leaves the
    trunk at rest that made them.
    """
    if num_steps is not None and is_finished(checkpoint_path(folder, num_steps)):
        return None
    # Step 0 is the model that the training was given, and so is the snapshot it starts with.
    due = due_steps(folder / "checkpoints", every)
    if not due or is_finished(snapshot_path(folder, due[-1])):
        return None
    opened = _open_checkpoint(checkpoint_path(folder, due[-1]))
    if opened is None:
        return None
    model, fingerprint = opened
    entry = Journal(folder / "journal.jsonl").find("precision", 0)
    model.compute_with(
        model.choose_compute(ComputeSettings(num_threads=torch.get_num_threads()), "forward")
        if entry is None
        else kept_for_embedding(entry)
    )
    with progress(f"refresh of step {due[-1]}", len(store)) as advance:
        return write_snapshot(
            snapshot_path(folder, due[-1]), model, store, checkpoint=fingerprint, step=due[-1],
            vectors=vectors, index=index, on_progress=lambda done: advance(done, ""),
        )  # fmt: skip


def _open_checkpoint(path: Path) -> tuple[Model, str] | None:
    """The model and its fingerprint; None where the trainer removed it for a newer one."""
    try:
        return load_model(path), read_manifest(path).fingerprint
    except (ArtifactError, OSError):
        if is_finished(path):
            raise
        return None


class LiveIndex:
    """The snapshot that a trainer searches, replaced between steps.

    Every adoption is journalled with its step before it takes effect; a resumed training
    repeats the adoptions of the killed one and only then looks for newer snapshots.
    """

    def __init__(
        self,
        folder: Path,
        store: PassageStore,
        first: Snapshot,
        settings: RefreshSettings,
        index_settings: IndexSettings,
    ) -> None:
        self._folder, self._store, self._settings = folder, store, settings
        self._index_settings = index_settings
        self._first = first
        self._journal = Journal(folder / "journal.jsonl")
        self._group = join_group()
        self._is_open = False
        self._adopted_step = 0
        self.process: subprocess.Popen[bytes] | None = None
        """The refresh process of this trainer, where there is one."""
        self.snapshot = first
        self.index = first.index(index_settings)

    def before_step(self, step: int) -> dict[str, float]:
        """Adopt a newer snapshot if it is time; return the age of the one in use, in steps.

        Raises:
            ResourceError: the refresh process died, or nothing makes the snapshot waited for.
        """
        begin = time.perf_counter()
        self._check_process()
        if not self._is_open:
            self._return_to(step)
        # Of the processes that train together one decides: each would see another directory.
        is_first = self._group.is_first
        wanted = self._group.agree(self._wanted(step) if is_first else 0)
        if wanted != self._adopted_step:
            if is_first and step > self._journal.last_step(_ADOPTION):
                self._journal.write(_ADOPTION, step, snapshot=wanted)
            self._adopt(wanted)
        waited = time.perf_counter() - begin
        return {"staleness": float(step - self._adopted_step), "refresh_wait_seconds": waited}

    def prune(self) -> None:
        """Remove snapshots that neither this training nor its resumption can need."""
        # A resumption begins at one of the latest two; an older one may be kept as the best.
        oldest_resume = min(steps_in(self._folder / "checkpoints")[-2:], default=0)
        in_force = self._journal.latest(_ADOPTION, oldest_resume)
        oldest = in_force["snapshot"] if in_force else 0
        newer = [step for step in steps_in(self._folder / "snapshots") if step >= oldest]
        prune(self._folder / "snapshots", keep=max(2, len(newer)))

    def _return_to(self, step: int) -> None:
        """On resume: the snapshot that was in force at this step the first time."""
        self._is_open = True
        entry = self._journal.latest(_ADOPTION, step)
        if entry is not None:
            self._adopt(entry["snapshot"])

    def _wanted(self, step: int) -> int:
        """Which snapshot is to be in use at this step, by the step that it is of."""
        repeated = self._journal.find(_ADOPTION, step)
        if repeated is not None:
            return int(repeated["snapshot"])
        if step <= self._journal.last_step(_ADOPTION):
            return self._adopted_step
        if self._settings.adoption_lag is not None:
            due = (step - self._settings.adoption_lag) // self._settings.every
            wanted = max(0, due * self._settings.every)
            if wanted > 0:
                self._wait_until(lambda: wanted in self._finished(), f"snapshot {wanted}")
            return wanted
        bound = self._settings.max_staleness
        if bound is not None:
            self._wait_until(lambda: step - self._newest(step) <= bound, "a newer snapshot")
        return self._newest(step)

    def _newest(self, step: int) -> int:
        """The newest snapshot of the past: a resume may begin before one that was made already."""
        return max((s for s in self._finished() if s <= step), default=self._adopted_step)

    def _finished(self) -> list[int]:
        return steps_in(self._folder / "snapshots")

    def _adopt(self, step: int) -> None:
        is_first = step == 0
        path = self._first.path if is_first else snapshot_path(self._folder, step)
        self.snapshot = self._first if is_first else Snapshot.open(path, self._store)
        self.index = self.snapshot.index(self._index_settings)
        self._adopted_step = step

    def _wait_until(self, is_there: Callable[[], bool], what: str) -> None:
        while not is_there():
            self._check_process()
            if self._settings.mode != "elsewhere" and self.process is None:
                raise ResourceError(
                    f"the training waits for {what}, but nothing makes it: set "
                    "pretrain.refresh.every to a multiple of pretrain.loop.save_every within the "
                    "bound, or use pretrain.refresh.mode=process"
                )
            time.sleep(_POLL_SECONDS)

    def _check_process(self) -> None:
        code = None if self.process is None else self.process.poll()
        if code is not None:
            raise ResourceError(
                f"the refresh process ended with exit code {code}, its own message stands above: "
                "mend the cause and start again, the training goes on from its last checkpoint"
            )


class RefreshTask(Settings):
    """What a refresh process is to follow, and how."""

    folder: Path
    corpus: Path
    vectors: Path | None
    every: int
    num_steps: int
    num_threads: int = 1
    index: IndexSettings = IndexSettings()
    """How the trainer searches what is made."""


@contextmanager
def refresh_process(task: RefreshTask) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a second process refreshing while the block runs; it ends with the block or trainer."""
    process = start_module(__name__, task.model_dump_json(), str(os.getpid()))
    try:
        yield process
    finally:
        end([process])


def follow(task: RefreshTask, trainer: int) -> None:
    """Refresh again and again, as long as the process lives that started this one."""

    def stop_if_alone() -> None:
        """End this process, with a line that says why, once the trainer is gone."""
        if os.getppid() != trainer:
            sys.exit("refresh: the trainer is gone, nobody needs a snapshot")

    @contextmanager
    def progress(title: str, total: int | None) -> Iterator[Advance]:
        """Shows nothing; looks after each block whether anybody waits for it."""
        yield lambda done, note: stop_if_alone()

    torch.set_num_threads(task.num_threads)
    store = PassageStore.open(task.corpus)
    vectors = None if task.vectors is None else TrunkVectors.open(task.vectors, store)
    while True:
        stop_if_alone()
        made = refresh_once(
            task.folder, store, every=task.every, num_steps=task.num_steps,
            vectors=vectors, index=task.index, progress=progress,
        )  # fmt: skip
        if made is None:
            time.sleep(_POLL_SECONDS)


def _main() -> None:
    leave_when_ended()  # half a snapshot goes
    try:
        follow(RefreshTask.model_validate_json(sys.argv[1]), int(sys.argv[2]))
    except RealmError as error:
        sys.exit(f"refresh: {error}")


if __name__ == "__main__":
    _main()
