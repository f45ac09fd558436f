"""Are the steps of a table scaled to the time that is left for it?"""

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from realm.experiment import read_recipe, with_overrides
from realm.tables.making import jobs_of
from realm.tables.row import MeanLengths
from realm.tables.rows import rows_of

SCRIPT = Path(__file__).parents[1] / "scripts" / "tables_within.py"
SECONDS = {
    "trunk": 9.0, "warm_start.embedder": 0.1, "warm_start.reader": 0.1, "pretrain": 1.0,
    "finetune": 0.5,
}  # fmt: skip


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables_within", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_step_is_timed_once_what_is_done_once_is_done(script: ModuleType, tmp_path: Path) -> None:
    for path in ("trunk", *script.LOGS.values()):
        (tmp_path / path).mkdir(parents=True)
        rows = [{"step": n, "step_seconds": s} for n, s in enumerate([9, 5, 2, 1, 3])]
        lines = [*rows, {"step": 5, "held_out_loss": 1.0}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / path / "metrics.jsonl").write_text(text, encoding="utf-8")
    assert dict(script.measured(tmp_path)) == dict.fromkeys(SECONDS, 2)


def test_what_rows_share_is_counted_once(script: ModuleType) -> None:
    recipe = read_recipe("tables")
    first, retriever, *_ = rows_of("table2", recipe, MeanLengths(30, 150))
    alone = script.seconds_of_steps(jobs_of([first], 1), recipe, SECONDS)
    # 800 + 1,000 steps of a tenth, 1,500 of one and 1,000 of half a second; the trunk is there.
    assert alone == pytest.approx(80 + 100 + 1500 + 500)
    both = script.seconds_of_steps(jobs_of([first, retriever], 1), recipe, SECONDS)
    assert both == pytest.approx(alone + 500)


@pytest.mark.parametrize("left", [3_000.0, 30_000.0])
def test_steps_grow_with_the_time_that_is_left(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    recipe = read_recipe("tables")
    monkeypatch.setattr(script, "mean_lengths", lambda *_: MeanLengths(30, 150))
    base: Any = SimpleNamespace(experiment=recipe, corpus=lambda: None)
    options = argparse.Namespace(jobs=12, seeds=1)
    changes = script.scaled(base, SECONDS, left, options)
    chosen = with_overrides(recipe, [f"{name}={value}" for name, value in changes.items()])
    factor = changes["pretrain.loop.num_steps"] / recipe.pretrain.loop.num_steps
    assert script.LEAST <= factor <= script.MOST
    assert changes["finetune.loop.num_steps"] == pytest.approx(1000 * factor, rel=0.01)
    # A snapshot is made from a checkpoint, as often as in the recipe.
    assert chosen.pretrain.refresh.every == chosen.pretrain.loop.save_every
    assert chosen.pretrain.loop.num_steps // chosen.pretrain.refresh.every in (4, 5)
    jobs = [job for table in ("table1", "table2") for job in jobs_of(
        rows_of(table, recipe, MeanLengths(30, 150)), 1)]  # fmt: skip
    planned = script.OVERLAP * factor * script.seconds_of_steps(jobs, recipe, SECONDS)
    assert planned == pytest.approx(left - script.SECONDS_BESIDE * len(jobs) / 12, rel=0.02)
