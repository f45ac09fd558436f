"""How does the index follow the model while training goes on (REALM, section 3.3)?

Two ordinary functions and a directory. `refresh_once` turns the newest checkpoint into a
snapshot; `LiveIndex.before_step` adopts the newest snapshot between steps and reports its age.
Neither knows the other: they may run in one process, in two, or on two machines.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from realm.artifact import read_manifest
from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, ResourceError
from realm.index.snapshot import IndexSettings, Snapshot, write_snapshot
from realm.index.trunk_vectors import TrunkVectors
from realm.models.checkpoint import load_model
from realm.models.precision import choose_precision, default_device
from realm.progress import Progress, no_progress
from realm.training.state import Journal, checkpoint_path, prune, steps_in

_POLL_SECONDS = 0.2
_ADOPTION = "adopt"


class RefreshSettings(Settings):
    """When the index is rebuilt, where, and how old it may become."""

    every: int = 500
    """Steps between the checkpoints that are turned into snapshots (section 4.1)."""
    mode: Literal["inline", "process", "elsewhere"] = "inline"
    """`process` keeps training while a second process embeds the corpus; `elsewhere` leaves that
    to `realm refresh --watch`, on any machine that sees the run's directory."""
    max_staleness: int | None = None
    """Steps after which the trainer waits for a newer snapshot; `None` never waits."""
    adoption_lag: int | None = None
    """Adopt each snapshot exactly this many steps after its checkpoint; makes the asynchronous
    refresh repeatable, for tests. `None` adopts as soon as a snapshot is there."""
    num_threads: int = 1
    """Threads of the refresh process."""


def snapshot_path(folder: Path, step: int) -> Path:
    """Where a training keeps the snapshot of a step."""
    return folder / "snapshots" / f"step-{step:09d}"


def refresh_once(
    folder: Path,
    store: PassageStore,
    *,
    every: int,
    vectors: TrunkVectors | None = None,
    progress: Progress = no_progress,
) -> Snapshot | None:
    """Embed the corpus with the newest due checkpoint of a training, if that was not done yet.

    `vectors` are projected instead, where the training leaves the trunk at rest that made them.
    """
    # Step 0 is the model that the training was given, and so is the snapshot it starts with.
    due = [step for step in steps_in(folder / "checkpoints") if step > 0 and step % every == 0]
    if not due or due[-1] in steps_in(folder / "snapshots"):
        return None
    checkpoint = checkpoint_path(folder, due[-1])
    model = load_model(checkpoint)
    entry = Journal(folder / "journal.jsonl").find("precision", 0)
    model.to(default_device(), choose_precision(entry["chosen"] if entry else "auto"))
    with progress(f"refresh of step {due[-1]}", len(store)) as advance:
        return write_snapshot(
            snapshot_path(folder, due[-1]), model, store,
            checkpoint=read_manifest(checkpoint).fingerprint, step=due[-1],
            vectors=vectors, on_progress=lambda done: advance(done, ""),
        )  # fmt: skip


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
        self._is_open = False
        self._adopted_step = 0
        self.snapshot = first
        self.index = first.index(index_settings)

    def before_step(self, step: int) -> dict[str, float]:
        """Adopt a newer snapshot if it is time; return the age of the one in use, in steps."""
        begin = time.perf_counter()
        if not self._is_open:
            self._return_to(step)
        wanted = self._wanted(step)
        if wanted is not None and wanted != self._adopted_step:
            if step > self._journal.last_step(_ADOPTION):
                self._journal.write(_ADOPTION, step, snapshot=wanted)
            self._adopt(wanted)
        waited = time.perf_counter() - begin
        return {"staleness": float(step - self._adopted_step), "refresh_wait_seconds": waited}

    def prune(self) -> None:
        """Remove snapshots that neither this training nor its resumption can need."""
        oldest_resume = min(steps_in(self._folder / "checkpoints"), default=0)
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

    def _wanted(self, step: int) -> int | None:
        repeated = self._journal.find(_ADOPTION, step)
        if repeated is not None:
            return int(repeated["snapshot"])
        if step <= self._journal.last_step(_ADOPTION):
            return None
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
            if not _somebody_refreshes(self._settings.mode):
                raise ResourceError(
                    f"the training waits for {what}, but nothing makes it: set refresh.every to "
                    "a multiple of save_every within the bound, or use refresh.mode=process"
                )
            time.sleep(_POLL_SECONDS)


@contextmanager
def refresh_process(
    folder: Path, store: PassageStore, settings: RefreshSettings, vectors: TrunkVectors | None
) -> Iterator[None]:
    """Keep a second process refreshing while the block runs; it ends with the block or trainer."""
    context = multiprocessing.get_context("spawn")
    kept = None if vectors is None else vectors.path
    arguments = (folder, store.path, kept, settings, os.getpid())
    process = context.Process(
        target=_refresh_forever, args=arguments, name="realm-refresh", daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _somebody_refreshes(mode: str) -> bool:
    if mode == "elsewhere":
        return True
    return mode == "process" and any(
        child.name == "realm-refresh" for child in multiprocessing.active_children()
    )


def _refresh_forever(
    folder: Path, corpus: Path, kept: Path | None, settings: RefreshSettings, trainer: int
) -> None:
    torch.set_num_threads(settings.num_threads)
    store = PassageStore.open(corpus)
    vectors = None if kept is None else TrunkVectors.open(kept, store)
    while os.getppid() == trainer:
        try:
            made = refresh_once(folder, store, every=settings.every, vectors=vectors)
        except (ArtifactError, FileNotFoundError):
            made = None  # the trainer removed the checkpoint meanwhile: a newer one is there
        if made is None:
            time.sleep(_POLL_SECONDS)
