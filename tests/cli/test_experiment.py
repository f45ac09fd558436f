"""Does a table come out of a recipe, and does a stopped one go on to the same numbers?"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, realm
from tiny_recipe import write_tiny_recipe

from realm import stages
from realm.artifact import read_manifest
from realm.stages import Run
from realm.tables import making


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory, corpus_source: Path, trunk_folder: Path
) -> Path:
    """Every stage with two steps; development questions to measure by."""
    folder = tmp_path_factory.mktemp("recipes")
    questions = folder / "small-dev.jsonl"
    questions.write_text(
        '{"question": "Who designed the Lomvar Bridge?", "answer": ["Ida Renquist"], '
        '"doc": "article-1"}\n'
        '{"question": "Where was Anton Brisk born?", "answer": ["Tavil"], "doc": "article-4"}\n',
        encoding="utf-8",
    )
    return write_tiny_recipe(folder / "small.toml", corpus_source, questions, trunk_folder)


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two rows of table 2 and all that they share."""
    run = tmp_path_factory.mktemp("runs") / "small"
    rows = ("--rows", "realm", "--rows", "realm-encoder")
    result = realm("experiment", "table2", "--run", run, "--recipe", recipe, *rows, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "REALM against realm-encoder: " in result.stderr
    assert "38.2" in result.stdout
    return run


def numbers(run: Path) -> Any:
    """The report without what differs from one making to another: times and directories."""
    report = json.loads((run / "table2" / "report.json").read_text(encoding="utf-8"))
    del report["minutes"], report["minutes_of_run"]
    for row in report["rows"]:
        del row["minutes"], row["command"]
    return report


def test_rows_share_what_is_the_same_and_are_ordinary_runs(finished: Path) -> None:
    first, second = (finished / "rows" / name for name in ("realm-0", "realm-encoder-0"))
    for path in ("corpus", "lexical", "warm-start/pairs", "index"):
        assert (first / path / "manifest.json").samefile(second / path / "manifest.json")
    weights = "checkpoints/step-000000002/weights.safetensors"
    assert (first / "pretrain" / weights).samefile(second / "pretrain" / weights)
    assert not (first / "finetune" / weights).samefile(second / "finetune" / weights)
    assert "pretrain" not in (second / "stages.jsonl").read_text(encoding="utf-8")
    # Of finished trainings one checkpoint stays, here the last one.
    kept = (second / "finetune" / "checkpoints").iterdir()
    assert [path.name for path in kept] == ["step-000000002"]
    run = Run.open(second)
    assert run.experiment.finetune.retriever_from == "warm-start"
    assert run.finetune() == run.checkpoint("finetune")
    result = realm("ask", "Where is Tavil?", "--run", second, "--json")
    assert result.exit_code == 0, result.output
    assert realm("info", "--run", second, "--verify").exit_code == 0


def test_a_second_start_finds_everything_done(finished: Path) -> None:
    before, folder = numbers(finished), finished / "rows" / "realm-0"
    stage_log = (folder / "stages.jsonl").read_bytes()
    result = realm("experiment", "table2", "--run", finished, "--rows", "realm", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert (folder / "stages.jsonl").read_bytes() == stage_log
    # The other row was not asked for now, but is finished.
    assert numbers(finished) == before


def test_a_table_that_was_killed_goes_on_to_the_same_numbers(
    recipe: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rows = tmp_path / "run", ("--rows", "realm", "--rows", "realm-encoder", "--seeds", "1")
    start = ("experiment", "table2", "--run", run, "--recipe", recipe, *rows)

    def killed_at(module: Any, name: str) -> None:
        with monkeypatch.context() as patch:

            def stop(*arguments: object, **named: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(module, name, stop)
            result = realm(*start)
            assert result.exit_code == 130
            assert "stopped; start again to go on" in result.stderr

    killed_at(stages, "OpenQaObjective")
    assert not (run / "table2").exists()
    trained = read_manifest(Run.open(run / "rows" / "realm-0").checkpoint("pretrain")).fingerprint
    killed_at(making, "evaluate")
    assert realm(*start).exit_code == 0
    assert numbers(run) == numbers(finished)
    for name in ("realm-0", "realm-encoder-0"):
        row = Run.open(run / "rows" / name)
        assert read_manifest(row.checkpoint("pretrain")).fingerprint == trained


def test_rows_made_at_once_come_to_the_same_numbers(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    run, rows = tmp_path / "run", ("--rows", "realm", "--rows", "realm-encoder", "--seeds", "1")
    start = ("experiment", "table2", "--run", run, "--recipe", recipe, *rows, "--jobs", "2")
    result = realm(*start)
    assert result.exit_code == 0, result.output
    # The second row shares the pre-training of the first, and waits for it.
    assert result.stderr.index("finished: REALM, seed 0") > 0
    first, second = (run / "rows" / name for name in ("realm-0", "realm-encoder-0"))
    weights = "pretrain/checkpoints/step-000000002/weights.safetensors"
    assert (first / weights).samefile(second / weights)
    assert numbers(run) == numbers(finished)
    assert [path.read_text(encoding="utf-8") for path in (run / "rows").glob("*.log")] == ["", ""]


def test_a_row_that_fails_beside_others_is_named_with_its_log(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "rows" / "realm-encoder-0" / "finetune")
    (run / "rows" / "realm-encoder-0" / "warm-start" / "reader").rename(tmp_path / "lost")
    (run / "rows" / "realm-encoder-0" / "index" / "manifest.json").write_text("{", encoding="utf-8")
    message = error_of(
        realm("experiment", "table2", "--run", run, "--jobs", "2", "--rows", "realm-encoder")
    )
    log = run / "rows" / "realm-encoder-0.log"
    assert f"realm-encoder-0 failed: read {log}" in message
    assert log.read_text(encoding="utf-8")


def test_what_cannot_be_made_is_said_at_once(recipe: Path, finished: Path, tmp_path: Path) -> None:
    existing = ("--run", finished)
    assert "no table table9" in error_of(realm("experiment", "table9", *existing))
    unknown = realm("experiment", "table2", *existing, "--rows", "rael")
    assert "table2 has no row rael: choose from realm, realm-retriever" in error_of(unknown)
    few = Run.open(finished).experiment.dev_questions[0]
    folds = realm("experiment", "table2", *existing, "--rows", "realm", "--folds", few)
    assert "has 2 different questions, too few for 5 folds" in error_of(folds)
    for asked in ("dev_questions", "train_questions"):
        missing = ("--set", f"{asked}=['nobody.jsonl']", "--recipe", recipe)
        start = ("experiment", "table2", "--run", tmp_path / "new", *missing)
        assert "nobody.jsonl" in error_of(realm(*start))
        assert not (tmp_path / "new").exists()
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    longer = ("--set", "finetune.loop.num_steps=3", "--rows", "realm")
    message = error_of(realm("experiment", "table2", "--run", run, *longer))
    assert "rows were begun with other settings (finetune.loop.num_steps)" in message
    assert Run.open(run).experiment == Run.open(finished).experiment
