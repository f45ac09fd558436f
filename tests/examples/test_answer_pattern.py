"""Patterns as the official evaluation runs them, and none that never ends."""

import json
import os
import re
import time
import warnings
from pathlib import Path

import pytest

from realm.examples.answer_pattern import AnswerPattern

SLOW = r"(a|aa)+$"  # tries every way to write forty as ones and twos
TRAP = "a" * 60 + "b"


@pytest.mark.parametrize(
    ("pattern", "text", "begins", "occurs"),
    [
        ("Tavil", "TAVIL", True, True),
        ("Tavil", "in Tavil", False, True),
        ("1871", "1871 or so", True, True),
        ("^Lomvar$", "Tavil\nLomvar", False, True),
        (r"Sept?(ember)?", "sep", True, True),
        (r"\w+ Br\u00fccke", "die Br\u00dcCKE", True, True),
        (r"\d{4}", "187", False, False),
        ("", "anything", True, True),
    ],
)
def test_where_a_pattern_matches(pattern: str, text: str, begins: bool, occurs: bool) -> None:
    compiled = AnswerPattern(pattern)
    assert compiled.begins(text) is begins
    assert compiled.occurs(text) is occurs


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("(", r"missing \)"),
        ("[a", "unterminated character set"),
        ("a**", "multiple repeat"),
        ("x{2,1}", "min repeat greater"),
        ("(" * 5000 + ")" * 5000, "nested too deeply"),
        ("a{1000000000}", "1,000,000,000 parts"),
        ("((a{1000}){1000}){1000}", "parts"),
        ("(?:(?:[({]{99}){99}b{0,3}){999}", "parts"),
    ],
)
def test_invalid_and_huge_patterns_are_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        AnswerPattern(pattern)


def test_usual_repeats_are_no_reason() -> None:
    assert AnswerPattern(r"(\d{1,2} ){3}[{(]{5}\{9999999\}" + r"\d{4}" * 20)


def test_a_pathological_pattern_is_given_up() -> None:
    pattern = AnswerPattern(SLOW)
    assert pattern.occurs("aaa")
    begin = time.perf_counter()
    with pytest.warns(RuntimeWarning, match="given up"):
        assert not pattern.occurs(TRAP)
    # From now on it occurs nowhere, at no cost.
    assert not pattern.occurs("aaa")
    # The verdict on an answer does not depend on what was searched before.
    assert pattern.begins("aaa")
    assert pattern.spans("aaa") == [(0, 3)]
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("method", ["begins", "spans"])
def test_every_way_of_matching_has_an_end(method: str) -> None:
    with pytest.warns(RuntimeWarning, match="given up"):
        assert not getattr(AnswerPattern(SLOW), method)(TRAP)


def test_real_patterns_match_as_in_the_standard_library() -> None:
    """Differential: the two libraries agree on every pattern of CuratedTREC."""
    folder = Path(os.environ.get("REALM_DATA", "../shared/data")) / "openqa"
    if not folder.is_dir():
        pytest.skip("REALM_DATA is absent")
    rows = [
        json.loads(line)
        for line in (folder / "curatedtrec-train.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    lines = (folder / "squad-dev.jsonl").read_text(encoding="utf-8").splitlines()
    text = " ".join(lines)[:10_000]
    num_found = 0
    for pattern in (answer for row in rows for answer in row["answer"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            standard = re.compile(pattern, re.IGNORECASE | re.UNICODE | re.MULTILINE)
        expected = [m.span() for m in standard.finditer(text) if m.group().strip()]
        assert AnswerPattern(pattern).spans(text) == expected
        num_found += bool(expected)
    assert num_found > 20
