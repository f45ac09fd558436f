"""How often is the first answer right?

Exact match and F1 of the best non-null answer, and of abstaining systems the share that they
would have answered; every prediction is kept for reading the errors. Two bounds say where an
answer was lost: whether one of the first k answers is right, and the reader oracle (ORQA),
whether the reader could have pointed at a right answer in the passages that it was given.
"""

import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from realm.artifact import write_atomically
from realm.evaluation.metrics import f1, is_correct
from realm.examples.question import Question
from realm.examples.wordpieces import wordpieces
from realm.index.encode import pack_joint
from realm.openqa.answerer import Answered, Answerer
from realm.openqa.labels import answer_token_spans
from realm.retrieval.retriever import Ranker

BEST_OF = (1, 5, 20)  # first answers of which the best one is judged
_AT_ONCE = 64
_SEED = (0, 50)
_ANSWERS_WRITTEN = 5


@dataclass(frozen=True)
class Prediction:
    """What the system said to one question, and whether it was right."""

    question: Question
    answered: Answered
    is_correct: bool
    f1: float
    first_correct: int | None = None
    """Rank of the first right answer, from 1."""
    is_readable: bool = False
    """Whether a right answer stood in the passages that were read."""

    @property
    def text(self) -> str:
        """The first answer; empty where there is none."""
        return self.answered.answers[0].text if self.answered.answers else ""


def abstains(answered: Answered) -> bool:
    """Whether it is likelier that no passage answers than that the first answer is right."""
    answers = answered.answers
    return not answers or answered.null_probability > answers[0].probability


def predict(
    answerer: Answerer,
    questions: Sequence[Question],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Answer and judge every question; `on_progress` gets the number done."""
    remembering = copy(answerer)
    remembering.retriever = ranker = _Remembering(answerer.retriever)
    predictions: list[Prediction] = []
    for begin in range(0, len(questions), _AT_ONCE):
        batch = questions[begin : begin + _AT_ONCE]
        texts = [question.question for question in batch]
        answered = remembering.answer(texts, top_k=BEST_OF[-1])
        predictions += [
            judge(question, answer, is_readable=can_point_at_answer(answerer, question, read))
            for question, answer, read in zip(batch, answered, ranker.take(), strict=True)
        ]
        if on_progress is not None:
            on_progress(len(predictions))
    return predictions


class _Remembering:
    """Ranks as another does and keeps the rows, so that what was read is known without asking."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._rows: list[list[int]] = []

    def search(self, questions: Sequence[str], vectors: Tensor, k: int) -> Tensor:
        """As the other."""
        rows = self._ranker.search(questions, vectors, k)
        self._rows += rows.tolist()
        return rows

    def take(self) -> list[list[int]]:
        """The rows of every question since the last call."""
        rows, self._rows = self._rows, []
        return rows


def exact_match_of_sample(
    answerer: Answerer, questions: Sequence[Question], num_questions: int
) -> float:
    """Exact match, in percent, on a sample of the questions."""
    predictions = predict(answerer, sample_of(questions, num_questions))
    return float(summarise(predictions)["exact_match"])


def sample_of(questions: Sequence[Question], num_questions: int) -> list[Question]:
    """A random sample that is always the same; all of them where there are fewer."""
    chosen = np.random.default_rng(_SEED).permutation(len(questions))[:num_questions]
    return [questions[i] for i in chosen]


def judge(question: Question, answered: Answered, *, is_readable: bool = False) -> Prediction:
    """Compare the answers with the references."""
    text = answered.answers[0].text if answered.answers else ""
    score = float(is_correct(text, question)) if question.is_regex else f1(text, question.answers)
    ranks = (
        rank
        for rank, answer in enumerate(answered.answers, start=1)
        if is_correct(answer.text, question)
    )
    first = next(ranks, None)
    # What the reader pointed at, it can point at: labels do not look inside hyphenated words.
    is_readable = is_readable or first is not None
    return Prediction(question, answered, first == 1, score, first, is_readable)


def can_point_at_answer(answerer: Answerer, question: Question, rows: Sequence[int]) -> bool:
    """Whether one of these passages, as the reader sees it, has an occurrence of an answer.

    It has to be no longer than the reader's spans.
    """
    model, store = answerer.model, answerer.store
    longest = model.reader.settings.max_answer_tokens
    ids = wordpieces(model.tokenizer, question.question)
    for row in rows:
        spans = answer_token_spans(store, row, question, max_answer_tokens=longest)
        if spans:
            packed = pack_joint(store, model.packer, ids, row)
            if min(last for _, last in spans) < packed.body_end - packed.body_start:
                return True
    return False


def summarise(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Exact match, F1, and what bounds them, in percent."""
    count = len(predictions)
    return {
        "num_questions": count,
        "exact_match": round(100 * sum(p.is_correct for p in predictions) / count, 2),
        "f1": round(100 * sum(p.f1 for p in predictions) / count, 2),
        "exact_match_of_best": {
            str(k): round(
                100 * sum((p.first_correct or k + 1) <= k for p in predictions) / count, 2
            )
            for k in BEST_OF
        },
        "reader_oracle": round(100 * sum(p.is_readable for p in predictions) / count, 2),
        "abstained": round(100 * sum(abstains(p.answered) for p in predictions) / count, 2),
    }


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """One JSON line a question: references, prediction, verdict and answers with evidence."""
    lines = [
        json.dumps(
            {
                "question": p.question.question,
                "answer": list(p.question.answers),
                "prediction": p.text,
                "is_correct": p.is_correct,
                "f1": round(p.f1, 4),
                "first_correct": p.first_correct,
                "is_readable": p.is_readable,
                "answers": p.answered.as_dict()["answers"][:_ANSWERS_WRITTEN],
                "null_probability": p.answered.null_probability,
            },
            ensure_ascii=False,
        )
        for p in predictions
    ]
    write_atomically(path, "".join(line + "\n" for line in lines))
