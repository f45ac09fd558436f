"""Which of several rankings finds more answers, and is a difference more than chance?

All rankings are judged on the same questions. Differences are bootstrapped by article where
the questions name one: questions about one article rise and fall together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.evaluation.metrics import METRIC_VERSION, paired_bootstrap
from realm.evaluation.retrieval import first_hits, gold_share, hits, recall_by_k
from realm.examples.question import Question

_COMPARED_AT = 5


def compare(
    questions: Sequence[Question],
    rankings: Mapping[str, Int[np.ndarray, "questions k"]],
    store: PassageStore,
    *,
    pairs: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Measure rankings by name; `pairs` name those whose difference is wanted (second - first).

    Shares and differences are in percent.
    """
    found = dict(zip(rankings, hits_of_all(questions, list(rankings.values()), store), strict=True))
    clusters = article_by_question(questions, store)
    return {
        "num_questions": len(questions),
        "metric_version": METRIC_VERSION,
        "systems": {
            name: {
                "recall": recall_by_k(found[name]),
                "first_hits": first_hits(found[name]),
                "gold_share": gold_share(questions, rows, store),
            }
            for name, rows in rankings.items()
        },
        "differences": [_difference(found, before, after, clusters) for before, after in pairs],
    }


def hits_of_all(
    questions: Sequence[Question],
    rankings: Sequence[Int[np.ndarray, "questions _"]],
    store: PassageStore,
) -> list[Bool[np.ndarray, "questions _"]]:
    """Whether each ranked passage holds an answer; what several rankings found is read once."""
    joined = np.concatenate(rankings, axis=1)
    distinct = np.full_like(joined, -1)
    places = np.empty_like(joined)
    for number, rows in enumerate(joined):
        values, places[number] = np.unique(rows, return_inverse=True)
        distinct[number, : len(values)] = values
    found = np.take_along_axis(hits(questions, distinct, store), places, axis=1)
    widths = [ranking.shape[1] for ranking in rankings]
    return np.split(found, np.cumsum(widths)[:-1], axis=1)


def article_by_question(questions: Sequence[Question], store: PassageStore) -> list[str]:
    """The title of the first document that a question names; the question itself where none."""
    titles: dict[str, str] = {}
    for question in questions:
        for document_id in question.documents[:1]:
            if document_id not in titles:
                titles[document_id] = _title(store, document_id)
    return [titles[q.documents[0]] if q.documents else q.question for q in questions]


class FixedRanking:
    """Hands a reader the passages that another system chose, so that one reader serves all."""

    def __init__(self, questions: Sequence[Question], rows: Int[np.ndarray, "questions k"]) -> None:
        texts = [question.question for question in questions]
        self._rows_by_question = dict(zip(texts, rows, strict=True))

    def search(
        self, questions: Sequence[str], vectors: Tensor, k: int
    ) -> Int[Tensor, "questions k"]:
        """The first `k` rows of each question."""
        rows = np.stack([self._rows_by_question[question][:k] for question in questions])
        return torch.from_numpy(rows)


def _difference(
    found: Mapping[str, NDArray[np.bool_]], before: str, after: str, clusters: Sequence[str]
) -> dict[str, Any]:
    depth = min(_COMPARED_AT, *(found[name].shape[1] for name in (after, before)))
    hit, was_hit = (found[name][:, :depth].any(axis=1).astype(float) for name in (after, before))
    interval = paired_bootstrap(hit.tolist(), was_hit.tolist(), clusters=clusters)
    return {
        "before": before,
        "after": after,
        "recall_at": depth,
        **interval.rounded(100),
        "num_clusters": len(set(clusters)),
    }


def _title(store: PassageStore, document_id: str) -> str:
    try:
        return store.document(document_id).title or document_id
    except SourceError:  # a question about a document that this corpus does not have
        return document_id
