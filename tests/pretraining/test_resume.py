"""A pre-training that was killed ends as one that was not, wherever the refresh happens."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import small_pretraining
import torch
from small_pretraining import rows_of, settings_of, train, train_and_kill, write_world

from launcher import launch
from realm import machine
from realm.artifact import read_manifest, verify
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index.snapshot import Snapshot
from realm.models import precision
from realm.models.checkpoint import Model
from realm.pretraining import run
from realm.pretraining.objective import RealmObjective
from realm.spans.annotate import SpanStore
from realm.training.state import steps_in


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums have the same order in every process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world(
    small_model: Model, small_store: PassageStore, small_spans: SpanStore, tmp_path: Path
) -> Path:
    """A folder to start trainings from."""
    write_world(tmp_path, small_model, small_store, small_spans)
    return tmp_path


def journal_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def assert_same_training(one: Path, other: Path) -> None:
    """Weights and moments bit for bit, metrics but for the clock, journal and snapshots."""
    assert journal_of(one) == journal_of(other)
    assert rows_of(one) == rows_of(other)
    for name in ("checkpoints", "snapshots"):
        steps = steps_in(one / name)
        assert steps == steps_in(other / name)
        for step in steps:
            # A fingerprint covers the checksums of all files.
            ours, theirs = (read_manifest(f / name / f"step-{step:09d}") for f in (one, other))
            assert ours.fingerprint == theirs.fingerprint, (name, step)


def test_an_uninterrupted_run_adopts_every_snapshot(world: Path) -> None:
    last = train(world, world / "run", settings_of())
    assert last.name == "step-000000010"
    assert verify(last) > 0
    adopted = [(e["step"], e["snapshot"]) for e in journal_of(world / "run")[1:]]
    assert adopted == [(4, 4), (8, 8)]
    rows = rows_of(world / "run")
    staleness = [row["staleness"] for row in rows if "staleness" in row]
    # Lines are numbered by the steps done; the ages are those before the step.
    assert staleness == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [r["step"] for r in rows if "held_out_retrieval_utility" in r] == [0, 2, 4, 6, 8, 10]


def test_another_run_is_the_same_run(world: Path) -> None:
    train(world, world / "one", settings_of())
    train(world, world / "two", settings_of())
    assert_same_training(world / "one", world / "two")


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 5, 7])
def test_killed_and_resumed_equals_uninterrupted(world: Path, killed_after: int) -> None:
    train(world, world / "whole", settings_of())
    train_and_kill(world, world / "killed", settings_of(), str(killed_after))
    assert steps_in(world / "killed" / "checkpoints")[-1] == killed_after // 2 * 2
    train(world, world / "killed", settings_of())
    assert_same_training(world / "killed", world / "whole")


@pytest.mark.slow
def test_killed_while_a_snapshot_is_written(world: Path, small_store: PassageStore) -> None:
    train(world, world / "whole", settings_of())
    train_and_kill(world, world / "killed", settings_of(), "refresh:4")
    snapshots = world / "killed" / "snapshots"
    (half,) = snapshots.iterdir()
    assert half.name.startswith(".step-000000004.staging-")
    assert steps_in(snapshots) == []
    for path in (half, snapshots / "step-000000004"):
        with pytest.raises(ArtifactError, match="no finished artifact"):
            Snapshot.open(path, small_store)
    train(world, world / "killed", settings_of())
    assert_same_training(world / "killed", world / "whole")
    assert not list(snapshots.glob(".*")), "the half snapshot was left behind"


@pytest.mark.slow
def test_a_second_process_refreshes_as_well(world: Path) -> None:
    inline, apart = (settings_of(mode=mode, adoption_lag=1) for mode in ("inline", "process"))
    train(world, world / "inline", inline)
    train(world, world / "apart", apart)
    adopted = [(e["step"], e["snapshot"]) for e in journal_of(world / "apart")[1:]]
    assert adopted == [(5, 4), (9, 8)]
    assert_same_training(world / "apart", world / "inline")


@pytest.mark.slow
def test_killed_beside_a_second_process(world: Path) -> None:
    settings = settings_of(mode="process", adoption_lag=1)
    train(world, world / "whole", settings_of(adoption_lag=1))
    train_and_kill(world, world / "killed", settings, "7")
    train(world, world / "killed", settings)
    assert_same_training(world / "killed", world / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["inline", "process"])
def test_two_processes_share_one_index(world: Path, mode: str) -> None:
    settings = settings_of(mode=mode, max_staleness=3)
    script = small_pretraining.__file__
    launch(script, world, world / "run", settings.model_dump_json(), "-1")
    adopted = [(e["event"], e["step"]) for e in journal_of(world / "run")]
    assert adopted == [("precision", 0), ("adopt", 4), ("adopt", 8)]
    rows = rows_of(world / "run")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 11))
    assert [row["staleness"] for row in rows if "loss" in row] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [row["step"] for row in rows if "held_out_loss" in row] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("mode", "set_threads", "expected"),
    [("process", 0, 2), ("process", 3, 3), ("elsewhere", 0, 3)],
)
def test_a_refresh_process_has_its_threads_from_the_trainer(
    world: Path, monkeypatch: pytest.MonkeyPatch, mode: str, set_threads: int, expected: int
) -> None:
    monkeypatch.setattr(run, "refresh_process", lambda task: nullcontext())
    monkeypatch.setattr(precision, "best_num_threads", lambda *_: torch.get_num_threads())
    settings = settings_of(mode=mode)
    changes = {"num_steps": 0, "num_threads": set_threads}
    loop = settings.loop.model_copy(update=changes)
    with machine.using_threads(3):
        train(world, world / "run", settings.model_copy(update={"loop": loop}))
    assert journal_of(world / "run")[0]["num_threads"] == expected


def test_every_step_searches_in_the_snapshot_that_was_adopted(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the objective is made of what the training was given."""
    searched: list[Any] = []

    class Listening(RealmObjective):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(named)

        def loss(self, step: int) -> Any:
            searched.append(self.index)
            return super().loss(step)

    made: list[dict[str, Any]] = []
    monkeypatch.setattr(run, "RealmObjective", Listening)
    settings = settings_of()
    seeded = settings.model_copy(update={"loop": settings.loop.model_copy(update={"seed": 5})})
    train(world, world / "run", seeded)
    # Snapshots are due at every fourth of ten steps, and measured at every other.
    groups = [id(index) for index in searched]
    assert [len({*groups[begin:end]}) for begin, end in ((0, 4), (4, 8), (8, 10))] == [1, 1, 1]
    assert len({*groups}) == 3
    assert [each["seed"] for each in made] == [5]


def test_the_checkpoint_of_the_greatest_utility_stays(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, utility = run.BEST_PRETRAINED_BY, iter([0.1, 0.9, 0.2, 0.3, 0.1, 0.0])
    monkeypatch.setattr(
        RealmObjective, "held_out_utility", lambda self, number: {name: next(utility)}
    )
    train(world, world / "run", settings_of())
    assert steps_in(world / "run" / "checkpoints") == [2, 8, 10]
