"""Which characters does the reader point at, and which of these spans are one answer?"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.openqa.labels import AnswerRule, normalise_answer
from realm.retrieval.candidates import NULL_ROW

_SPANS_LOOKED_AT = 200  # most probable spans of a question that are grouped into answers


class PointedSpan(NamedTuple):
    """Characters of a passage that the reader points at; `place` is the passage's rank."""

    place: int
    row: int
    passage: str
    start: int
    end: int
    probability: float

    @property
    def text(self) -> str:
        """The characters."""
        return self.passage[self.start : self.end]

    @property
    def splits_word(self) -> bool:
        """Whether it begins or ends inside a word: wordpieces do, answers do not."""
        text, start, end = self.passage, self.start, self.end
        begins_inside = start > 0 and text[start - 1 : start + 1].isalnum()
        return begins_inside or (end < len(text) and text[end - 1 : end + 1].isalnum())

    def key(self, answers: AnswerRule) -> str:
        """The key of the answer that it is; empty for a span that is none."""
        return "" if answers == "summed" and self.splits_word else answer_key(self.text, answers)


def answer_key(text: str, answers: AnswerRule) -> str:
    """What spans of one answer have in common."""
    return text.lower() if answers == "single_span" else normalise_answer(text)


def likeliest_spans(
    store: PassageStore, rows: Sequence[int], probabilities: Float[Tensor, "passages body widths"]
) -> Iterator[PointedSpan]:
    """The most probable spans of these passages, with their characters, best first."""
    _, body, widths = probabilities.shape
    read = {row: (store.text(row), store.token_spans(row)) for row in {*rows} - {NULL_ROW}}
    flat = probabilities.flatten()
    best, places = flat.topk(min(_SPANS_LOOKED_AT, len(flat)))
    for probability, place in zip(best.tolist(), places.tolist(), strict=True):
        if probability == 0.0:
            break
        passage, first, offset = np.unravel_index(place, (len(rows), body, widths))
        text, tokens = read[rows[passage]]
        start, end = int(tokens[first][0]), int(tokens[first + offset][1])
        yield PointedSpan(int(passage), rows[passage], text, start, end, probability)
