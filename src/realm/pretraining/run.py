"""How is REALM pre-training run: loop, index and refresh together?

Where the refresh happens (inline or in a second process) is decided here and nowhere else.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import Field

from realm.artifact import read_manifest
from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SettingError
from realm.examples.masking import make_masker
from realm.index.exact import Index
from realm.index.snapshot import IndexSettings, Snapshot
from realm.index.trunk_vectors import TrunkVectors
from realm.metric_log import SKIPPED, skipped_examples
from realm.models.checkpoint import Model
from realm.pretraining.objective import RealmObjective, RealmSettings
from realm.pretraining.refresh import (
    LiveIndex,
    RefreshSettings,
    RefreshTask,
    refresh_once,
    refresh_process,
)
from realm.progress import Progress, no_progress
from realm.spans.annotate import SpanStore
from realm.training.loop import Hooks, LoopSettings, Scalars, Training
from realm.training.state import latest_checkpoint

BEST_PRETRAINED_BY = "held_out_retrieval_utility"
"""What the best checkpoint is greatest in: it foretells answers better than the loss does
(appendix D)."""


class PretrainSettings(Settings):
    """The whole of REALM pre-training."""

    loop: LoopSettings = LoopSettings(num_steps=200_000, save_every=500)
    objective: RealmSettings = RealmSettings()
    refresh: RefreshSettings = RefreshSettings()
    num_held_out: int = Field(default=64, ge=0)
    """Held-out queries on which retrieval utility is measured at every checkpoint."""
    num_development_questions: int = Field(default=0, ge=0)
    """Questions of the first of `dev_questions` whose recall@5 is measured at every checkpoint, in
    the index of that moment; nothing learns from them. 0 measures none."""

    @property
    def num_refreshes(self) -> int:
        """How often a pre-training that is not interrupted makes a new snapshot."""
        return max(0, math.ceil(self.loop.num_steps / self.refresh.every) - 1)


@dataclass(frozen=True)
class Pretraining:
    """Everything that a pre-training needs; `run` may be called again to go on after a stop."""

    folder: Path
    model: Model
    store: PassageStore
    spans: SpanStore
    first: Snapshot
    """The corpus as the given model sees it: what is searched until the first refresh."""
    settings: PretrainSettings
    index_settings: IndexSettings
    inputs: Mapping[str, str]
    """Fingerprints of what the training depends on; other ones are refused on resume."""
    progress: Progress = no_progress
    queries: PassageStore | None = None
    """The corpus that queries come from, with its `spans`, where it is not the one to read in."""
    vectors: TrunkVectors | None = None
    """Of the embedder's trunk; where it stays at rest, neither a refresh nor a step runs it over
    passages."""
    measure: Callable[[Model, Index], Scalars] | None = None
    """What else to measure at every checkpoint, with the index of that moment."""

    def run(self, on_progress: Callable[[int, Scalars], None] | None = None) -> Path:
        """Pre-train from the newest checkpoint in the folder; return the last checkpoint.

        Raises:
            SettingError: the refresh is not due at steps that have a checkpoint, or cannot keep
                within its bound.
            ResourceError: the refresh process died, or nothing makes the snapshot waited for.
        """
        settings, refresh = self.settings, self.settings.refresh
        _check(settings)
        objective = self._objective()
        live = LiveIndex(self.folder, self.store, self.first, refresh, self.index_settings)
        training = Training(
            objective, _loop_beside(refresh, settings.loop), self.folder, self.inputs
        )
        training.keep_every, training.best_by = refresh.every, BEST_PRETRAINED_BY
        is_first, num_steps = training.group.is_first, settings.loop.num_steps
        self._count_on(objective, is_first=is_first)

        def refresh_inline() -> None:
            if refresh.mode == "inline" and is_first:
                refresh_once(
                    self.folder, self.store, every=refresh.every, num_steps=num_steps,
                    vectors=self.vectors, index=self.index_settings, progress=self.progress,
                )  # fmt: skip

        def before_step(step: int) -> Scalars:
            scalars = live.before_step(step)
            objective.index = live.index
            return scalars

        def measure(step: int) -> Scalars:
            objective.index = live.index
            return self._measured(objective, live.index)

        def after_save(step: int) -> None:
            refresh_inline()
            if is_first:
                live.prune()
            training.group.wait()

        # A run that was killed between a checkpoint and its snapshot goes on with both.
        refresh_inline()
        training.group.wait()
        is_apart = refresh.mode == "process" and is_first
        beside = refresh_process(self._task()) if is_apart else nullcontext()
        with beside as live.process:
            counts = partial(_skipped, objective)
            return training.run(Hooks(before_step, measure, counts, after_save, on_progress))

    def _objective(self) -> RealmObjective:
        settings = self.settings
        masker = make_masker(settings.objective.masking, self.queries or self.store, self.spans)
        return RealmObjective(
            self.model, self.store, masker, settings.objective,
            seed=settings.loop.seed, queries=self.queries, vectors=self.vectors,
        )  # fmt: skip

    def _measured(self, objective: RealmObjective, index: Index) -> Scalars:
        more = self.measure(self.model, index) if self.measure else {}
        return {**objective.held_out_utility(self.settings.num_held_out), **more}

    def _count_on(self, objective: RealmObjective, *, is_first: bool) -> None:
        """Take the counts of skipped examples that stood at the checkpoint to go on from.

        They are sums over all processes, which go on in the first.
        """
        path = latest_checkpoint(self.folder)
        if path is not None and is_first:
            step = int(read_manifest(path).settings["step"])
            objective.skipped.update(skipped_examples(self.folder, until_step=step))

    def _task(self) -> RefreshTask:
        refresh = self.settings.refresh
        return RefreshTask(
            folder=self.folder,
            corpus=self.store.path,
            vectors=None if self.vectors is None else self.vectors.path,
            every=refresh.every,
            num_steps=self.settings.loop.num_steps,
            num_threads=refresh.num_threads,
            index=self.index_settings,
        )


def _skipped(objective: RealmObjective) -> dict[str, int]:
    return {f"{SKIPPED}{reason}": n for reason, n in objective.skipped.items()}


def _loop_beside(refresh: RefreshSettings, loop: LoopSettings) -> LoopSettings:
    """The loop beside that refresh: a process takes its threads from those of the trainer.

    On cores that both claim, each waits for the other: two threads beside a third were slower than
    one alone.
    """
    if refresh.mode != "process" or loop.num_threads:
        return loop
    number = max(1, torch.get_num_threads() - refresh.num_threads)
    return loop.model_copy(update={"num_threads": number})


def _check(settings: PretrainSettings) -> None:
    refresh, loop = settings.refresh, settings.loop
    if refresh.every % loop.save_every:
        raise SettingError(
            "pretrain.refresh.every must be a multiple of pretrain.loop.save_every: a snapshot "
            "is made from a checkpoint"
        )
    lag = refresh.adoption_lag or 0
    if lag >= refresh.every:
        raise SettingError(
            "pretrain.refresh.adoption_lag must be smaller than pretrain.refresh.every"
        )
    # Just before the next snapshot can be adopted, the one in use is as old as this.
    oldest = min(refresh.every + lag, loop.num_steps) - 1
    if refresh.max_staleness is not None and refresh.max_staleness < oldest:
        raise SettingError(
            f"pretrain.refresh.max_staleness must be at least {oldest}, the age of a snapshot "
            "when the next one is due: allow more, or lower pretrain.refresh.every"
        )
