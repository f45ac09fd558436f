"""How does a sentence become a question about what is hidden in it?

Real questions are short, begin with a question word, name their subject and put things in another
order than the text that answers them. A reader that has met nothing but whole sentences with a
gap points anywhere when it is asked one; after a few hundred made ones it points at answers before
it has seen a question of a person (the "noisy cloze" of Lewis et al. 2019).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from realm.corpus.store import PassageStore
from realm.examples.masking import Masking, SalientSpanMasker
from realm.examples.wordpieces import occurrences, wordpieces
from realm.spans.annotate import SpanStore

OTHER = "other"
QUESTION_WORDS: dict[str, tuple[str, ...]] = {
    "date": ("when", "in what year"),
    "number": ("how many", "how much"),
    "per": ("who",),
    "person": ("who",),
    "loc": ("where", "which"),
    "location": ("where", "which"),
    OTHER: ("who", "what", "which", "where"),
}
"""How an English question about a span begins, by the span's label in lower case."""

_FEWEST_WORDS, _MOST_WORDS = 5, 14  # of the sentence, around what is hidden
_DROPPED_SHARE = 0.15
_TITLE_SHARE = 0.5
_REACH = 3.0  # words change places with those less far away than that

Wordpieces = Int[np.ndarray, " wordpieces"]


class AskedSpan(NamedTuple):
    """A made question, and the wordpieces that answer it; neither has special ones."""

    question: Wordpieces
    answer: Wordpieces


class ClozeQuestionMaker:
    """Asks for salient spans of a corpus."""

    def __init__(
        self, store: PassageStore, spans: SpanStore, words: dict[str, tuple[str, ...]]
    ) -> None:
        """`words` begin the questions, by the label of what is asked for, or `other`."""
        self._store, self._spans = store, spans
        self._masker = SalientSpanMasker(store, spans)
        openings = (words.get(label.lower(), words[OTHER]) for label in spans.labels)
        self._openings = [[wordpieces(store.tokenizer, o) for o in each] for each in openings]
        self._question_mark = wordpieces(store.tokenizer, "?")

    def ask(self, row: int, generator: np.random.Generator) -> AskedSpan:
        """Ask for a random salient span of a passage that has one."""
        spans = self._spans.of(row)
        span = spans[generator.integers(len(spans))]
        masking = self._masker.masking(row, span)
        answer, title = self._store.token_ids(row)[masking.hidden], self._store.title_token_ids(row)
        words = self._words_around(row, masking, generator)
        # A title that is the answer, or holds it, would teach to point at words of the question.
        if generator.random() < _TITLE_SHARE and not len(occurrences(title, answer)):
            words = [title, *words] if generator.random() < 0.5 else [*words, title]
        openings = self._openings[span["label_id"]]
        opening = openings[generator.integers(len(openings))]
        question = np.concatenate([opening, *words, self._question_mark])
        return AskedSpan(question, answer)

    def _words_around(
        self, row: int, masking: Masking, generator: np.random.Generator
    ) -> list[Wordpieces]:
        """Some words before and after what is hidden, a few left out, in about their order."""
        before = self._words(row, masking.sentence_start, int(masking.hidden[0]))
        after = self._words(row, int(masking.hidden[-1]) + 1, masking.sentence_end)
        count = int(generator.integers(_FEWEST_WORDS, _MOST_WORDS + 1))
        # One side gives what the other one lacks.
        num_before = min(max(int(generator.integers(count + 1)), count - len(after)), len(before))
        near = before[len(before) - num_before :] + after[: count - num_before]
        hidden = self._words(row, int(masking.hidden[0]), int(masking.hidden[-1]) + 1)
        is_hidden = {tuple(word.tolist()) for word in hidden}
        kept = [
            word
            for word in near
            if generator.random() >= _DROPPED_SHARE and tuple(word.tolist()) not in is_hidden
        ]
        places = np.arange(len(kept)) + generator.uniform(0, _REACH, len(kept))
        return [kept[place] for place in np.argsort(places)]

    def _words(self, row: int, first: int, last: int) -> list[Wordpieces]:
        """The words among these wordpieces of a body, without punctuation."""
        text, spans = self._store.text(row), self._store.token_spans(row)
        ids = self._store.token_ids(row)
        words: list[list[int]] = []
        end_of_word = -1
        for place in range(first, last):
            start, end = spans[place]
            if start != end_of_word:
                words.append([])
            if any(character.isalnum() for character in text[start:end]):
                words[-1].append(int(ids[place]))
            end_of_word = end
        return [np.array(word, dtype=np.int64) for word in words if word]
