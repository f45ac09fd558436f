"""How long will the rows of a table take, before any is begun?

The plan of each row's recipe, without the stages that a row before it has made by the same
settings.
"""

from dataclasses import asdict, dataclass
from typing import Any

from realm.experiment import Experiment
from realm.plan import Stage, make_plan
from realm.rates import Machine
from realm.tables.making import Job, jobs_of
from realm.tables.row import MeanLengths
from realm.tables.rows import rows_of
from realm.tables.sharing import PART_BY_PATH, key_of
from realm.workload import Workload

_PART_OF_STAGE = {
    "corpus": "corpus",
    "spans": "spans",
    "lexical": "lexical",
    "trunk": "trunk/model",
    "start": "start/checkpoint",
    "trunk-vectors": "start/trunk-vectors",
    "warm-start-embedder": "warm-start/embedder",
    "reading-pairs": "warm-start/pairs",
    "warm-start-reader": "warm-start/reader",
    "index-warm-start": "warm-start/snapshot",
    "pretrain": "pretrain",
    "index": "index",
    "finetune": "finetune",
}
_NOTHING = ""


@dataclass(frozen=True)
class PlannedRow:
    """What is left to do for one row with one seed."""

    job: Job
    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return sum(stage.seconds for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the total."""
        named = {"name": self.job.row.name, "seed": self.job.seed, "seconds": self.seconds}
        return {**named, "stages": [asdict(stage) for stage in self.stages]}


def plan_rows(
    table: str, recipe: Experiment, work: Workload, machine: Machine, *, num_seeds: int
) -> list[PlannedRow]:
    """Estimate every row in the order in which they are made.

    Raises:
        SettingError: there is no such table, or the recipe leaves nothing to compare.
    """
    lengths = MeanLengths(float(work.sentences.mean()), float(work.passages.mean()))
    made = {_NOTHING}
    planned = []
    for job in jobs_of(rows_of(table, recipe, lengths), num_seeds):
        experiment = job.row.experiment(recipe, job.seed)
        own = []
        for stage in make_plan(experiment, work, machine).stages:
            key = _key(stage, experiment)
            if key not in made:
                own.append(stage)
                made.add(key)
        planned.append(PlannedRow(job, tuple(own)))
    return planned


def _key(stage: Stage, experiment: Experiment) -> str:
    """What names a stage's result; where nothing is pre-trained, nothing is indexed after it."""
    if stage.name in ("pretrain", "index") and experiment.pretrain.loop.num_steps == 0:
        return _NOTHING
    path = _PART_OF_STAGE.get(stage.name)
    if path is None:  # every row is evaluated for itself
        return f"{stage.name} {experiment!r}"
    return key_of(PART_BY_PATH[path], experiment)
