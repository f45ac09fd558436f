"""Does the page of a run show what is there, leave out what is not, and stand alone?"""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from realm.evaluation.curves import Curve, draw, thin, ticks
from realm.evaluation.report import bounds, write_report


def test_an_empty_run_gives_a_page(tmp_path: Path) -> None:
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<svg" not in page
    assert "$" not in page


def test_a_page_shows_curves_and_results(tmp_path: Path) -> None:
    (tmp_path / "pretrain").mkdir()
    rows = [{"step": step, "loss": 1 / step, "staleness": step % 3} for step in range(1, 9)]
    log = "".join(json.dumps(row) + "\n" for row in rows)
    log += '{"step": 8, "held_out_loss": null}\n'  # a value that was not finite
    log += '{"step": 0, "development_recall_at_5": 50.0}\n'
    log += '{"step": 8, "development_recall_at_5": 60.0}\n'
    (tmp_path / "pretrain" / "metrics.jsonl").write_text(log, encoding="utf-8")
    systems = {
        name: {"recall": {"1": value, "5": value + 10.0}}
        for name, value in {"bm25": 30.0, "warm-start": 20.0, "pretrain": 40.0}.items()
    }
    report = {"num_questions": 1086, "systems": systems, "differences": []}
    (tmp_path / "evaluation").mkdir()
    file = tmp_path / "evaluation" / "retrieval-<dev>.json"
    file.write_text(json.dumps(report), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("<svg") == 4  # loss, staleness, recall while training and by file
    assert "Recall@5 of development questions" in page
    assert "<b>40.0</b>" in page
    assert "1,086" in page
    assert "&lt;dev&gt;" in page
    assert "<dev>" not in page


def test_a_figure_is_sound_svg() -> None:
    curve = Curve("a & b", [(0, 0.0), (5, 10.0), (10, -5.0)])
    figure = draw("T < 1", [curve, Curve("empty", [])])
    svg = re.search("<svg.*</svg>", figure)
    assert svg is not None
    root = ElementTree.fromstring(svg.group())
    (line,) = root.iter("polyline")
    # Ticks go from -5 to 10 over the height of 174 that the margins leave, steps over 398.
    assert line.attrib["points"] == "52.0,126.0 251.0,10.0 450.0,184.0"
    assert "empty" not in figure
    assert draw("nothing", [Curve("empty", [])]) == ""


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1.0]),
        (-3.0, 8.0, [-5, 0, 5, 10]),
        (2.0, 2.0, [1, 1.5, 2, 2.5, 3]),
        (0.0, 0.0, [-0.5, -0.25, 0, 0.25, 0.5]),
        (1234.0, 5678.0, [0, 2000, 4000, 6000]),
    ],
)
def test_ticks_by_hand(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_long_curves_are_averaged() -> None:
    points = [(float(step), float(step % 2)) for step in range(10_000)]
    thinned = thin(points)
    assert len(thinned) <= 240
    assert thinned[0] == pytest.approx((20.5, 0.5))
    assert thin(points[:5]) == points[:5]


def test_bounds_that_one_article_cannot_tell() -> None:
    assert bounds({"low": None, "high": None}) == "unknown: one article is no sample"
    assert bounds({"low": -0.25, "high": 1.0}) == "-0.2 to +1.0"
