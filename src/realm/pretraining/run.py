"""How is REALM pre-training run: loop, index and refresh together?

Where the refresh happens (inline or in a second process) is decided here and nowhere else.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SettingError
from realm.examples.masking import make_masker
from realm.index.snapshot import IndexSettings, Snapshot
from realm.models.checkpoint import Model
from realm.pretraining.objective import RealmObjective, RealmSettings
from realm.pretraining.refresh import LiveIndex, RefreshSettings, refresh_once, refresh_process
from realm.progress import Progress, no_progress
from realm.spans.annotate import SpanStore
from realm.training.distributed import join_group
from realm.training.loop import Hooks, LoopSettings, Scalars, Training


class PretrainSettings(Settings):
    """The whole of REALM pre-training."""

    loop: LoopSettings = LoopSettings(num_steps=200_000, save_every=500)
    objective: RealmSettings = RealmSettings()
    refresh: RefreshSettings = RefreshSettings()
    num_held_out: int = 64
    """Held-out queries on which retrieval utility is measured at every checkpoint."""


def pretrain(
    folder: Path,
    model: Model,
    store: PassageStore,
    spans: SpanStore,
    first: Snapshot,
    *,
    settings: PretrainSettings,
    index_settings: IndexSettings,
    inputs: dict[str, str],
    on_progress: Callable[[int, Scalars], None] | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Pre-train from the newest checkpoint in the folder; return the last checkpoint."""
    _check(settings)
    refresh = settings.refresh
    group = join_group()
    seed = settings.loop.seed
    masker = make_masker(settings.objective.masking, store, spans)
    objective = RealmObjective(model, store, masker, settings.objective, seed=seed, group=group)
    live = LiveIndex(folder, store, first, refresh, index_settings)

    def before_step(step: int) -> Scalars:
        scalars = live.before_step(step)
        objective.index = live.index
        return scalars

    def measure(step: int) -> Scalars:
        objective.index = live.index
        return objective.held_out_utility(settings.num_held_out)

    def after_save(step: int) -> None:
        if refresh.mode == "inline" and group.is_first:
            refresh_once(folder, store, every=refresh.every, progress=progress)
        live.prune()
        group.wait()

    training = Training(objective, settings.loop, folder, inputs, group)
    is_apart = refresh.mode == "process" and group.is_first
    with refresh_process(folder, store, refresh) if is_apart else nullcontext():
        return training.run(Hooks(before_step, measure, after_save, on_progress))


def _check(settings: PretrainSettings) -> None:
    if settings.refresh.every % settings.loop.save_every:
        raise SettingError(
            "pretrain.refresh.every must be a multiple of pretrain.loop.save_every: a snapshot "
            "is made from a checkpoint"
        )
