"""What is hidden from the reader?

Salient spans (names and dates) are what only knowledge of the world can restore (section 3.4).
Random spans and random wordpieces are the ablations of table 2.
"""

from typing import Literal, NamedTuple, Protocol

import numpy as np

from realm.corpus.store import PassageStore
from realm.spans.annotate import SpanStore

MaskingName = Literal["salient_span", "random_span", "random_token"]
# SpanBERT's lengths: geometric with p = 0.2 among one to ten, 3.8 on average. What a geometric
# draw has beyond ten is spread over all of them: put on ten alone, it would be the likeliest.
_SPAN_LENGTHS = np.arange(1, 11)
_SPAN_SHARES = 0.2 * 0.8 ** (_SPAN_LENGTHS - 1) / (1 - 0.8**10)
TOKEN_SHARE = 0.15  # BERT's share


class Masking(NamedTuple):
    """A sentence of a passage and the wordpieces hidden in it, as positions in the body."""

    sentence_start: int
    sentence_end: int
    hidden: np.ndarray


class Masker(Protocol):
    """Chooses a sentence of a passage and what to hide in it."""

    def rows(self) -> np.ndarray:
        """Passages that have something to hide."""

    def choose(self, row: int, generator: np.random.Generator) -> Masking:
        """Choose in one of those passages."""


class SalientSpanMasker:
    """One salient span, uniformly over the spans of the passage."""

    def __init__(self, store: PassageStore, spans: SpanStore) -> None:
        self._store, self._spans = store, spans

    def rows(self) -> np.ndarray:
        """Passages with at least one salient span."""
        return self._spans.rows_with_spans()

    def choose(self, row: int, generator: np.random.Generator) -> Masking:
        """Hide all wordpieces of one span."""
        spans = self._spans.of(row)
        return self.masking(row, spans[generator.integers(len(spans))])

    def masking(self, row: int, span: np.void) -> Masking:
        """The masking that hides a given span of a passage."""
        start, end = self._store.sentences(row)[span["sentence"]]
        return Masking(int(start), int(end), np.arange(span["token_start"], span["token_end"]))


class _RandomMasker:
    """Hides something in a random sentence, whatever it says."""

    def __init__(self, store: PassageStore) -> None:
        self._store = store

    def rows(self) -> np.ndarray:
        """All passages that have a wordpiece."""
        return np.flatnonzero(self._store.num_tokens())


class RandomSpanMasker(_RandomMasker):
    """One span of random length at a random place of a random sentence."""

    def choose(self, row: int, generator: np.random.Generator) -> Masking:
        """Hide a run of wordpieces."""
        start, end = draw_sentence(self._store, row, generator)
        length = min(int(generator.choice(_SPAN_LENGTHS, p=_SPAN_SHARES)), end - start)
        first = int(generator.integers(start, end - length + 1))
        return Masking(start, end, np.arange(first, first + length))


class RandomTokenMasker(_RandomMasker):
    """Fifteen percent of the wordpieces of a random sentence, at least one."""

    def choose(self, row: int, generator: np.random.Generator) -> Masking:
        """Hide scattered wordpieces."""
        start, end = draw_sentence(self._store, row, generator)
        hidden = scatter(np.arange(start, end), TOKEN_SHARE, generator)
        return Masking(start, end, hidden)


def scatter(places: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Choose a share of the places, at least one where there is any, in their order."""
    count = min(len(places), max(1, round(share * len(places))))
    return np.sort(generator.choice(places, size=count, replace=False))


def make_masker(name: MaskingName, store: PassageStore, spans: SpanStore) -> Masker:
    """The masker of that name."""
    if name == "salient_span":
        return SalientSpanMasker(store, spans)
    return RandomSpanMasker(store) if name == "random_span" else RandomTokenMasker(store)


def draw_sentence(store: PassageStore, row: int, generator: np.random.Generator) -> tuple[int, int]:
    """Where a random sentence of a passage begins and ends in its body."""
    sentences = store.sentences(row)
    start, end = sentences[generator.integers(len(sentences))]
    return int(start), int(end)
