"""How many answers are wrong among those that an abstaining system gives?

Questions are sorted by confidence, the probability of the first answer. At each threshold the
coverage is the share of questions that are answered, the risk the share of wrong ones among them
(100 - exact match). The area under the curve sums it up: the lower the better.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realm.errors import SourceError
from realm.evaluation.curves import Curve, draw
from realm.evaluation.report import page

_SHOWN_COVERAGE = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


@dataclass(frozen=True)
class Judged:
    """A prediction's confidence and whether it was right."""

    confidence: float
    is_correct: bool
    is_abstained: bool = False
    """Whether no answer was likelier than the first one."""


@dataclass(frozen=True)
class Point:
    """What answering everything at or above a threshold means, in percent."""

    threshold: float
    coverage: float
    risk: float


def risk_coverage(predictions: Sequence[Judged]) -> list[Point]:
    """The curve, from the most confident prediction on; equal confidences are one point."""
    ranked = sorted(predictions, key=lambda prediction: -prediction.confidence)
    points, num_wrong = [], 0
    for number, prediction in enumerate(ranked, start=1):
        num_wrong += not prediction.is_correct
        is_last_of_equals = (
            number == len(ranked) or ranked[number].confidence != prediction.confidence
        )
        if is_last_of_equals:
            coverage, risk = 100 * number / len(ranked), 100 * num_wrong / number
            points.append(Point(prediction.confidence, coverage, risk))
    return points


def area_under(points: Sequence[Point]) -> float:
    """Mean risk over all coverages, in percent: each question adds the risk where it comes in."""
    area, covered = 0.0, 0.0
    for point in points:
        area += (point.coverage - covered) * point.risk
        covered = point.coverage
    return area / covered if covered else 0.0


def at_coverage(points: Sequence[Point], coverage: float) -> Point:
    """The first point that answers at least so many percent of the questions."""
    return next(point for point in points if point.coverage >= coverage - 1e-9)


def summarise_curve(predictions: Sequence[Judged]) -> dict[str, Any]:
    """The curve at round coverages, its area, and where the null passage alone decides."""
    points = risk_coverage(predictions)
    answered = [prediction for prediction in predictions if not prediction.is_abstained]
    num_wrong = sum(not prediction.is_correct for prediction in answered)
    shown = [at_coverage(points, coverage) for coverage in _SHOWN_COVERAGE]
    return {
        "num_questions": len(predictions),
        "area": round(area_under(points), 2),
        "null_passage": {
            "coverage": round(100 * len(answered) / len(predictions), 2),
            "risk": round(100 * num_wrong / len(answered), 2) if answered else 0.0,
        },
        "points": [
            {
                "threshold": round(point.threshold, 4),
                "coverage": round(point.coverage, 2),
                "risk": round(point.risk, 2),
            }
            for point in shown
        ],
    }


def read_judged(file: Path) -> list[Judged]:
    """Read what `realm evaluate open-qa --predictions` wrote.

    Raises:
        SourceError: the file is missing, empty, or no such file.
    """
    judged = []
    try:
        # Not splitlines: a question may hold other characters that end lines for Python.
        lines = file.read_text(encoding="utf-8").split("\n")
        for line in filter(str.strip, lines):
            facts = json.loads(line)
            answers = facts["answers"]
            confidence = float(answers[0]["probability"]) if answers else 0.0
            is_abstained = float(facts["null_probability"]) > confidence or not answers
            judged.append(Judged(confidence, bool(facts["is_correct"]), is_abstained))
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {file}: check the path") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SourceError(
            f"{file}, line {len(judged) + 1}: no prediction: give a file that `realm evaluate "
            "open-qa --predictions` wrote"
        ) from error
    if not judged:
        raise SourceError(f"{file} holds no predictions: give a file that has some")
    return judged


def draw_risk_coverage(name: str, predictions: Sequence[Judged]) -> str:
    """A page with the curve, in the style of a run's report."""
    points = [(point.coverage, point.risk) for point in risk_coverage(predictions)]
    facts = summarise_curve(predictions)
    null = facts["null_passage"]
    note = (
        f"Mean risk {facts['area']:.1f}%. Where the null passage alone decides, "
        f"{null['coverage']:.1f}% are answered and {null['risk']:.1f}% of those are wrong."
    )
    figure = draw(
        "Wrong answers (%) among those that are given, over questions answered (%)",
        [Curve("risk", points)],
        note=note,
        x_name="%",
    )
    number = f"<li><b>{len(predictions):,}</b> <span>questions</span></li>"
    return page(f"Risk and coverage: {name}", {"facts": number, "figures": figure})
