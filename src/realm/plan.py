"""How long will a recipe take, and how much memory, before anything is started?

Stage by stage, from the costs of their steps and passes. For pre-training also the age of the
index: how many steps pass between a checkpoint and the adoption of the snapshot made from it.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from realm.costs import Costs, Step, own_trunk
from realm.experiment import Experiment
from realm.openqa.answerer import QUESTIONS_AT_ONCE
from realm.rates import Machine
from realm.training.loop import LoopSettings
from realm.workload import Workload

# Other work on text, in units of the cutting of the same text on one core (measured on 70,000
# passages of Wikipedia), and one passage's score by BM25.
_TAGGING, _WORDS = 0.8, 0.25
_LEXICAL_SECONDS = 1.4e-8
_RANKINGS = 4  # of every question file: the models of a run, before and after each stage
# A step on a CPU over its parts, each timed alone: batches are small and of many lengths, gradients
# are added up, and texts are made ready in between (1.2 to 1.5 times: docs/performance.md).
_WHOLE_STEP = {"cpu": 1.3}
_MASTER_BYTES, _MOMENT_BYTES, _GRADIENT_BYTES = 4, 8, 4


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str
    seconds: float
    gigabytes: float
    """Peak of what the stage itself holds, of a device's memory where there is one."""
    detail: str = ""
    """Where the time of a step goes."""


@dataclass(frozen=True)
class Plan:
    """The stages of a run on a machine."""

    machine: str
    source: str
    num_passages: int
    stages: tuple[Stage, ...]
    refresh_age: int
    """Steps between a snapshot's checkpoint and its adoption."""
    oldest: int
    """Steps behind the model that the index in use can be."""
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def gigabytes(self) -> float:
        """Of the stage that needs most."""
        return max(stage.gigabytes for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the totals."""
        totals = {"seconds": self.seconds, "gigabytes": self.gigabytes}
        return {**asdict(self), **totals}


def make_plan(experiment: Experiment, work: Workload, machine: Machine) -> Plan:
    """Estimate every stage of `realm run`, on a machine that does nothing else."""
    planner = _Planner(experiment, work, machine)
    stages = tuple(planner.stages())
    notes = list(work.notes)
    if machine.memory_gigabytes < max(stage.gigabytes for stage in stages):
        notes.append(f"{machine.name} has {machine.memory_gigabytes:.0f} GB: it will not fit")
    if experiment.spans.tagger != "rules":
        notes.append("a model that tags takes longer for the spans than is counted here")
    return Plan(
        machine.name, machine.source, work.num_passages, stages,
        *planner.refresh_ages(), tuple(notes),
    )  # fmt: skip


class _Planner:
    def __init__(self, experiment: Experiment, work: Workload, machine: Machine) -> None:
        self._experiment, self._work, self._machine = experiment, work, machine
        self._costs = Costs(experiment, work, machine)
        self._rests = self._costs.trunk_rests

    def stages(self) -> Iterator[Stage]:
        """In the order of a run."""
        yield from self._data()
        yield from self._warm_start()
        yield self._pretrain()
        yield self._forward("index", self._refreshed_seconds())
        if self._experiment.train_questions:
            yield self._finetune()
        if self._experiment.dev_questions:
            yield self._evaluate()

    def refresh_ages(self) -> tuple[int, int]:
        """Steps until a snapshot is adopted, and how old the one in use becomes."""
        refresh = self._experiment.pretrain.refresh
        age = refresh.adoption_lag
        if age is None:
            # Inline, training waits for the snapshot: it is adopted where it was made.
            steps = self._refresh_seconds() / self._seconds_of(self._pretrain_step())
            age = 0 if refresh.mode == "inline" else math.ceil(steps)
        # A refresh that takes longer than its interval leaves out the checkpoints in between.
        rounds = max(1, math.ceil(age / refresh.every))
        return age, age + rounds * refresh.every - 1

    def _data(self) -> Iterator[Stage]:
        one_core = self._work.num_characters / self._machine.cut_characters
        workers = self._experiment.corpus.num_workers or max(1, self._machine.num_threads)
        for name, seconds in (
            ("corpus", one_core / workers),
            ("spans", one_core * _TAGGING),
            ("lexical", one_core * _WORDS),
        ):
            yield Stage(name, seconds, self._machine.base_gigabytes)

    def _warm_start(self) -> Iterator[Stage]:
        settings, costs, work = self._experiment.warm_start, self._costs, self._work
        if self._experiment.has_own_trunk:
            yield self._trunk()
        sample = min(settings.embedder.principal_components_sample, work.num_passages)
        if self._rests:
            yield self._forward("trunk-vectors", costs.embed(work.passages, work.num_passages))
            sample = 0  # it is taken from these
        yield self._forward("start", costs.embed(work.passages, sample))
        loop, cloze = settings.embedder.loop, settings.embedder.objective
        if loop.num_steps:
            step = costs.inverse_cloze(cloze, loop)
            once = costs.teacher_sentences() if cloze.teacher_share else 0.0
            moved = self._rested(self._rests)
            yield self._training("warm-start-embedder", step, loop, moved, once)
        reading, loop = settings.reader.objective, settings.reader.loop
        if loop.num_steps:
            searched = reading.num_queries * work.num_passages * _LEXICAL_SECONDS
            yield Stage("reading-pairs", searched, self._machine.base_gigabytes)
            step = costs.reading(reading, loop)
            yield self._training("warm-start-reader", step, loop, costs.reader.num_weights)
        yield self._forward("index-warm-start", self._snapshot_seconds(rests=self._rests))

    def _trunk(self) -> Stage:
        settings = self._experiment.trunk
        loop, objective = settings.loop, settings.objective
        step = self._costs.masked_language(objective, loop)
        measured = loop.num_saves * math.ceil(settings.num_held_out / objective.batch_size)
        once = measured * self._costs.masked_language(objective, loop, "forward").total
        return self._training("trunk", step, loop, own_trunk(settings).num_weights, once)

    def _pretrain(self) -> Stage:
        settings = self._experiment.pretrain
        loop = settings.loop
        batches = math.ceil(settings.num_held_out / settings.objective.batch_size)
        held_out = self._costs.realm(settings.objective, loop, "forward").total
        asked = self._ranking_seconds(
            min(settings.num_development_questions, sum(self._work.dev_questions))
        )
        once = loop.num_saves * (batches * held_out + asked)
        if settings.refresh.mode == "inline":
            once += settings.num_refreshes * self._refreshed_seconds()
        moved = self._costs.reader.num_weights
        moved += self._rested(settings.objective.embedder_trains == "projection")
        return self._training("pretrain", self._pretrain_step(), loop, moved, once)

    def _finetune(self) -> Stage:
        settings, costs = self._experiment.finetune, self._costs
        loop, objective = settings.loop, settings.objective
        step = costs.open_qa(objective, loop)
        once = self._ranking_seconds(self._work.num_train_questions)  # to choose among them
        once += self._answering_seconds(settings.num_development_questions * (loop.num_saves - 1))
        moved = costs.reader.num_weights + costs.embedder.num_weights
        return self._training("finetune", step, loop, moved, once)

    def _evaluate(self) -> Stage:
        number = sum(self._work.dev_questions)
        embedded = self._costs.embed(self._work.questions, number * _RANKINGS)
        searches = (
            self._machine.search_seconds(self._work.num_passages, 1, self._costs.width)
            + self._work.num_passages * _LEXICAL_SECONDS
        )
        ranked = embedded + number * _RANKINGS * searches
        return self._forward("evaluate", ranked + self._answering_seconds(number))

    def _pretrain_step(self) -> Step:
        settings, machine = self._experiment.pretrain, self._machine
        step = self._costs.realm(settings.objective, settings.loop)
        refresh = settings.refresh
        if refresh.mode == "process" and machine.device == "cpu":
            # The trainer does without the threads of the refresh.
            left = max(1, machine.num_threads - refresh.num_threads)
            step.seconds["trunks"] *= machine.num_threads / left
        return step

    def _refresh_seconds(self) -> float:
        refresh, machine = self._experiment.pretrain.refresh, self._machine
        seconds = self._refreshed_seconds()
        if refresh.mode == "process" and machine.device == "cpu":
            seconds *= max(1.0, machine.num_threads / refresh.num_threads)
        return seconds

    def _refreshed_seconds(self) -> float:
        """A snapshot of what pre-training makes of the embedder."""
        objective = self._experiment.pretrain.objective
        return self._snapshot_seconds(rests=self._costs.rests_throughout(objective))

    def _snapshot_seconds(self, *, rests: bool) -> float:
        number = self._work.num_passages
        if rests:
            return self._costs.project(number)
        return self._costs.embed(self._work.passages, number)

    def _ranking_seconds(self, number: int) -> float:
        """Embedding so many questions and searching for all of them at once."""
        if not number:
            return 0.0
        embedded = self._costs.embed(self._work.questions, number)
        return embedded + self._machine.search_seconds(
            self._work.num_passages, number, self._costs.width
        )

    def _answering_seconds(self, number: int) -> float:
        experiment = self._experiment
        changes = {
            "batch_size": QUESTIONS_AT_ONCE,
            "reader_passages": experiment.retrieval.reader_passages,
        }
        settings = experiment.finetune.objective.model_copy(update=changes)
        step = self._costs.open_qa(settings, experiment.finetune.loop, "forward")
        share = QUESTIONS_AT_ONCE / self._machine.num_devices  # the first process measures alone
        return number * step.total / max(1.0, share)

    def _rested(self, is_resting: bool) -> float:
        costs = self._costs
        projection = costs.embedder.shape.width * costs.width
        return projection if is_resting else self._embedders() + projection

    def _embedders(self, num_towers: int = 0) -> float:
        """Weights of the embedder's trunks."""
        return self._costs.embedder.num_weights * (num_towers or self._costs.num_towers)

    def _training(
        self, name: str, step: Step, loop: LoopSettings, moved: float, once: float = 0.0
    ) -> Stage:
        # Fine-tuning gives the questions a tower of their own.
        num_towers = 2 if name == "finetune" else 0
        whole = self._costs.reader.num_weights + self._embedders(num_towers)
        saved_bytes = 4 * whole + _MOMENT_BYTES * moved
        saving = loop.num_saves * saved_bytes / self._machine.written_bytes
        per_weight = _MASTER_BYTES + _MOMENT_BYTES + _GRADIENT_BYTES
        held = moved * per_weight + 4 * (whole - moved) + 2 * whole + step.kept_bytes
        parts = ", ".join(f"{part} {seconds / step.total:.0%}" for part, seconds in step.longest(3))
        each = self._seconds_of(step)
        detail = f"{loop.num_steps:,} steps of {each:.3g} s: {parts}"
        seconds = loop.num_steps * each + once + saving
        return Stage(name, seconds, self._machine.base_gigabytes + held / 1e9, detail)

    def _seconds_of(self, step: Step) -> float:
        return step.total * _WHOLE_STEP.get(self._machine.device, 1.0)

    def _forward(self, name: str, seconds: float) -> Stage:
        whole = self._costs.reader.num_weights + self._embedders()
        return Stage(name, seconds, self._machine.base_gigabytes + 6 * whole / 1e9)
