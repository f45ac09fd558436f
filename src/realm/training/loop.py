"""How does any objective train: step, log, save, resume bit for bit?

One loop serves the inverse cloze task, reading, REALM and fine-tuning. An objective is a model
and a loss that depends on nothing but the weights and the number of the step.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from realm.artifact import read_manifest
from realm.errors import ArtifactError
from realm.machine import default_device
from realm.memory import STEPS_BETWEEN, return_freed_memory
from realm.metric_log import MetricLog
from realm.models.checkpoint import (
    Model,
    save_checkpoint,
    training_tensors,
    unique_parameters,
)
from realm.models.precision import (
    Compute,
    ComputeSettings,
    facts_to_keep,
    kept_for_training,
)
from realm.training.distributed import ProcessGroup, join_group
from realm.training.optim import Optimizer, OptimSettings, scheduled_factor
from realm.training.state import (
    Journal,
    best_step,
    checkpoint_path,
    latest_checkpoint,
    prune,
)

Scalars = dict[str, float]


class LoopSettings(ComputeSettings):
    """How long to train, and how often to write things down."""

    num_steps: int = Field(ge=0)
    save_every: int = Field(default=200, ge=1)
    log_every: int = Field(default=10, ge=1)
    seed: int = Field(default=0, ge=0)
    compile_trunks: bool = False
    """Translate the trunks for the device: minutes at the first steps, quicker ones after them, on
    a GPU above all."""
    recompute: bool = False
    """Run each part of a batch a second time in the backward pass instead of keeping what it
    needs: a third more time; of all parts but one (`token_budget`) only the outputs are kept."""
    optim: OptimSettings = OptimSettings()

    @property
    def num_saves(self) -> int:
        """Checkpoints of a whole training, that of what it was given among them."""
        return 1 + math.ceil(self.num_steps / self.save_every)


class Objective(Protocol):
    """What a training minimises."""

    model: Model

    def trainable(self) -> nn.Module:
        """The part of the model whose parameters move, with the names of `model.modules()`."""

    def loss(self, step: int) -> tuple[Tensor, Scalars]:
        """Loss of a step's batch with its graph, and what to log beside it."""


@dataclass(frozen=True)
class Hooks:
    """What a stage does between steps; each may be left out."""

    before_step: Callable[[int], Scalars] | None = None
    """Called before every step; its scalars are logged with the step."""
    measure: Callable[[int], Scalars] | None = None
    """Called before every checkpoint; its scalars are logged in a line of their own."""
    count: Callable[[], Mapping[str, int]] | None = None
    """Called before every checkpoint by all processes; their sums are logged in the same line."""
    after_save: Callable[[int], None] | None = None
    on_progress: Callable[[int, Scalars], None] | None = None
    """Called after every step, with its scalars; the loss is that of the last logged step, and
    `step_seconds` the mean of the steps since."""


@dataclass
class Training:
    """One stage's training in its folder."""

    objective: Objective
    settings: LoopSettings
    folder: Path
    inputs: Mapping[str, str]
    group: ProcessGroup = field(default_factory=join_group)
    keep: int = 2
    """How many of the newest checkpoints stay."""
    keep_every: int | None = None
    """The newest checkpoint at a multiple of this many steps stays as well."""
    best_by: str | None = None
    """The checkpoint at which this measured scalar was greatest stays as well."""
    _read: Scalars = field(default_factory=dict, init=False)
    _step_seconds: list[float] = field(default_factory=list, init=False)
    """Of the steps since the last line of the log, which holds their mean."""

    def run(self, hooks: Hooks = Hooks()) -> Path:
        """Train to the last step, from the newest checkpoint if there is one; return the last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        model, settings = self.objective.model, self.settings
        model.to(default_device(), torch.float32)
        optimizer = Optimizer(self.objective.trainable(), settings.optim)
        # Halving comes after the optimiser took its masters, and what does not train is kept whole
        # too: otherwise every stage would round the weights that the one before it learned.
        self._resting = {
            name: parameter.detach().clone()
            for name, parameter in unique_parameters(model.modules()).items()
            if name not in optimizer.masters
        }
        model.compute_with(self._compute())
        begin = self._resume(optimizer)
        model.modules().train()
        model.recompute(settings.recompute)
        if settings.compile_trunks:
            model.compile_trunks()
        is_new = latest_checkpoint(self.folder) is None
        self.group.wait()  # nobody saves before everybody has looked
        file, is_first = self.folder / "metrics.jsonl", self.group.is_first
        with MetricLog(file, keep_until_step=begin) if is_first else nullcontext() as log:
            if is_new:
                self._save(0, optimizer, hooks, log)
            for step in range(begin, settings.num_steps):
                if step % STEPS_BETWEEN == 0:
                    return_freed_memory()
                self._step(step, optimizer, hooks, log)
                if (step + 1) % settings.save_every == 0 or step + 1 == settings.num_steps:
                    self._save(step + 1, optimizer, hooks, log)
        return_freed_memory()  # the next stage begins small
        return checkpoint_path(self.folder, settings.num_steps)

    def _step(self, step: int, optimizer: Optimizer, hooks: Hooks, log: MetricLog | None) -> None:
        begin = time.perf_counter()
        waited = hooks.before_step(step) if hooks.before_step else {}
        torch.manual_seed(self.settings.seed * 1_000_003 + step * 1009 + self.group.rank)
        loss, scalars = self.objective.loss(step)
        loss.backward()
        factor = scheduled_factor(step, self.settings.num_steps, self.settings.optim)
        norm = optimizer.step(factor, self.group)
        is_logged = (step + 1) % self.settings.log_every == 0
        if is_logged or not self._read:
            # To read these is to wait for an accelerator, which could compute while the next batch
            # is packed.
            self._read = {"loss": float(loss.detach()), "gradient_norm": float(norm)}
        self._step_seconds.append(time.perf_counter() - begin)
        seconds = sum(self._step_seconds) / len(self._step_seconds)
        row = {**self._read, **scalars, **waited, "rate": factor, "step_seconds": seconds}
        if is_logged:
            self._step_seconds.clear()
            if log is not None:
                log.write(step + 1, row)
        if hooks.on_progress and self.group.is_first:
            hooks.on_progress(step + 1, row)

    def _save(self, step: int, optimizer: Optimizer, hooks: Hooks, log: MetricLog | None) -> None:
        counted = self.group.total(hooks.count()) if hooks.count else {}
        if hooks.measure and log is not None:
            log.write(step, {**hooks.measure(step), **counted})
        path = checkpoint_path(self.folder, step)
        if self.group.is_first:
            save_checkpoint(
                path, self.objective.model, step=step, inputs=self.inputs,
                weights={**self._resting, **optimizer.masters}, extra=optimizer.state(),
            )  # fmt: skip
            best = None if self.best_by is None else best_step(self.folder, self.best_by)
            kept = () if best is None else (best,)
            prune(path.parent, keep=self.keep, every=self.keep_every, protected=kept)
        self.group.wait()
        if hooks.after_save:
            hooks.after_save(step)

    def _resume(self, optimizer: Optimizer) -> int:
        path = latest_checkpoint(self.folder)
        if path is None:
            return 0
        manifest = read_manifest(path)
        if manifest.inputs != dict(self.inputs):
            raise ArtifactError(
                f"{self.folder} was trained from other inputs or settings than the run has now: "
                "use a new --run, or delete this folder to train the stage again"
            )
        weights = load_file(path / "weights.safetensors")
        optimizer.restore(weights, training_tensors(path))
        return int(manifest.settings["step"])

    def _compute(self) -> Compute:
        """Chosen once for a training: a resumed run must compute as the first one did."""
        file, model = self.folder / "journal.jsonl", self.objective.model
        if self.group.is_first and Journal(file).find("precision", 0) is None:
            chosen = model.choose_compute(self.settings, "training")
            # A refresh computes in the same format, but only forward: perhaps with another kernel.
            same = {"precision": chosen.precision, "num_threads": chosen.num_threads}
            settings = self.settings.model_copy(update=same)
            embedding = model.choose_compute(settings, "forward")
            Journal(file).write("precision", 0, **facts_to_keep(chosen, embedding))
        self.group.wait()
        entry = Journal(file).find("precision", 0)
        if entry is None:
            raise ArtifactError(f"{file} holds no precision: train on a file system that all share")
        return kept_for_training(entry)
