"""The loop on a toy: it learns, and a stopped run ends as one that was never stopped."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from realm.errors import ArtifactError
from realm.json_lines import read_json_lines
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.models.embedder import embed
from realm.training.loop import Hooks, LoopSettings, Scalars, Training
from realm.training.optim import OptimSettings, scheduled_factor
from realm.training.state import (
    Journal,
    best_checkpoint,
    checkpoint_path,
    latest_checkpoint,
    steps_in,
)

INPUTS = {"corpus": "abc"}
_TIMINGS = ("step_seconds",)


class Stopped(Exception):
    """Stands for a kill inside the process of the test."""


class Toy:
    """Bring the embeddings of random queries to a fixed point; batch and noise follow the step."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def trainable(self) -> nn.Module:
        return nn.ModuleDict({"embedder": self.model.embedder})

    def loss(self, step: int) -> tuple[Tensor, Scalars]:
        generator = np.random.default_rng(step)
        packer = self.model.packer
        queries = [packer.query(generator.integers(5, 100, 6)) for _ in range(4)]
        vectors = embed(self.model.embedder.query_tower, queries, packer)
        # Like dropout: what a step draws from torch must not depend on the steps before it.
        wanted = torch.ones_like(vectors) + 0.1 * torch.randn_like(vectors)
        loss = (vectors - wanted).square().mean()
        return loss, {"half": float(loss.detach()) / 2}


@pytest.fixture
def start(small_model: Model, tmp_path: Path) -> Callable[[], Model]:
    """Makes the same model again and again."""
    save_checkpoint(tmp_path / "start", small_model, step=0, inputs={})
    return lambda: load_model(tmp_path / "start")


def settings_of(**values: Any) -> LoopSettings:
    defaults: dict[str, Any] = {"num_steps": 7, "save_every": 3, "log_every": 1}
    optim = OptimSettings(learning_rate=1e-3)
    return LoopSettings.model_validate({**defaults, "precision": "fp32", "optim": optim, **values})


def train(model: Model, folder: Path, hooks: Hooks = Hooks(), **values: Any) -> Path:
    return Training(Toy(model), settings_of(**values), folder, INPUTS).run(hooks)


def stop_at(step: int) -> Hooks:
    """Hooks that end the run in the middle of a step."""

    def before_step(now: int) -> Scalars:
        if now == step:
            raise Stopped
        return {}

    return Hooks(before_step=before_step)


def tensors_of(checkpoint: Path) -> dict[str, Tensor]:
    weights = load_file(checkpoint / "weights.safetensors")
    moments = load_file(checkpoint / "training.safetensors")
    assert not weights.keys() & moments.keys()
    return {**weights, **moments}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = read_json_lines(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in _TIMINGS} for row in rows]


def assert_same_training(one: Path, other: Path) -> None:
    """The same last checkpoint, moments included, and the same metrics but for the clock."""
    ours, theirs = latest_checkpoint(one), latest_checkpoint(other)
    assert ours is not None
    assert theirs is not None
    assert ours.name == theirs.name
    ours_tensors, theirs_tensors = tensors_of(ours), tensors_of(theirs)
    assert ours_tensors.keys() == theirs_tensors.keys()
    for name, tensor in ours_tensors.items():
        assert torch.equal(tensor, theirs_tensors[name]), name
    assert rows_of(one) == rows_of(other)


def test_the_loss_falls(start: Callable[[], Model], tmp_path: Path) -> None:
    train(start(), tmp_path / "run", num_steps=30, save_every=30)
    losses = [row["loss"] for row in rows_of(tmp_path / "run")]
    assert len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stopped_at", [2, 3, 5])
def test_resumed_equals_uninterrupted(
    start: Callable[[], Model], tmp_path: Path, stopped_at: int, precision: str
) -> None:
    train(start(), tmp_path / "whole", precision=precision)
    with pytest.raises(Stopped):
        train(start(), tmp_path / "stopped", stop_at(stopped_at), precision=precision)
    assert steps_in(tmp_path / "stopped" / "checkpoints")[-1] == stopped_at // 3 * 3
    last = train(start(), tmp_path / "stopped", precision=precision)
    assert last.name == "step-000000007"
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")


def test_a_run_may_be_stopped_again_and_again(start: Callable[[], Model], tmp_path: Path) -> None:
    train(start(), tmp_path / "whole")
    for stopped_at in (1, 4, 5, 6):
        with pytest.raises(Stopped):
            train(start(), tmp_path / "stopped", stop_at(stopped_at))
    train(start(), tmp_path / "stopped")
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")


def test_a_finished_training_is_left_as_it_is(start: Callable[[], Model], tmp_path: Path) -> None:
    last = train(start(), tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in last.iterdir()}
    assert train(start(), tmp_path / "run", stop_at(0)) == last
    assert {file: file.stat().st_mtime_ns for file in last.iterdir()} == before


def test_lines_after_the_last_checkpoint_are_cut(
    start: Callable[[], Model], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        train(start(), folder, stop_at(5))
    assert [row["step"] for row in rows_of(folder)] == [1, 2, 3, 4, 5]
    # What a killed process leaves: half a line.
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"step": 6, "lo')
    with pytest.raises(Stopped):
        train(start(), folder, stop_at(3))
    assert [row["step"] for row in rows_of(folder)] == [1, 2, 3]
    train(start(), folder)
    assert [row["step"] for row in rows_of(folder)] == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_measured_stands_beside_each_checkpoint(
    start: Callable[[], Model], tmp_path: Path
) -> None:
    hooks = Hooks(measure=lambda step: {"measured": float(step)})
    train(start(), tmp_path / "run", hooks)
    measured = {r["step"]: r["measured"] for r in rows_of(tmp_path / "run") if "measured" in r}
    assert measured == {0: 0.0, 3: 3.0, 6: 6.0, 7: 7.0}


def test_precision_is_chosen_once(start: Callable[[], Model], tmp_path: Path) -> None:
    train(start(), tmp_path / "whole", precision="fp32")
    with pytest.raises(Stopped):
        train(start(), tmp_path / "stopped", stop_at(4), precision="fp32")
    journal = tmp_path / "stopped" / "journal.jsonl"
    written = journal.read_bytes()
    assert json.loads(written) == {
        "event": "precision", "step": 0, "chosen": "fp32", "attention": "eager",
        "num_threads": torch.get_num_threads(), "embedding_attention": "eager",
    }  # fmt: skip
    # As if `auto` would now measure another winner.
    model = start()
    train(model, tmp_path / "stopped", precision="bf16", attention="sdpa")
    assert next(model.embedder.parameters()).dtype == torch.float32
    assert journal.read_bytes() == written
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")


def test_other_inputs_are_refused(start: Callable[[], Model], tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(start(), tmp_path / "run", stop_at(4))
    other = Training(Toy(start()), settings_of(), tmp_path / "run", {"corpus": "xyz"})
    with pytest.raises(ArtifactError, match="other inputs or settings"):
        other.run()


def test_two_checkpoints_are_kept(start: Callable[[], Model], tmp_path: Path) -> None:
    train(start(), tmp_path / "run", num_steps=5, save_every=1)
    assert steps_in(tmp_path / "run" / "checkpoints") == [4, 5]


def test_the_best_checkpoint_is_kept_beside_the_latest(
    start: Callable[[], Model], tmp_path: Path
) -> None:
    utility = {0: 0.1, 1: 0.7, 2: 0.9, 3: math.nan, 4: 0.9, 5: 0.2, 6: 0.3, 7: 0.1}

    def run(folder: Path, stopped_at: int = -1) -> None:
        hooks = replace(stop_at(stopped_at), measure=lambda step: {"utility": utility[step]})
        training = Training(Toy(start()), settings_of(save_every=1), folder, INPUTS)
        training.best_by = "utility"
        training.run(hooks)

    run(tmp_path / "whole")
    # The first of two that are equal; what is no number is never the best.
    assert steps_in(tmp_path / "whole" / "checkpoints") == [2, 6, 7]
    best = best_checkpoint(tmp_path / "whole", "utility")
    assert best == checkpoint_path(tmp_path / "whole", 2)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", 4)
    assert steps_in(tmp_path / "stopped" / "checkpoints") == [2, 3, 4]
    run(tmp_path / "stopped")
    assert steps_in(tmp_path / "stopped" / "checkpoints") == [2, 6, 7]
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")


def test_what_was_not_measured_has_no_best(start: Callable[[], Model], tmp_path: Path) -> None:
    train(start(), tmp_path / "run")
    assert best_checkpoint(tmp_path / "run", "utility") is None


def test_recomputed_and_resumed_equals_uninterrupted(
    start: Callable[[], Model], tmp_path: Path
) -> None:
    train(start(), tmp_path / "whole", recompute=True)
    with pytest.raises(Stopped):
        train(start(), tmp_path / "stopped", stop_at(5), recompute=True)
    train(start(), tmp_path / "stopped", recompute=True)
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")


def test_what_follows_a_torn_line_of_a_journal_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    Journal(file).write("adopt", 3, snapshot=2)
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"event": "adopt", "st')
    torn = Journal(file)
    assert torn.last_step("adopt") == 3
    torn.write("adopt", 5, snapshot=4)
    torn.write("adopt", 7, snapshot=6)
    again = Journal(file)
    assert [entry["step"] for entry in again.entries] == [3, 5, 7]
    assert again.latest("adopt", 6) == {"event": "adopt", "step": 5, "snapshot": 4}
    assert again.find("adopt", 4) is None
    assert again.last_step("precision") == -1


def test_every_step_moves_at_its_scheduled_rate(start: Callable[[], Model], tmp_path: Path) -> None:
    """Plain Adam's first step moves a weight by the rate, whatever its gradient."""
    optim = OptimSettings(learning_rate=1e-3, warmup_share=0.5, weight_decay=0.0)
    model, moved = start(), []
    trunk = model.embedder.query_tower.trunk
    weight = next(p for p in trunk.parameters() if p.ndim > 1)
    kept = [weight.detach().clone()]

    def note(step: int, scalars: Scalars) -> None:
        now = weight.detach().clone()
        moved.append((float((now - kept.pop()).abs().max()), scalars["rate"]))
        kept.append(now)

    train(model, tmp_path / "run", Hooks(on_progress=note), num_steps=8, optim=optim)
    rates = [rate for _, rate in moved]
    assert rates == [scheduled_factor(step, 8, optim) for step in range(8)]
    assert rates[0] == 0.25
    assert rates[-1] == 0.25
    assert moved[0][0] == pytest.approx(0.25e-3, rel=0.01)
    # As greatly as the rate lets it: at its height most, at the end little again.
    assert moved[3][0] > 2 * moved[0][0]
    assert moved[7][0] < moved[4][0]


def test_what_torch_draws_follows_seed_and_step(start: Callable[[], Model], tmp_path: Path) -> None:
    drawn: dict[str, list[float]] = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        seen = drawn.setdefault(name, [])

        class Drawing(Toy):
            def loss(self, step: int, seen: list[float] = seen) -> tuple[Tensor, Scalars]:
                seen.append(float(torch.rand(())))
                return super().loss(step)

        Training(Drawing(start()), settings_of(seed=seed), tmp_path / name, INPUTS).run()
    assert drawn["one"] == drawn["same"]
    assert len({*drawn["one"], *drawn["other"]}) == 14


def test_what_rests_is_saved_as_it_was(start: Callable[[], Model], tmp_path: Path) -> None:
    """Halved for the computation, but not in the file."""
    before = {name: p.detach().clone() for name, p in start().reader.named_parameters()}
    last = train(start(), tmp_path / "run", precision="bf16", num_steps=2)
    after = load_file(last / "weights.safetensors")
    named = [name for name in before if f"reader.{name}" in after]
    assert len(named) > 20
    for name in named:
        assert torch.equal(before[name], after[f"reader.{name}"]), name
