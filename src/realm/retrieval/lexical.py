"""Which passages share words with a question (BM25), and how are rankings fused?

The baseline that a trained retriever has to beat, and its partner: BM25 finds rare names
that a small embedder confuses. Scores are computed when the index is built (`bm25s`), so
that a search sums a few columns of a memory-mapped sparse matrix.
"""

import importlib
import math
import re
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from realm.artifact import Manifest, create_artifact, open_artifact
from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import ResourceError

KIND = "lexical"
NO_PASSAGE = -1  # fills the end of a ranking where fewer than k passages share a word

_WORD = re.compile(r"\w\w+")
_PROGRESS_EVERY = 1_000  # passages


class LexicalSettings(Settings):
    """The two constants of BM25."""

    k1: float = Field(default=1.5, ge=0)
    """How soon further occurrences of a word in a passage stop counting."""
    b: float = Field(default=0.75, ge=0, le=1)
    """How much long passages are held back: 0 not at all, 1 in proportion."""


class WordSearch(Protocol):
    """Ranks passages by the words that they share with a question."""

    def search(
        self, questions: Sequence[str], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows [questions, k] of the best passages and their scores, best first."""


class LexicalIndex:
    """A BM25 index over titles and texts of all passages."""

    def __init__(self, path: Path, manifest: Manifest, scorer: Any) -> None:
        self.path = path
        self.manifest = manifest
        self._scorer = scorer
        self._stop_words = _stop_words()

    @classmethod
    def open(cls, path: str | Path) -> "LexicalIndex":
        """Open a finished index without reading its matrix.

        Raises:
            ArtifactError: there is no finished lexical index at `path`.
            ResourceError: bm25s is not installed.
        """
        path = Path(path)
        manifest = open_artifact(path, KIND)
        scorer = import_bm25s().BM25.load(path, mmap=True, show_progress=False)
        return cls(path, manifest, scorer)

    def __len__(self) -> int:
        return int(self.manifest.counts["num_passages"])

    def search(
        self, questions: Sequence[str], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return rows [questions, k] of the best passages and their scores, best first.

        Equal scores are ordered by row. Only passages that share a word with the question are
        returned; after the last one rows are `NO_PASSAGE` and scores 0.
        """
        rows = np.full((len(questions), k), NO_PASSAGE, dtype=np.int64)
        scores = np.zeros((len(questions), k), dtype=np.float32)
        for number, question in enumerate(questions):
            all_scores = self.scores(question)
            best = best_rows(all_scores, k)
            rows[number, : len(best)] = best
            scores[number, : len(best)] = all_scores[best]
        return rows, scores

    def scores(self, question: str) -> NDArray[np.float32]:
        """The score of every passage."""
        ids = self._scorer.get_tokens_ids(self.words(question))
        scores: NDArray[np.float32] = self._scorer.get_scores_from_ids(ids)
        return scores

    def words(self, text: str) -> list[str]:
        """The words of a text that count."""
        return list(_words(text, self._stop_words))

    def rarity(self, word: str) -> float:
        """The inverse document frequency of a word: log(1 + (N - n + 0.5) / (n + 0.5))."""
        number = self._scorer.vocab_dict.get(word)
        ends = self._scorer.scores["indptr"]
        n = 0 if number is None else int(ends[number + 1]) - int(ends[number])
        return math.log(1 + (len(self) - n + 0.5) / (n + 0.5))


def build_lexical_index(
    store: PassageStore,
    path: str | Path,
    *,
    settings: LexicalSettings | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> LexicalIndex:
    """Index titles and texts of all passages; `on_progress` gets the number of passages read.

    Memory: 4 bytes a word of the corpus, then 12 for each passage that a word occurs in.
    """
    path, settings = Path(path), settings or LexicalSettings()
    scorer = import_bm25s().BM25(k1=settings.k1, b=settings.b)
    passages, id_by_word = _word_ids(store, on_progress)
    with create_artifact(
        path, KIND, settings=settings.model_dump(), inputs={"corpus": store.fingerprint}
    ) as staging:
        scorer.index((passages, id_by_word), show_progress=False)
        scorer.save(staging.path, show_progress=False)
        staging.counts = {"num_passages": len(store), "num_words": len(id_by_word) - 1}
    return LexicalIndex.open(path)


def reciprocal_rank_fusion(
    rankings: Sequence[NDArray[np.integer[Any]]], k: int, constant: int = 60
) -> NDArray[np.int64]:
    """Fuse rankings [questions, any k] of passage rows into one [questions, k], best first.

    A passage scores the sum over rankings of 1 / (constant + rank), rank 1 being the best;
    equal scores are ordered by row. `NO_PASSAGE` is ignored and fills what stays empty.
    """
    rows = np.concatenate(rankings, axis=1).astype(np.int64)
    ranks = np.concatenate([np.arange(1, ranking.shape[1] + 1) for ranking in rankings])
    weights = 1.0 / (constant + ranks)
    fused = np.full((len(rows), k), NO_PASSAGE, dtype=np.int64)
    for number, question_rows in enumerate(rows):
        is_passage = question_rows != NO_PASSAGE
        found, places = np.unique(question_rows[is_passage], return_inverse=True)
        sums = np.bincount(places, weights=weights[is_passage], minlength=len(found))
        # Rounded, since the order of a floating sum must not decide between equal scores.
        order = np.lexsort((found, -sums.round(12)))[:k]
        fused[number, : len(order)] = found[order]
    return fused


def best_rows(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the best passages that share a word, best first; equal scores by row."""
    if k < len(scores):
        worst_kept = np.partition(scores, -k)[-k]
        rows = np.flatnonzero((scores >= worst_kept) & (scores > 0))
    else:
        rows = np.flatnonzero(scores > 0)
    return rows[np.lexsort((rows, -scores[rows]))][:k]


def _word_ids(
    store: PassageStore, on_progress: Callable[[int], None] | None
) -> tuple[list["array[int]"], dict[str, int]]:
    # Numbered in order of appearance, so that the same corpus always gives the same files.
    # The empty word keeps the matrix from having no column.
    id_by_word = {"": 0}
    stop_words = _stop_words()
    passages = []
    for row in range(len(store)):
        passage = store.passage(row)
        words = _words(f"{passage.title} {passage.text}", stop_words)
        passages.append(array("i", [id_by_word.setdefault(w, len(id_by_word)) for w in words]))
        if on_progress is not None and len(passages) % _PROGRESS_EVERY == 0:
            on_progress(len(passages))
    return passages, id_by_word


def _words(text: str, stop_words: frozenset[str]) -> Iterator[str]:
    return (word for word in _WORD.findall(text.lower()) if word not in stop_words)


def _stop_words() -> frozenset[str]:
    import_bm25s()
    return frozenset(importlib.import_module("bm25s.stopwords").STOPWORDS_EN)


def import_bm25s() -> ModuleType:
    """The package bm25s, computing with numpy.

    Raises:
        ResourceError: it is not installed.
    """
    try:
        with _without_jax():
            return importlib.import_module("bm25s")
    except ModuleNotFoundError as error:
        message = "lexical search needs the package bm25s: install it with pip install bm25s"
        raise ResourceError(message) from error


@contextmanager
def _without_jax() -> Iterator[None]:
    """Let nothing find JAX inside the block.

    Where it is installed bm25s computes with it as soon as it is imported, and JAX takes three
    quarters of a GPU's memory for itself.
    """
    known = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "jax"}
    for name in known:
        del sys.modules[name]
    sys.modules["jax"] = None  # type: ignore[assignment]  # whose import fails
    try:
        yield
    finally:
        del sys.modules["jax"]
        sys.modules.update(known)
