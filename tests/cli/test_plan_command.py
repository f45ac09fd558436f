"""Does the command line say what a recipe takes, and what this machine can?"""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, realm

from realm import rates
from realm.rates import open_machine


def test_the_paper_on_eight_accelerators() -> None:
    result = realm("plan", "paper", "--machine", "8xA100", "--passages", "13353718", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["num_passages"] == 13_353_718
    assert facts["machine"] == "8xA100"
    seconds = {stage["name"]: stage["seconds"] for stage in facts["stages"]}
    assert facts["seconds"] == pytest.approx(sum(seconds.values()))
    # 200,000 steps of 512 queries, each read with 8 candidates, are most of it.
    assert seconds["pretrain"] == max(seconds.values())


def test_a_plan_is_a_table_with_what_was_assumed() -> None:
    result = realm("plan", "paper", "--machine", "8xA100", "--set", "pretrain.loop.num_steps=10")
    assert "10 steps of" in result.stdout
    assert "steps old when it is adopted" in result.stdout
    assert "1,000,000 passages are assumed" in result.stderr
    assert "rates: data sheet" in result.stderr


def test_a_table_is_planned_row_by_row() -> None:
    questions = "['a.jsonl']"
    arguments = (
        "plan", "paper", "--machine", "8xA100", "--passages", "13353718", "--experiment", "table2",
        "--set", f"train_questions={questions}", "--set", f"dev_questions={questions}",
    )  # fmt: skip
    result = realm(*arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(realm(*arguments, "--json").stdout)["rows"]
    assert {(row["name"], row["seed"]) for row in rows} >= {("realm", 2), ("stale-index", 0)}
    assert all(row["seconds"] >= 0 and row["stages"] for row in rows)
    for title in ("REALM with random span masks", "Baseline (ORQA)", "all"):
        assert title in result.stdout


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What this machine was to be measured for, without a measurement."""
    asked: list[Any] = []

    def measure(*facts: object) -> rates.Machine:
        asked.extend(facts)
        return open_machine("2-core-epyc")

    monkeypatch.setattr(rates, "measure_machine", measure)
    return asked


def test_this_machine_is_measured_for_the_recipe(asked: list[Any], trunk_folder: Path) -> None:
    trunk = f"'{trunk_folder}'"
    result = realm(
        "plan", "demo", "--set", f"embedder.trunk={trunk}", "--set", f"reader.trunk={trunk}",
        "--set", "corpus.passage_tokens=64",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    shapes, lengths, _ = asked
    assert [shape.width for shape in shapes] == [32]
    assert lengths == (32, 51, 83)  # half a query, a passage that is filled to 80%, both


def test_a_trunk_that_is_trained_here_is_planned_by_its_shape(
    asked: list[Any], trunk_folder: Path, corpus_source: Path
) -> None:
    changes = (
        f"trunk.vocabulary_of='{trunk_folder}'", "reader.trunk=own", f"sources=['{corpus_source}']",
        "train_questions=[]", "dev_questions=[]",
    )  # fmt: skip
    options = [word for change in changes for word in ("--set", change)]
    result = realm("plan", "mini", *options, "--json")
    assert result.exit_code == 0, result.output
    shapes, *_ = asked
    assert [shape.width for shape in shapes] == [384]
    facts = json.loads(result.stdout)
    assert facts["num_passages"] == 12
    assert "trunk" in [stage["name"] for stage in facts["stages"]]


def test_the_machine_is_shown_and_written_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rates, "measure_machine", lambda: open_machine("2-core-epyc"))
    shown = realm("info", "--machine")
    assert shown.exit_code == 0
    for word in ("training precision", "bf16", "wordpieces/s forward", "exact search"):
        assert word in shown.stdout
    file = tmp_path / "machine.json"
    file.write_text(realm("info", "--machine", "--json").stdout, encoding="utf-8")
    planned = realm("plan", "demo", "--machine", file, "--json")
    assert json.loads(planned.stdout)["machine"] == "2-core-epyc"


def test_bad_requests_end_with_one_line() -> None:
    assert "give --run RUN, or --machine" in error_of(realm("info"))
    assert "there is no machine cray" in error_of(realm("plan", "demo", "--machine", "cray"))
    assert "there is no recipe nothing" in error_of(realm("plan", "nothing"))
