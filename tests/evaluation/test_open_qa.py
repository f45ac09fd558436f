"""What bounds exact match: the best of several answers, and what the reader could point at."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.evaluation.metrics import METRIC_VERSION
from realm.evaluation.open_qa import (
    abstains,
    can_point_at_answer,
    judge,
    predict,
    sample_of,
    summarise,
    write_predictions,
)
from realm.examples.question import Question
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model
from realm.openqa.answerer import Answer, Answered, Answerer, EvidencePassage
from realm.openqa.objective import OpenQaSettings


def answered(*texts: str) -> Answered:
    passage = EvidencePassage(0, "", "", 0, 0, 1.0)
    answers = tuple(Answer(text, 1 / len(texts), "d", 0, 1, passage) for text in texts)
    return Answered("?", answers, 0.0)


def test_the_best_of_the_first_answers_by_hand() -> None:
    question = Question("?", ("Tavil", "the Sorna"))
    six = [*"bcdef", "Sorna"]
    predictions = [
        judge(question, answered("Tavil.", "b")),
        judge(question, answered("a b", "sorna")),
        judge(question, answered(*six)),
        judge(question, answered()),
    ]
    assert [p.first_correct for p in predictions] == [1, 2, 6, None]
    summary = summarise(predictions)
    assert summary["exact_match"] == 25.0
    assert summary["exact_match_of_best"] == {"1": 25.0, "5": 50.0, "20": 75.0}
    # What was pointed at could be pointed at; more is known from the passages alone.
    assert summary["reader_oracle"] == 75.0
    predictions[-1] = judge(question, answered(), is_readable=True)
    assert summarise(predictions)["reader_oracle"] == 100.0


def test_a_regular_expression_judges_all_answers() -> None:
    question = Question("?", (r"18\d\d",), is_regex=True)
    assert judge(question, answered("in 1871", "1871 or so")).first_correct == 2


@pytest.fixture
def answerer(small_model: Model, small_store: PassageStore, small_snapshot: Snapshot) -> Answerer:
    class InOrder:
        """Gives every question the first passages of the corpus."""

        def search(self, questions: Sequence[str], vectors: Tensor, k: int) -> Tensor:
            self.asked = [*getattr(self, "asked", []), *questions]
            return torch.arange(k).repeat(len(questions), 1)

    settings = OpenQaSettings(reader_passages=2)
    return Answerer(small_model, small_store, small_snapshot, InOrder(), settings)


def test_what_the_reader_can_point_at(answerer: Answerer) -> None:
    # Row 0 begins: Ida Renquist was an engineer from Lomvar. Spans have four wordpieces at most.
    name, sentence = Question("?", ("Lomvar",)), Question("?", ("was an engineer from Lomvar",))
    assert can_point_at_answer(answerer, name, [0])
    assert can_point_at_answer(answerer, name, [-1, 0])
    assert not can_point_at_answer(answerer, name, [-1])
    assert not can_point_at_answer(answerer, name, [])
    assert not can_point_at_answer(answerer, sentence, [0])
    assert not can_point_at_answer(answerer, Question("?", ("Nowhere",)), [0, 1, 2])
    assert can_point_at_answer(answerer, Question("?", ("Lom(var|vik)",), is_regex=True), [0])


def test_an_answer_that_packing_cuts_off_cannot_be_pointed_at(answerer: Answerer) -> None:
    words = answerer.store.text(0).split()
    first, last = Question("?", (words[0],)), Question("?", (words[-1],))
    assert can_point_at_answer(answerer, last, [0])
    packer = answerer.model.packer
    packer.settings = packer.settings.model_copy(update={"passage_tokens": 12})
    assert can_point_at_answer(answerer, first, [0])
    assert not can_point_at_answer(answerer, last, [0])


def test_predictions_know_what_was_read(answerer: Answerer, tmp_path: Path) -> None:
    # Rows 0 and 1 are read; the last row has words of its own.
    store = answerer.store
    read = {word for row in (0, 1) for word in store.text(row).split()}
    elsewhere = next(w for w in store.text(len(store) - 1).split() if w not in read)
    questions = [Question("Where?", ("Lomvar",)), Question("Who?", (elsewhere,))]
    predictions = predict(answerer, questions)
    assert [p.is_readable for p in predictions] == [True, False]
    assert vars(answerer.retriever)["asked"] == ["Where?", "Who?"]  # each of them once
    assert summarise(predictions)["reader_oracle"] == 50.0
    assert all(len(p.answered.answers) > 5 for p in predictions)
    write_predictions(tmp_path / "p.jsonl", predictions)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()]
    assert [row["is_readable"] for row in rows] == [True, False]
    assert all(len(row["answers"]) == 5 for row in rows)
    assert {"question", "answer", "prediction", "null_probability"} <= set(rows[0])


def test_changed_matching_has_another_version() -> None:
    assert METRIC_VERSION == "2"


def test_rows_are_of_the_corpus(answerer: Answerer) -> None:
    assert np.array_equal(answerer.retrieve(["?"], 3).numpy(), [[0, 1, 2]])


def test_a_summary_by_hand() -> None:
    """Means over questions of what differs from exact match: F1, and who would rather be silent."""
    question = Question("?", ("Queen Maritha",))
    sure, unsure = answered("Maritha"), replace(answered("Maritha"), null_probability=1.5)
    said = (sure, unsure, answered("x"), answered(), answered("y"))
    predictions = [judge(question, each) for each in said]
    assert [abstains(p.answered) for p in predictions] == [False, True, False, True, False]
    summary = summarise(predictions)
    assert summary["exact_match"] == 0.0
    assert summary["f1"] == pytest.approx(100 * 2 * (2 / 3) / 5, abs=0.01)
    assert summary["abstained"] == 40.0


def test_a_regular_expression_has_no_f1_of_its_own() -> None:
    """As in CuratedTREC: right or wrong, however many words the answer shares with the pattern."""
    question = Question("?", (r"Queen (Maritha|Oda)",), is_regex=True)
    assert judge(question, answered("Queen Oda")).f1 == 1.0
    assert judge(question, answered("Queen")).f1 == 0.0


def test_a_sample_is_drawn_from_all_questions_and_always_the_same() -> None:
    questions = [Question(str(number), ("x",)) for number in range(50)]
    sample = [int(question.question) for question in sample_of(questions, 10)]
    assert sample == [int(question.question) for question in sample_of(questions, 10)]
    assert len({*sample}) == 10
    assert max(sample) > 25
    assert sorted(q.question for q in sample_of(questions, 99)) == sorted(map(str, range(50)))
