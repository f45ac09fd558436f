"""When a snapshot is made, when it is adopted, how old it may become, and what is kept."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from realm.artifact import read_manifest, remove_artifact
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, ResourceError, SettingError
from realm.index.approximate import Cells
from realm.index.snapshot import IndexSettings, Snapshot, write_snapshot
from realm.index.trunk_vectors import write_trunk_vectors
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.pretraining.refresh import (
    LiveIndex,
    RefreshSettings,
    RefreshTask,
    follow,
    refresh_once,
    refresh_process,
    snapshot_path,
)
from realm.pretraining.run import Pretraining, PretrainSettings
from realm.progress import Advance
from realm.spans.annotate import SpanStore
from realm.training.state import Journal, checkpoint_path, prune, steps_in


class World:
    """A training's folder in which checkpoints and snapshots are put down by hand."""

    def __init__(self, folder: Path, model: Model, store: PassageStore, first: Snapshot) -> None:
        self.folder, self.model, self.store, self.first = folder, model, store, first

    def save(self, step: int) -> None:
        """Save a checkpoint; the model moves a little before each one."""
        with torch.no_grad():
            for parameter in self.model.embedder.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        save_checkpoint(checkpoint_path(self.folder, step), self.model, step=step, inputs={})
        prune(self.folder / "checkpoints", keep=2)

    def refresh(self, every: int = 4) -> Snapshot | None:
        return refresh_once(self.folder, self.store, every=every)

    def task(self) -> RefreshTask:
        return RefreshTask(
            folder=self.folder, corpus=self.store.path, vectors=None, every=4, num_steps=9
        )

    def write_snapshot(self, step: int) -> None:
        """Write a snapshot without a checkpoint."""
        path = snapshot_path(self.folder, step)
        write_snapshot(path, self.model, self.store, checkpoint=str(step), step=step)

    def live(self, **settings: Any) -> LiveIndex:
        refresh = RefreshSettings.model_validate({"every": 4, **settings})
        return LiveIndex(self.folder, self.store, self.first, refresh, IndexSettings())

    @property
    def snapshots(self) -> list[int]:
        return steps_in(self.folder / "snapshots")


@pytest.fixture
def world(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot, tmp_path: Path
) -> World:
    return World(tmp_path / "run", small_model, small_store, small_snapshot)


def test_no_checkpoint_yet(world: World) -> None:
    assert world.refresh() is None
    # The model that the training was given has its snapshot already.
    world.save(0)
    assert world.refresh() is None
    # Neither is one between the due steps.
    world.save(2)
    assert world.refresh() is None
    assert world.snapshots == []


def test_the_newest_due_checkpoint_is_embedded(world: World) -> None:
    for step in (4, 6):
        world.save(step)
    snapshot = world.refresh()
    assert snapshot is not None
    assert snapshot.step == 4
    assert snapshot.checkpoint == read_manifest(checkpoint_path(world.folder, 4)).fingerprint
    assert snapshot.path == snapshot_path(world.folder, 4)
    world.save(8)
    newer = world.refresh()
    assert newer is not None
    assert newer.step == 8
    assert not torch.equal(newer.embeddings, snapshot.embeddings)


def test_the_same_checkpoint_is_not_embedded_twice(world: World) -> None:
    world.save(4)
    assert world.refresh() is not None
    manifest = snapshot_path(world.folder, 4) / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert world.refresh() is None
    assert manifest.stat().st_mtime_ns == before


def test_a_crash_while_embedding_leaves_nothing(world: World) -> None:
    @contextmanager
    def crash(title: str, total: int | None) -> Iterator[Advance]:
        def advance(done: int, note: str) -> None:
            raise OSError("the machine is on fire")

        yield advance

    world.save(4)
    with pytest.raises(OSError, match="on fire"):
        refresh_once(world.folder, world.store, every=4, progress=crash)
    assert world.snapshots == []
    live = world.live()
    assert live.before_step(5)["staleness"] == 5
    assert live.snapshot is world.first
    # The next attempt makes it, and the trainer finds it.
    assert world.refresh() is not None
    assert live.before_step(6)["staleness"] == 2
    assert [path.name for path in (world.folder / "snapshots").iterdir()] == ["step-000000004"]


def test_a_trunk_at_rest_is_not_run_again(world: World, tmp_path: Path) -> None:
    vectors = write_trunk_vectors(tmp_path / "vectors", world.model, world.store)
    projection = world.model.embedder.passage_tower.projection
    assert projection is not None
    torch.nn.init.normal_(projection.weight)
    save_checkpoint(checkpoint_path(world.folder, 4), world.model, step=4, inputs={})
    projected = refresh_once(world.folder, world.store, every=4, vectors=vectors)
    assert projected is not None
    world.write_snapshot(8)
    direct = Snapshot.open(snapshot_path(world.folder, 8), world.store)
    torch.testing.assert_close(projected.embeddings, direct.embeddings, atol=0.02, rtol=0)
    assert not torch.equal(projected.embeddings, direct.embeddings), "the vectors were not used"


def test_the_precision_of_the_training_is_used(world: World) -> None:
    world.save(4)
    Journal(world.folder / "journal.jsonl").write("precision", 0, chosen="bf16")
    half = world.refresh()
    assert half is not None
    with torch.no_grad():
        world.write_snapshot(8)
    full = Snapshot.open(snapshot_path(world.folder, 8), world.store)
    difference = (half.embeddings.float() - full.embeddings.float()).abs().max()
    assert 1e-3 < float(difference) < 0.5


def test_the_cells_of_an_approximate_index_are_found_here(world: World) -> None:
    world.save(4)
    index = IndexSettings(kind="approximate")
    snapshot = refresh_once(world.folder, world.store, every=4, index=index)
    assert snapshot is not None
    cells = Cells.load(snapshot.path / "cells.safetensors")
    assert cells.cell_by_row.shape == (len(world.store),)


def test_a_finished_training_gets_no_snapshot(world: World) -> None:
    world.save(4)
    world.save(7)
    assert refresh_once(world.folder, world.store, every=4, num_steps=7) is None
    assert refresh_once(world.folder, world.store, every=4, num_steps=8) is not None


def test_a_checkpoint_that_was_removed_meanwhile_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.save(4)
    checkpoint = checkpoint_path(world.folder, 4)

    def remove_and_load(path: Path) -> Model:
        remove_artifact(path)
        return load_model(path)

    with monkeypatch.context() as patch:
        patch.setattr("realm.pretraining.refresh.load_model", remove_and_load)
        assert world.refresh() is None
    # One that is there but damaged is another matter.
    world.save(4)
    (checkpoint / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="missing or cut short"):
        world.refresh()


def test_the_process_ends_with_its_trainer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="the trainer is gone"):
        follow(world.task(), trainer=-1)
    # The trainer dies while a snapshot is made: the third look finds another parent.
    world.save(4)
    parents = iter([1000, 1000, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr("realm.index.encode.BLOCK", 4)
    with pytest.raises(SystemExit, match="the trainer is gone"):
        follow(world.task(), trainer=1000)
    assert list((world.folder / "snapshots").iterdir()) == []


def test_a_process_that_died_ends_the_training(world: World) -> None:
    live = world.live(mode="process")
    live.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert live.before_step(0)["staleness"] == 0
    live.process.kill()
    live.process.wait()
    with pytest.raises(ResourceError, match="refresh process ended with exit code -9"):
        live.before_step(1)
    # And so while the trainer waits for it.
    waiting = world.live(mode="process", adoption_lag=0)
    waiting.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
    with pytest.raises(ResourceError, match="refresh process ended with exit code 0"):
        waiting.before_step(4)


@pytest.mark.slow
def test_the_process_says_why_it_died(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.save(4)
    (checkpoint_path(world.folder, 4) / "weights.safetensors").write_bytes(b"")
    with refresh_process(world.task()) as process:
        assert process.wait(60) == 1
    said = capfd.readouterr().err
    assert said.startswith("refresh: ")
    assert "weights.safetensors is missing or cut short" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_the_process_is_gone_after_the_block(world: World) -> None:
    world.save(4)
    with refresh_process(world.task()) as process:
        end = time.monotonic() + 60
        while 4 not in world.snapshots and time.monotonic() < end:
            time.sleep(0.1)
    assert process.returncode is not None
    assert [path.name for path in (world.folder / "snapshots").iterdir()] == ["step-000000004"]


UNGUARDED = """
import sys
from pathlib import Path
from realm.pretraining.refresh import RefreshTask, refresh_process
print("here", flush=True)
with refresh_process(RefreshTask.model_validate_json(sys.argv[1])) as process:
    while not Path(sys.argv[2]).exists():
        assert process.poll() is None
"""


@pytest.mark.slow
def test_a_script_of_the_user_is_not_run_again(world: World, tmp_path: Path) -> None:
    world.save(4)
    script = tmp_path / "train.py"
    script.write_text(UNGUARDED)
    # What lies in the folder where it is started must not hide a library.
    (tmp_path / "torch.py").write_text("raise SystemExit('hidden')")
    snapshot = snapshot_path(world.folder, 4)
    done = subprocess.run(
        [sys.executable, "-P", script, world.task().model_dump_json(), snapshot],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")


def test_a_snapshot_is_adopted_between_steps(world: World) -> None:
    live = world.live()
    assert [live.before_step(step)["staleness"] for step in range(6)] == [0, 1, 2, 3, 4, 5]
    first_index = live.index
    world.write_snapshot(4)
    # Neither at once nor at the end of an epoch, but before the next step.
    assert live.index is first_index
    scalars = live.before_step(6)
    assert scalars["staleness"] == 2
    assert scalars["refresh_wait_seconds"] >= 0
    assert live.snapshot.step == 4
    assert torch.equal(live.index.search(torch.ones(1, 16), 3).rows, _best(live.snapshot))
    assert live.index is not first_index
    adopted = live.index
    assert live.before_step(7)["staleness"] == 3
    assert live.index is adopted, "nothing new, nothing opened"
    journal = Journal(world.folder / "journal.jsonl")
    assert journal.entries == [{"event": "adopt", "step": 6, "snapshot": 4}]


def _best(snapshot: Snapshot) -> torch.Tensor:
    return snapshot.index(IndexSettings()).search(torch.ones(1, 16), 3).rows


def test_a_resumed_training_repeats_its_adoptions(world: World) -> None:
    live = world.live()
    for step in range(5):
        live.before_step(step)
    world.write_snapshot(4)
    for step in range(5, 8):
        live.before_step(step)
    # Stopped after step 7 and resumed at step 4, when the snapshot is there already.
    resumed = world.live()
    assert [resumed.before_step(step)["staleness"] for step in range(4, 8)] == [4, 1, 2, 3]
    world.write_snapshot(8)
    assert [resumed.before_step(step)["staleness"] for step in range(8, 11)] == [0, 1, 2]
    # Resumed once more, in the time of the second one.
    again = world.live()
    assert again.before_step(10)["staleness"] == 2
    entries = Journal(world.folder / "journal.jsonl").entries
    assert [(e["step"], e["snapshot"]) for e in entries] == [(5, 4), (8, 8)]


def test_a_fixed_lag_makes_adoption_repeatable(world: World) -> None:
    world.write_snapshot(4)
    live = world.live(adoption_lag=2)
    assert [live.before_step(step)["staleness"] for step in range(4, 8)] == [4, 5, 2, 3]
    world.write_snapshot(8)
    assert [live.before_step(step)["staleness"] for step in range(8, 12)] == [4, 5, 2, 3]


def test_the_bound_is_kept_where_it_can_be(world: World) -> None:
    live = world.live(max_staleness=4)
    ages = []
    for step in range(12):
        if step and step % 4 == 0:
            world.write_snapshot(step)
        ages.append(live.before_step(step)["staleness"])
    assert ages == [0, 1, 2, 3] * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"max_staleness": 2},
        {"adoption_lag": 0},
        # There is no second process: it was never started, or it died.
        {"max_staleness": 2, "mode": "process"},
        {"adoption_lag": 0, "mode": "process"},
    ],
)
def test_waiting_for_what_nobody_makes_is_an_error(world: World, settings: dict[str, Any]) -> None:
    live = world.live(**settings)
    for step in range(3):
        live.before_step(step)
    with pytest.raises(ResourceError, match=r"nothing makes it.*refresh\.every"):
        live.before_step(4)


@pytest.mark.parametrize("settings", [{"max_staleness": 3}, {"adoption_lag": 1}])
def test_a_wait_ends_when_the_snapshot_appears(world: World, settings: dict[str, Any]) -> None:
    live = world.live(mode="elsewhere", **settings)
    for step in range(4):
        assert live.before_step(step)["refresh_wait_seconds"] < 0.1
    _after(0.3, lambda: world.write_snapshot(4))
    scalars = live.before_step(5)
    assert scalars["staleness"] == 1
    assert scalars["refresh_wait_seconds"] > 0.25


def _after(seconds: float, write: Callable[[], None]) -> None:
    def wait_and_write() -> None:
        time.sleep(seconds)
        write()

    threading.Thread(target=wait_and_write, daemon=True).start()


def test_a_bound_that_cannot_be_kept_is_refused(world: World, small_spans: SpanStore) -> None:
    assert train(world, small_spans, max_staleness=3)["staleness"] <= 3
    # At once, not at the step where a trainer would wait for ever.
    for bound, choices in ((2, {}), (4, {"adoption_lag": 2}), (2, {"mode": "elsewhere"})):
        with pytest.raises(SettingError, match=r"max_staleness must be at least [35]"):
            train(world, small_spans, max_staleness=bound, **choices)
    # Within nine steps nothing becomes older than eight.
    assert train(world, small_spans, max_staleness=8, every=20)["staleness"] == 8


def train(world: World, spans: SpanStore, every: int = 4, **refresh: Any) -> dict[str, float]:
    """Pre-train for nine steps; the scalars of the last one."""
    settings = PretrainSettings.model_validate(
        {
            "loop": {"num_steps": 9, "save_every": every, "precision": "fp32"},
            "objective": {"batch_size": 1, "num_candidates": 2},
            "refresh": {"every": every, **refresh},
            "num_held_out": 1,
        }
    )
    folder = world.folder.with_name(f"run-{every}")
    last: dict[str, float] = {}
    Pretraining(
        folder, world.model, world.store, spans, world.first, settings, IndexSettings(), {}
    ).run(lambda step, row: last.update(row))
    return last


def test_snapshots_are_made_from_checkpoints(world: World, small_spans: SpanStore) -> None:
    settings = PretrainSettings.model_validate(
        {"loop": {"num_steps": 9, "save_every": 4}, "refresh": {"every": 6}}
    )
    with pytest.raises(SettingError, match="multiple"):
        Pretraining(
            world.folder, world.model, world.store, small_spans, world.first,
            settings, IndexSettings(), {},
        ).run()  # fmt: skip


def test_the_newest_due_checkpoint_outlasts_its_successors(world: World) -> None:
    kept = {}
    for step in range(0, 18, 2):
        path = checkpoint_path(world.folder, step)
        save_checkpoint(path, world.model, step=step, inputs={})
        prune(path.parent, keep=2, every=8)
        kept[step] = steps_in(path.parent)
    assert kept == {
        0: [0], 2: [0, 2], 4: [2, 4], 6: [4, 6], 8: [6, 8],
        10: [8, 10], 12: [8, 10, 12], 14: [8, 12, 14], 16: [14, 16],
    }  # fmt: skip
    assert not list((world.folder / "checkpoints").glob(".*"))


@pytest.mark.parametrize(
    ("every", "lag"), [(2, None), (4, None), (4, 0), (4, 1), (4, 3), (6, None), (6, 5)]
)
def test_what_a_resumed_training_needs_is_kept(world: World, every: int, lag: int | None) -> None:
    live = world.live(every=every, adoption_lag=lag)
    in_force: dict[int, int] = {}
    for step in range(19):
        if step % 2 == 0:
            world.save(step)
            world.refresh(every)
            live.prune()
        begin = steps_in(world.folder / "checkpoints")[-1]
        if begin in in_force:
            resumed = world.live(every=every, adoption_lag=lag)
            resumed.before_step(begin)
            assert resumed.snapshot.step == in_force[begin]
        live.before_step(step)
        in_force[step] = live.snapshot.step
    assert len(world.snapshots) <= 3, "old ones are removed"
    assert in_force[18] >= 12


def test_an_old_checkpoint_that_is_the_best_keeps_no_snapshots(world: World) -> None:
    live = world.live(every=4)
    best = checkpoint_path(world.folder, 0)
    for step in range(19):
        if step % 2 == 0:
            world.save(step)
            if not best.exists():
                save_checkpoint(best, world.model, step=0, inputs={})
            world.refresh(4)
            live.prune()
        live.before_step(step)
    assert len(world.snapshots) <= 3


def test_what_is_newer_than_the_step_is_not_adopted(world: World) -> None:
    """A training that goes on from an older checkpoint finds the snapshots of its former self."""
    for step in (4, 8):
        world.write_snapshot(step)
    live = world.live()
    assert live.before_step(3)["staleness"] == 3
    assert live.before_step(5)["staleness"] == 1
    assert live.before_step(8)["staleness"] == 0
