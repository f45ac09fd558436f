import math
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from realm.artifact import read_manifest, verify
from realm.corpus.store import Passage, PassageStore
from realm.errors import ArtifactError
from realm.retrieval.lexical import (
    NO_PASSAGE,
    LexicalIndex,
    LexicalSettings,
    build_lexical_index,
    import_bm25s,
    reciprocal_rank_fusion,
)


def test_jax_computes_nothing_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    # bm25s would import it, whereupon it takes three quarters of a GPU's memory.
    jax, lax = ModuleType("jax"), ModuleType("jax.lax")
    for name, module in (("jax", jax), ("jax.lax", lax)):
        monkeypatch.setitem(sys.modules, name, module)
    for name in [name for name in sys.modules if name.split(".")[0] == "bm25s"]:
        monkeypatch.delitem(sys.modules, name)
    import_bm25s()
    assert not sys.modules["bm25s.selection"].JAX_IS_AVAILABLE
    # Somebody else's JAX is as it was.
    assert (sys.modules["jax"], sys.modules["jax.lax"]) == (jax, lax)


class FakeStore(PassageStore):
    def __init__(self, passages: list[tuple[str, str]]) -> None:
        self.fingerprint = "0123"
        self._passages = [Passage(7, "d", title, text, 0, 1) for title, text in passages]

    def __len__(self) -> int:
        return len(self._passages)

    def passage(self, row: int) -> Passage:
        return self._passages[row]


PASSAGES = [
    ("Volcano", "A volcano is a rupture in the crust of a planet."),
    ("Etna", "Mount Etna is an active volcano on Sicily, and the volcano is tall."),
    ("Sicily", "Sicily is an island in the Mediterranean Sea."),
    ("!", "? !"),
    ("Vesuvius", "Mount Vesuvius is a mountain near Naples."),
    ("Vesuvius", "Mount Vesuvius is a mountain near Naples."),
]


def build(path: Path, settings: LexicalSettings | None = None) -> LexicalIndex:
    return build_lexical_index(FakeStore(PASSAGES), path, settings=settings)


def bm25_by_hand(question: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    stop = {"a", "is", "in", "the", "of", "an", "on", "and", "near"} - {"near"}
    passages = [
        Counter(w for w in re.findall(r"\w\w+", f"{t} {x}".lower()) if w not in stop)
        for t, x in PASSAGES
    ]
    mean = sum(p.total() for p in passages) / len(passages)
    scores = []
    for passage in passages:
        score = 0.0
        for word in re.findall(r"\w\w+", question.lower()):
            df = sum(word in p for p in passages)
            if df and passage[word]:
                idf = math.log(1 + (len(passages) - df + 0.5) / (df + 0.5))
                norm = k1 * (1 - b + b * passage.total() / mean)
                score += idf * passage[word] / (passage[word] + norm)
        scores.append(score)
    return scores


@pytest.mark.parametrize("question", ["Which volcano stands on Sicily?", "mountain Naples naples"])
def test_scores_are_those_of_the_formula(tmp_path: Path, question: str) -> None:
    rows, scores = build(tmp_path / "lexical").search([question], 6)
    expected = bm25_by_hand(question)
    found = [(row, score) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]
    order = sorted((r for r in range(6) if expected[r] > 0), key=lambda r: (-expected[r], r))
    assert [row for row, _ in found] == order
    for row, score in found:
        assert score == pytest.approx(expected[row], rel=1e-5)


def test_rankings_are_filled_and_ties_ordered_by_row(tmp_path: Path) -> None:
    index = build(tmp_path / "lexical")
    rows, scores = index.search(["Vesuvius", "the", "", "unheard"], 3)
    assert rows.tolist() == [[4, 5, NO_PASSAGE]] + [[NO_PASSAGE] * 3] * 3
    assert scores[0, 0] == scores[0, 1] > 0
    assert not scores[1:].any()
    assert index.search(["Vesuvius"], 1)[0].tolist() == [[4]]
    assert index.search(["volcano"], 100)[0].shape == (1, 100)
    assert index.search([], 5)[0].shape == (0, 5)


def test_batched_search_is_one_by_one(tmp_path: Path) -> None:
    index = build(tmp_path / "lexical")
    questions = ["Sicily sea", "volcano", "mount"]
    together = index.search(questions, 4)
    for number, question in enumerate(questions):
        alone = index.search([question], 4)
        assert (alone[0][0] == together[0][number]).all()
        assert (alone[1][0] == together[1][number]).all()


def test_artifact_tells_what_it_is(tmp_path: Path) -> None:
    index = build(tmp_path / "one", LexicalSettings(k1=0.9, b=0.4))
    assert len(index) == 6
    assert index.manifest.inputs["corpus"] == "0123"
    assert verify(tmp_path / "one") > 0
    build(tmp_path / "two", LexicalSettings(k1=0.9, b=0.4))
    manifests = [read_manifest(tmp_path / name) for name in ("one", "two")]
    assert manifests[0] == manifests[1]
    assert manifests[0].settings == {"k1": 0.9, "b": 0.4}
    with pytest.raises(ArtifactError):
        LexicalIndex.open(tmp_path / "none")
    score = index.search(["Etna"], 1)[1][0, 0]
    assert score == pytest.approx(bm25_by_hand("Etna", 0.9, 0.4)[1], rel=1e-5)


def test_fusion_by_hand() -> None:
    first = np.array([[7, 3, 5], [1, 2, NO_PASSAGE]])
    second = np.array([[3, 9], [NO_PASSAGE, NO_PASSAGE]])
    # Question 0: row 3 has 1/62 + 1/61, row 7 1/61, row 9 1/62, row 5 1/63.
    fused = reciprocal_rank_fusion([first, second], k=4)
    assert fused.tolist() == [[3, 7, 9, 5], [1, 2, NO_PASSAGE, NO_PASSAGE]]
    # Twice at the twentieth place is more than once at the first: 2/80 against 1/61.
    first, second = np.arange(20)[None], np.arange(100, 120)[None]
    first[0, 19] = second[0, 19] = 50
    assert reciprocal_rank_fusion([first, second], k=1).tolist() == [[50]]


def test_fusion_orders_equal_scores_by_row() -> None:
    rankings = [np.array([[4, 2, 8]]), np.array([[2, 8, 4]]), np.array([[8, 4, 2]])]
    assert reciprocal_rank_fusion(rankings, k=3).tolist() == [[2, 4, 8]]
    assert reciprocal_rank_fusion(rankings[:1], k=3, constant=1).tolist() == [[4, 2, 8]]
