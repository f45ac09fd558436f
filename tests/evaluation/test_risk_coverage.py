"""Risk over coverage, by hand."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from realm.cli.main import app
from realm.errors import SourceError
from realm.evaluation.risk_coverage import (
    Judged,
    Point,
    area_under,
    at_coverage,
    draw_risk_coverage,
    read_judged,
    risk_coverage,
    summarise_curve,
)

# Confident and right, two alike of which one is wrong, and one that is wrong.
PREDICTIONS = [
    Judged(0.5, is_correct=False),
    Judged(0.9, is_correct=True),
    Judged(0.5, is_correct=True),
    Judged(0.1, is_correct=False, is_abstained=True),
]


def test_by_hand() -> None:
    points = risk_coverage(PREDICTIONS)
    assert points == [
        Point(0.9, 25, 0),
        Point(0.5, 75, 100 / 3),
        Point(0.1, 100, 50),
    ]
    assert area_under(points) == pytest.approx((25 * 0 + 50 * 100 / 3 + 25 * 50) / 100)
    assert at_coverage(points, 25).threshold == 0.9
    assert at_coverage(points, 26).threshold == 0.5


def test_the_summary() -> None:
    facts = summarise_curve(PREDICTIONS)
    assert facts["num_questions"] == 4
    assert facts["null_passage"] == {"coverage": 75.0, "risk": 33.33}
    assert [point["risk"] for point in facts["points"]] == [0.0] * 2 + [33.33] * 5 + [50.0] * 3


def line(probability: float, null: float, is_correct: bool) -> str:
    answers = [{"text": "a", "probability": probability}]
    return json.dumps({"answers": answers, "null_probability": null, "is_correct": is_correct})


def test_the_command(tmp_path: Path) -> None:
    file, page = tmp_path / "p<b>.jsonl", tmp_path / "page.html"
    nothing = json.dumps({"answers": [], "null_probability": 1.0, "is_correct": False})
    lines = [line(0.9, 0.0, True), line(0.2, 0.7, False), nothing]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = [Judged(0.9, True), Judged(0.2, False, True), Judged(0.0, False, True)]
    assert read_judged(file) == expected
    facts = tmp_path / "facts.json"
    arguments = [
        "evaluate",
        "risk-coverage",
        str(file),
        "--output",
        str(page),
        "--json",
        str(facts),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "null passage" in result.stdout
    assert json.loads(facts.read_text())["null_passage"] == {"coverage": 33.33, "risk": 0.0}
    html = page.read_text(encoding="utf-8")
    assert html == draw_risk_coverage(file.name, expected)
    assert "<svg" in html
    assert "<b>.jsonl" not in html
    assert "$" not in html


def test_a_question_with_another_end_of_line(tmp_path: Path) -> None:
    """Predictions are written as they are: U+2028 ends a line for Python, not in this file."""
    facts = {**json.loads(line(0.9, 0.0, True)), "question": "Who\u2028and\u0085when?"}
    (tmp_path / "file").write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_judged(tmp_path / "file") == [Judged(0.9, True)]


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        read_judged(tmp_path / "none")
    for text, message in (("", "no predictions"), ('{"question": "a"}\n', "line 1"), ("a\n", "1")):
        (tmp_path / "file").write_text(text, encoding="utf-8")
        with pytest.raises(SourceError, match=message):
            read_judged(tmp_path / "file")
