"""Are several rankings compared on the same questions, article by article?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.evaluation.comparison import (
    FixedRanking,
    article_by_question,
    compare,
    hits_of_all,
)
from realm.evaluation.metrics import paired_bootstrap
from realm.evaluation.retrieval import gold_share, hits
from realm.examples.question import Question

QUESTIONS = [
    Question("Who designed the bridge?", ("Ida Renquist",), documents=("article-1",)),
    Question("Where was the poet born?", ("Tavil",), documents=("article-4", "article-3")),
    Question("When did the comet come back?", ("1956",)),
    Question("Who?", ("Queen Maritha",), documents=("elsewhere",)),
]
# Rows are articles, in order; Lomvar Bridge is row 1, Anton Brisk 4, Comet Lind 8, the queen 10.
GOOD = np.array([[1, 5], [4, 3], [8, -1], [6, 10]])
BAD = np.array([[6, 7, 8], [9, 10, 6], [-1, -1, -1], [6, 7, 8]])


@pytest.fixture(scope="module")
def store(
    corpus_source: Path, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> PassageStore:
    settings = CorpusSettings(passage_tokens=128, num_workers=1)
    path = tmp_path_factory.mktemp("store") / "corpus"
    return build_corpus([corpus_source], path, tokenizer_file=tokenizer_file, settings=settings)


def test_recall_and_differences_by_hand(store: PassageStore) -> None:
    assert len(store) == 12  # one passage an article, as the rows assume
    report = compare(QUESTIONS, {"bad": BAD, "good": GOOD}, store, pairs=[("bad", "good")])
    assert report["num_questions"] == 4
    assert report["systems"]["good"]["recall"] == {"1": 75.0}
    assert report["systems"]["bad"]["recall"] == {"1": 0.0}
    assert [rank == 1 for rank in report["systems"]["good"]["first_hits"]].count(True) == 3
    assert report["systems"]["bad"]["first_hits"] == [None] * 4
    (difference,) = report["differences"]
    assert (difference["before"], difference["after"]) == ("bad", "good")
    assert (difference["estimate"], difference["low"], difference["high"]) == (100.0, 100.0, 100.0)
    assert difference["num_clusters"] == 4
    assert difference["recall_at"] == 2  # both go no further
    deep = {name: np.repeat(rows, 3, axis=1) for name, rows in (("bad", BAD), ("good", GOOD))}
    (difference,) = compare(QUESTIONS, deep, store, pairs=[("bad", "good")])["differences"]
    assert difference["recall_at"] == 5


def test_rankings_together_are_judged_as_each_alone(store: PassageStore) -> None:
    together = hits_of_all(QUESTIONS, [GOOD, BAD], store)
    for found, rows in zip(together, (GOOD, BAD), strict=True):
        np.testing.assert_array_equal(found, hits(QUESTIONS, rows, store))


def test_questions_are_grouped_by_article(store: PassageStore) -> None:
    assert article_by_question(QUESTIONS, store) == [
        *("Lomvar Bridge", "Anton Brisk", "When did the comet come back?", "elsewhere"),
    ]


def test_a_fixed_ranking_gives_each_question_its_rows() -> None:
    ranking = FixedRanking(QUESTIONS, GOOD)
    asked = [QUESTIONS[2].question, QUESTIONS[0].question]
    assert ranking.search(asked, torch.zeros(2, 4), 1).tolist() == [[8], [1]]


def test_a_difference_is_drawn_by_article_and_at_its_depth(store: PassageStore) -> None:
    """Four questions of two articles, one of which is answered by the second ranking alone."""
    first, second = (
        Question("Who designed the bridge?", ("Ida Renquist",), documents=("article-1",)),
        Question("Where was the poet born?", ("Tavil",), documents=("article-4",)),
    )
    questions = [first, replace(first, question="Whose is it?"), second, second]
    before = np.array([[6] * 5 + [1]] * 2 + [[6] * 6] * 2)  # right too far down
    after = np.array([[1] * 6] * 2 + [[6] * 6] * 2)
    report = compare(
        questions, {"before": before, "after": after}, store, pairs=[("before", "after")]
    )
    (difference,) = report["differences"]
    scores = ([1.0, 1.0, 0.0, 0.0], [0.0] * 4)
    by_article = paired_bootstrap(*scores, clusters=["a", "a", "b", "b"]).rounded(100)
    assert difference["estimate"] == 50.0
    assert {name: difference[name] for name in ("low", "high")} == {
        name: by_article[name] for name in ("low", "high")
    }
    assert by_article != paired_bootstrap(*scores).rounded(100)


def test_the_share_of_gold_is_that_of_the_first_five_from_the_documents_of_any_question(
    store: PassageStore,
) -> None:
    named = [q for q in QUESTIONS if q.documents]
    # Of the gold documents of all three: rows 1, 3 and 4 are articles of that number.
    rows = np.array([[1, 4, 6, 7, 8, 1], [3, 5, 6, 7, 8, 1], [6, 7, 8, 9, -1, 1]])
    assert gold_share(named, rows, store) == round(100 * 3 / 14, 2)
    assert gold_share(named, rows, store, k=1) == round(100 * 2 / 3, 2)
    assert gold_share([QUESTIONS[2]], rows[:1], store) is None
    assert gold_share(named, np.full_like(rows, -1), store) is None
