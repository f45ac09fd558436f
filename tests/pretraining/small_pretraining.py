"""A REALM pre-training of a second; run as a script it is the process that a test kills.

python small_pretraining.py WORLD FOLDER SETTINGS PAUSE

WORLD holds what `write_world` puts there, FOLDER is that of the training. PAUSE is the number of
the step after which, or `refresh:N` for the step in whose refresh the process waits to be killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from realm.corpus.store import PassageStore
from realm.index.snapshot import IndexSettings, Snapshot, write_snapshot
from realm.json_lines import read_json_lines
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.pretraining.run import Pretraining, PretrainSettings
from realm.progress import Advance, Progress, no_progress
from realm.spans.annotate import SpanStore
from realm.training.loop import Scalars

INPUTS = {"corpus": "small"}
TIMINGS = ("step_seconds", "refresh_wait_seconds")
_PATIENCE_SECONDS = 120.0

OnProgress = Callable[[int, Scalars], None]


def settings_of(*, precision: str = "fp32", **refresh: Any) -> PretrainSettings:
    """Ten steps, a checkpoint at every other and a snapshot at every fourth."""
    optim = {"learning_rate": 3e-3}
    return PretrainSettings.model_validate(
        {
            "loop": {
                "num_steps": 10, "save_every": 2, "log_every": 1,
                "precision": precision, "attention": "eager", "num_threads": 1, "optim": optim,
            },
            "objective": {"batch_size": 2, "num_candidates": 4},
            "refresh": {"every": 4, **refresh},
            "num_held_out": 1,
        }
    )  # fmt: skip


def write_world(world: Path, model: Model, store: PassageStore, spans: SpanStore) -> None:
    """Put down what every process of a training starts from."""
    save_checkpoint(world / "start", model, step=0, inputs={})
    write_snapshot(world / "snapshot", model, store, checkpoint="start", step=0)
    paths = {"corpus": str(store.path), "spans": str(spans.path)}
    (world / "paths.json").write_text(json.dumps(paths), encoding="utf-8")


def train(
    world: Path,
    folder: Path,
    settings: PretrainSettings,
    on_progress: OnProgress | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Train to the end, from wherever the training in that folder is."""
    paths = json.loads((world / "paths.json").read_text(encoding="utf-8"))
    store, spans = PassageStore.open(Path(paths["corpus"])), SpanStore.open(paths["spans"])
    first = Snapshot.open(world / "snapshot", store)
    pretraining = Pretraining(
        folder, load_model(world / "start"), store, spans, first,
        settings, IndexSettings(), INPUTS, progress,
    )  # fmt: skip
    return pretraining.run(on_progress)


def train_and_kill(world: Path, folder: Path, settings: PretrainSettings, pause: str) -> None:
    """Train in a process of its own, and kill that process as soon as it pauses."""
    command = [sys.executable, __file__, str(world), str(folder)]
    victim = subprocess.Popen([*command, settings.model_dump_json(), pause], env=_environment())
    try:
        wait_until(lambda: _has_come_to(folder, pause) or victim.poll() is not None)
        assert victim.poll() is None, "it ended before it could be killed"
    finally:
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for another process, but not for ever."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "nothing happens any more"
        time.sleep(0.02)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a training but for the clock."""
    rows = read_json_lines(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def _has_come_to(folder: Path, pause: str) -> bool:
    event, _, step = pause.rpartition(":")
    if event == "refresh":
        staging = f".step-{int(step):09d}.staging-*/embeddings.npy"
        return any((folder / "snapshots").glob(staging))
    return any(row["step"] == int(step) and "loss" in row for row in rows_of(folder))


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _wait_to_be_killed() -> None:
    time.sleep(_PATIENCE_SECONDS)
    sys.exit("nobody killed this process")


def _main() -> None:
    world, folder, settings, pause = sys.argv[1:]
    torch.set_num_threads(1)
    event, _, pause_at = pause.rpartition(":")

    def on_progress(step: int, row: Scalars) -> None:
        if event == "" and step == int(pause_at):
            _wait_to_be_killed()

    @contextmanager
    def progress(title: str, total: int | None) -> Iterator[Advance]:
        if event == "refresh" and title.endswith(f" {pause_at}"):
            # The rows are written, the null passage and the manifest are not.
            yield lambda done, note: _wait_to_be_killed()
        else:
            yield lambda done, note: None

    chosen = PretrainSettings.model_validate_json(settings)
    train(Path(world), Path(folder), chosen, on_progress, progress)


if __name__ == "__main__":
    _main()
