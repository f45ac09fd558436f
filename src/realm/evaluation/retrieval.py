"""How often does one of the first k passages hold an answer?

Any ranking is measured the same way: the retriever's, BM25's, or the two joined. A passage
holds an answer when its title or text contains one after normalisation.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool

from realm.corpus.store import PassageStore
from realm.examples.question import Question
from realm.openqa.labels import contains_answer

RECALL_AT = (1, 5, 10, 20, 50, 100, 500, 1000, 5000)

Search = Callable[[Sequence[str], int], np.ndarray]
"""From questions and k to rows [questions, k], best first, -1 where there is no passage."""


def hits(
    questions: Sequence[Question], rows: np.ndarray, store: PassageStore
) -> Bool[np.ndarray, "questions k"]:
    """Whether each ranked passage holds an answer.

    Passage by passage, with all the questions that found it, so that its words are normalised
    once. A question of NQ and a passage take 3 microseconds on one core, a regular expression 50:
    5,000 passages for each of 3,610 questions are a minute, for CuratedTREC's 694 three.
    """
    result = np.zeros(rows.size, dtype=bool)
    order = np.argsort(rows, axis=None, kind="stable")
    ascending = rows.ravel()[order]
    bounds = [*np.flatnonzero(np.diff(ascending, prepend=-2)).tolist(), len(order)]
    for first, last in pairwise(bounds):
        if ascending[first] < 0:
            continue
        passage = store.passage(int(ascending[first]))
        for place in order[first:last].tolist():
            question = questions[place // rows.shape[1]]
            result[place] = contains_answer(passage.text, passage.title, question)
    return result.reshape(rows.shape)


def recall_by_k(found: Bool[np.ndarray, "questions k"]) -> dict[str, float]:
    """Share of questions, in percent, with an answer in the first k passages."""
    return {
        str(k): round(100 * float(found[:, :k].any(axis=1).mean()), 2)
        for k in RECALL_AT
        if k <= found.shape[1] or k == RECALL_AT[0]
    }


def first_hits(found: Bool[np.ndarray, "questions k"]) -> list[int | None]:
    """By question, the rank from 1 of the first passage that holds an answer, if there is one."""
    ranks = found.argmax(axis=1) + 1
    return [int(rank) if row.any() else None for rank, row in zip(ranks, found, strict=True)]


def rank_in_batches(
    search: Search,
    questions: Sequence[Question],
    k: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Search for all questions; `on_progress` gets the number done."""
    texts = [question.question for question in questions]
    parts = []
    for begin in range(0, len(texts), 128):
        parts.append(search(texts[begin : begin + 128], k))
        on_progress(min(begin + 128, len(texts)))
    return np.concatenate(parts)


def gold_share(
    questions: Sequence[Question], rows: np.ndarray, store: PassageStore, *, k: int = 5
) -> float | None:
    """Share of the first k passages, in percent, that come from the gold document of any question.

    None where no question names one, or nothing was found.
    Of any: it says whether a ranking prefers the articles that questions are asked about.
    """
    named = [number for number, question in enumerate(questions) if question.documents]
    if not named:
        return None
    gold = {document for question in questions for document in question.documents}
    ids = [store.passage(int(row)).document_id for row in rows[named, :k].ravel() if row >= 0]
    return round(100 * float(np.mean([document in gold for document in ids])), 2) if ids else None
