"""How often is the first answer right?

Exact match and F1 of the best non-null answer, and of abstaining systems the share that they
would have answered; every prediction is kept for reading the errors.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realm.artifact import write_atomically
from realm.evaluation.metrics import f1, is_correct
from realm.examples.question import Question
from realm.openqa.answerer import Answered, Answerer

_AT_ONCE = 64
_SEED = (0, 50)


@dataclass(frozen=True)
class Prediction:
    """What the system said to one question, and whether it was right."""

    question: Question
    answered: Answered
    is_correct: bool
    f1: float

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
    predictions: list[Prediction] = []
    for begin in range(0, len(questions), _AT_ONCE):
        batch = questions[begin : begin + _AT_ONCE]
        answered = answerer.answer([question.question for question in batch])
        predictions += [judge(q, a) for q, a in zip(batch, answered, strict=True)]
        if on_progress is not None:
            on_progress(len(predictions))
    return predictions


def exact_match_of_sample(
    answerer: Answerer, questions: Sequence[Question], num_questions: int
) -> float:
    """Exact match, in percent, on a random sample of the questions that is always the same."""
    chosen = np.random.default_rng(_SEED).permutation(len(questions))[:num_questions]
    predictions = predict(answerer, [questions[i] for i in chosen])
    return float(summarise(predictions)["exact_match"])


def judge(question: Question, answered: Answered) -> Prediction:
    """Compare the first answer with the references."""
    text = answered.answers[0].text if answered.answers else ""
    score = float(is_correct(text, question)) if question.is_regex else f1(text, question.answers)
    return Prediction(question, answered, is_correct(text, question), score)


def summarise(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Exact match and F1 in percent."""
    count = len(predictions)
    return {
        "num_questions": count,
        "exact_match": round(100 * sum(p.is_correct for p in predictions) / count, 2),
        "f1": round(100 * sum(p.f1 for p in predictions) / count, 2),
        "abstained": round(100 * sum(abstains(p.answered) for p in predictions) / count, 2),
    }


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """One JSON line a question: references, prediction, verdict and all answers with evidence."""
    lines = [
        json.dumps(
            {
                "question": p.question.question,
                "answer": list(p.question.answers),
                "prediction": p.text,
                "is_correct": p.is_correct,
                "f1": round(p.f1, 4),
                **{k: v for k, v in p.answered.as_dict().items() if k != "question"},
            },
            ensure_ascii=False,
        )
        for p in predictions
    ]
    write_atomically(path, "".join(line + "\n" for line in lines))
