"""Does the plan of a table leave out what its rows share?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realm.experiment import Experiment, read_recipe
from realm.plan import make_plan
from realm.rates import Machine, open_machine
from realm.tables.planning import PlannedRow, plan_rows
from realm.workload import Workload
from tiny_settings import planned_experiment

WORK = Workload(
    num_passages=10_000, num_characters=5e6,
    passages=np.array([40]), sentences=np.array([20]), questions=np.array([12]),
    num_train_questions=100, dev_questions=(50,), notes=(),
)  # fmt: skip


@pytest.fixture
def recipe(trunk_folder: Path) -> Experiment:
    return planned_experiment(trunk_folder)


@pytest.fixture
def machine() -> Machine:
    return open_machine("2-core-epyc")


def stages(row: PlannedRow) -> list[str]:
    return [stage.name for stage in row.stages]


def test_a_row_is_planned_without_what_a_row_before_it_made(
    recipe: Experiment, machine: Machine
) -> None:
    planned = plan_rows("table2", recipe, WORK, machine, num_seeds=2)
    rows = {(row.job.row.name, row.job.seed): row for row in planned}
    assert len(rows) == 8 + 2
    whole = make_plan(recipe, WORK, machine)
    assert rows["realm", 0].stages == whole.stages
    assert stages(rows["realm-encoder", 0]) == ["finetune", "evaluate"]
    own = ["pretrain", "index", "finetune", "evaluate"]
    assert stages(rows["random-spans", 0]) == stages(rows["realm", 1]) == own
    # It learns to retrieve for longer, and is not shown how to read.
    assert stages(rows["orqa", 0]) == ["warm-start-embedder", "index-warm-start", *own]


def test_as_many_wordpieces_take_about_as_long(machine: Machine) -> None:
    small = read_recipe(str(Path(__file__).parents[2] / "recipes" / "small.toml"))
    work = replace(WORK, passages=np.array([130]), sentences=np.array([30]))
    planned = {
        row.job.row.name: row for row in plan_rows("table2", small, work, machine, num_seeds=1)
    }
    trainings = ("warm-start-reader", "pretrain")
    seconds = {
        name: sum(stage.seconds for stage in planned[name].stages if stage.name in trainings)
        for name in ("realm", "orqa")
    }
    # Trunks cost the same; more queries have more masks, of which each is a choice among all words.
    assert seconds["orqa"] == pytest.approx(seconds["realm"], rel=0.3)


def test_what_is_not_pretrained_needs_no_time_for_it(recipe: Experiment, machine: Machine) -> None:
    planned = {
        row.job.row.name: row for row in plan_rows("table1", recipe, WORK, machine, num_seeds=1)
    }
    assert "pretrain" not in stages(planned["bm25"])
    assert stages(planned["hybrid"]) == ["evaluate"]
