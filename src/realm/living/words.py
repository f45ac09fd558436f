"""Which passages share words with a question, when some were added and some are gone?

BM25 of the base, in which removed passages score nothing, beside the same formula for added
ones. How rare a word is and how long passages are is taken from the base until the corpus is
built anew: scores of added passages come near those of a rebuilt index, and are not equal to them.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from realm.corpus.store import PassageStore
from realm.living.state import State
from realm.retrieval.lexical import NO_PASSAGE, LexicalIndex, best_rows

_SAMPLE = 1_000  # passages of the base whose mean length stands for that of all
_FEWEST_TO_FORGET = 1_000  # passages that are gone
Integers = NDArray[np.int64]
Weights = dict[str, list[tuple[int, float]]]


class AddedWords:
    """The words of all added passages, in memory, and for a while of those that are gone."""

    def __init__(self, base: LexicalIndex, store: PassageStore) -> None:
        self.base = base
        self._k1, self._b = (float(base.manifest.settings[name]) for name in ("k1", "b"))
        sample = np.linspace(0, len(store) - 1, min(_SAMPLE, len(store))).astype(np.int64)
        self._mean_length = float(np.mean([len(_words_of(base, store, int(r))) for r in sample]))
        self._next_id, self._num_known = 0, 0
        # For each word, passage ids and how much the word counts there. Edits append to the
        # lists while questions read them: what a view does not know, it passes over.
        self._weights: Weights = {}

    def search_in(self, state: State, added: Sequence[PassageStore]) -> "JointWords":
        """The search of a view whose added passages stand in these stores, in their order."""
        if added and int(added[-1].passage_ids()[-1]) >= self._next_id:
            for store in added:
                self._learn(store)
        num_here = sum(map(len, added))
        if self._num_known >= 2 * num_here + _FEWEST_TO_FORGET:
            self._forget_all_but({int(i) for store in added for i in store.passage_ids()})
        return JointWords(self.base, self._weights, state, added)

    def _learn(self, store: PassageStore) -> None:
        ids = store.passage_ids()
        for row in range(int(np.searchsorted(ids, self._next_id)), len(ids)):
            words = Counter(_words_of(self.base, store, row))
            length = 1 - self._b + self._b * words.total() / self._mean_length
            for word, count in words.items():
                weight = count / (count + self._k1 * length)
                self._weights.setdefault(word, []).append((int(ids[row]), weight))
            self._next_id = int(ids[row]) + 1
            self._num_known += 1

    def _forget_all_but(self, here: set[int]) -> None:
        """Begin other lists: earlier views keep theirs."""
        kept = {
            word: [pair for pair in pairs if pair[0] in here]
            for word, pairs in self._weights.items()
        }
        self._weights = {word: pairs for word, pairs in kept.items() if pairs}
        self._num_known = len(here)


class JointWords:
    """BM25 in a view."""

    def __init__(
        self, base: LexicalIndex, weights: Weights, state: State, added: Sequence[PassageStore]
    ) -> None:
        self._base, self._weights, self._hidden = base, weights, state.hidden_in_base
        self._num_base = len(state.base)
        parts = [np.empty(0, dtype=np.int64), *(store.passage_ids() for store in added)]
        self._ids = np.concatenate(parts)
        self._is_hidden = np.zeros(len(self._ids), dtype=bool)
        self._is_hidden[state.hidden_in_segment] = True

    def search(self, questions: Sequence[str], k: int) -> tuple[Integers, NDArray[np.float32]]:
        """Rows [questions, k] of the best passages and their scores; equal scores by row."""
        rows = np.full((len(questions), k), NO_PASSAGE, dtype=np.int64)
        scores = np.zeros((len(questions), k), dtype=np.float32)
        for number, question in enumerate(questions):
            of_base = self._base.scores(question)
            of_base[self._hidden] = 0
            of_added = self._scores_of_added(question)
            best_in_base, best_added = best_rows(of_base, k), best_rows(of_added, k)
            found = np.concatenate([best_in_base, best_added + self._num_base])
            values = np.concatenate([of_base[best_in_base], of_added[best_added]])
            order = np.lexsort((found, -values))[:k]
            rows[number, : len(order)], scores[number, : len(order)] = found[order], values[order]
        return rows, scores

    def _scores_of_added(self, question: str) -> NDArray[np.float32]:
        scores = np.zeros(len(self._ids), dtype=np.float32)
        for word in self._base.words(question):
            pairs = np.array(self._weights.get(word, []), dtype=np.float64).reshape(-1, 2)
            ids = pairs[:, 0].astype(np.int64)
            is_here = np.isin(ids, self._ids)
            weights = pairs[is_here, 1] * self._base.rarity(word)
            scores[np.searchsorted(self._ids, ids[is_here])] += weights
        scores[self._is_hidden] = 0
        return scores


def _words_of(base: LexicalIndex, store: PassageStore, row: int) -> list[str]:
    passage = store.passage(row)
    return base.words(f"{passage.title} {passage.text}")
