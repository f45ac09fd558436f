"""Recall at any depth, quick enough for 5,000 passages a question."""

import time
from collections.abc import Sequence
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realm.corpus.store import Passage, PassageStore
from realm.evaluation.retrieval import RECALL_AT, hits, rank_in_batches, recall_by_k
from realm.examples.question import Question
from realm.openqa.labels import contains_answer


class CountingStore:
    """Passages of made-up words, and how many of them were asked for."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.num_read = texts, 0

    def passage(self, row: int) -> Passage:
        self.num_read += 1
        return Passage(row, str(row), f"Title {row}", self.texts[row], 0, len(self.texts[row]))


TEXTS = ["Tavil lies here.", "In 1871 it was founded.", "Nothing.", "Tavil in 1872", ""]
QUESTIONS = [
    Question("a", ("Tavil", "nothing")),
    Question("b", (r"187\d",), is_regex=True),
    Question("c", ("Title 4",)),
]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(-1, 4), min_size=4, max_size=4), min_size=3, max_size=3))
def test_every_pair_is_judged_as_alone(rows: list[list[int]]) -> None:
    counting = CountingStore(TEXTS)
    found = hits(QUESTIONS, np.array(rows), cast(PassageStore, counting))
    assert counting.num_read == len({row for best in rows for row in best} - {-1})
    for number, question in enumerate(QUESTIONS):
        for place, row in enumerate(rows[number]):
            alone = row >= 0 and contains_answer(TEXTS[row], f"Title {row}", question)
            assert found[number, place] == alone


def test_recall_at_every_depth_of_orqa() -> None:
    found = np.zeros((4, 5000), dtype=bool)
    found[0, 0] = found[1, 9] = found[2, 4999] = True
    assert recall_by_k(found) == {
        "1": 25.0, "5": 25.0, "10": 50.0, "20": 50.0, "50": 50.0, "100": 50.0, "500": 50.0,
        "1000": 50.0, "5000": 75.0,
    }  # fmt: skip
    assert {5, 10, 50, 100, 500, 1000, 5000} <= set(RECALL_AT)
    assert set(recall_by_k(found[:, :60])) == {"1", "5", "10", "20", "50"}


def test_five_thousand_passages_a_question_are_quick() -> None:
    generator = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(5000)])
    texts = [" ".join(words[generator.integers(5000, size=100)]) for _ in range(5000)]
    questions = [Question(str(n), tuple(f"word{n} word{m}" for m in range(5))) for n in range(40)]
    rows = np.stack([generator.permutation(5000) for _ in questions])
    begin = time.perf_counter()
    hits(questions, rows, cast(PassageStore, CountingStore(texts)))
    # 200,000 pairs: 0.8 s where this was written; 18 million pairs of NQ would be minutes.
    assert time.perf_counter() - begin < 20


def test_questions_are_ranked_in_batches_in_their_order() -> None:
    questions = [Question(str(number), ("x",)) for number in range(300)]
    sizes: list[int] = []

    def ranker(texts: Sequence[str], k: int) -> np.ndarray:
        sizes.append(len(texts))
        return np.array([[int(text)] * k for text in texts])

    rows = rank_in_batches(ranker, questions, 2)
    assert rows.tolist() == [[number] * 2 for number in range(300)]
    assert max(sizes) < 300
