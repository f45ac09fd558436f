"""Can a reader trust the encyclopedia: is it whole, and does no test fact stand in training?"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import pytest

_STOP_WORDS = """
    a about after also an and another any are as at be been before being between but by call
    called can could did do does down during each first for from had has have having he her his how
    i if in into is it its last many may might more most much must name named no nor not of off on
    one only onto or other out over s she should so some such than that the their them then there
    these they this those through to under until up us very was were what when where which while
    who whom whose why will with without would you
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

Row = dict[str, Any]


@cache
def _rows(name: str) -> tuple[Row, ...]:
    text = (files("realm.demo") / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return tuple(json.loads(line) for line in text[:-1].split("\n"))


@cache
def _articles() -> dict[str, Row]:
    return {row["id"]: row for row in _rows("articles.jsonl")}


def _train() -> tuple[Row, ...]:
    return _rows("questions-train.jsonl")


def _test() -> tuple[Row, ...]:
    return _rows("questions-test.jsonl")


def _stands_in(answer: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None


def _content_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower())) - STOP_WORDS


def _facts(questions: Iterable[Row]) -> set[tuple[str, str]]:
    return {
        (answer.lower(), document)
        for row in questions
        for answer in row["answer"]
        for document in row["documents"]
    }


def test_every_line_is_an_object_with_the_keys_of_its_file() -> None:
    for row in _rows("articles.jsonl"):
        assert list(row) == ["id", "title", "text"]
        assert all(isinstance(value, str) and value == value.strip() for value in row.values())
        assert all(row.values())
    for row in (*_train(), *_test()):
        assert list(row) == ["question", "answer", "documents"]
        assert row["question"].endswith(("?", "."))
        assert row["answer"]
        assert row["documents"]


def test_encyclopedia_has_the_promised_size() -> None:
    assert len(_rows("articles.jsonl")) >= 300
    assert sum(len(row["text"].split()) for row in _rows("articles.jsonl")) >= 30_000
    assert len(_train()) >= 700
    assert len(_test()) >= 300


@pytest.mark.parametrize("key", ["id", "title", "text"])
def test_no_two_articles_are_called_alike(key: str) -> None:
    counts = Counter(row[key] for row in _rows("articles.jsonl"))
    assert [value for value, count in counts.items() if count > 1] == []


def test_no_question_is_asked_twice() -> None:
    counts = Counter(row["question"].lower() for row in (*_train(), *_test()))
    assert [question for question, count in counts.items() if count > 1] == []


def test_every_answer_stands_word_for_word_in_every_named_article() -> None:
    missing = [
        (row["question"], document)
        for row in (*_train(), *_test())
        for document in row["documents"]
        if not any(_stands_in(answer, _articles()[document]["text"]) for answer in row["answer"])
    ]
    assert missing == []


def test_no_question_holds_its_answer() -> None:
    assert [
        row["question"]
        for row in (*_train(), *_test())
        if any(_stands_in(answer.lower(), row["question"].lower()) for answer in row["answer"])
    ] == []


def test_every_test_fact_stands_in_two_articles() -> None:
    assert [row["question"] for row in _test() if len(set(row["documents"])) < 2] == []


def test_no_test_fact_is_asked_in_training() -> None:
    assert _facts(_test()) & _facts(_train()) == set()


def test_questions_use_other_words_than_their_evidence() -> None:
    shares = []
    for row in (*_train(), *_test()):
        words = _content_words(row["question"])
        for document in row["documents"]:
            article = _articles()[document]
            evidence = _content_words(f"{article['title']} {article['text']}")
            shares.append(len(words & evidence) / len(words))
    assert sum(shares) / len(shares) < 0.5


def test_questions_open_in_many_ways() -> None:
    questions = (*_train(), *_test())
    openings = Counter(" ".join(row["question"].lower().split()[:3]) for row in questions)
    assert max(openings.values()) <= 0.05 * len(questions)
