"""Which characters does the reader point at, and which of these spans are one answer?"""

import unicodedata
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
        return any(
            0 < place < len(self.passage)
            and all(map(_is_of_word, self.passage[place - 1 : place + 1]))
            for place in (self.start, self.end)
        )

    def key(self, answers: AnswerRule) -> str:
        """The key of the answer that it is; empty for a span that is none."""
        return "" if answers == "summed" and self.splits_word else answer_key(self.text, answers)


def _is_of_word(character: str) -> bool:
    return character.isalnum() or _is_mark(character)


def _is_mark(character: str) -> bool:
    """An accent or vowel sign that is a character of its own, behind the letter that it is on."""
    return unicodedata.category(character).startswith("M")


def _with_marks(text: str, end: int) -> int:
    """Where a span ends that shows its last letter whole; wordpieces know no accents."""
    while end < len(text) and _is_mark(text[end]):
        end += 1
    return end


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
        start, end = int(tokens[first][0]), _with_marks(text, int(tokens[first + offset][1]))
        yield PointedSpan(int(passage), rows[passage], text, start, end, probability)
