"""Words find added passages, in places near those that a rebuilt index gives them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from living_world import make_answerer, make_base
from test_corpus import BASE, QUESTIONS, ZEBRA, edited

from realm.corpus.documents import Document
from realm.index.snapshot import write_snapshot
from realm.living import words as words_module
from realm.living.corpus import LivingCorpus
from realm.models.checkpoint import Model
from realm.retrieval.lexical import build_lexical_index
from realm.retrieval.retriever import Retriever


@pytest.fixture(params=["exact", "approximate"])
def corpus(
    small_model: Model, tmp_path: Path, tokenizer_file: Path, request: pytest.FixtureRequest
) -> Iterator[LivingCorpus]:
    """A living corpus that is searched by words as well, beside either index."""
    base = make_base(tmp_path, BASE, tokenizer_file)
    lexical = build_lexical_index(base, tmp_path / "lexical")
    snapshot = write_snapshot(tmp_path / "snapshot", small_model, base, checkpoint="a", step=0)
    answerer = make_answerer(small_model, base, snapshot, lexical, kind=request.param)
    corpus = LivingCorpus(tmp_path / "living", base, lambda: answerer)
    yield corpus
    corpus.close()


def test_words_find_what_was_added_and_nothing_that_is_gone(
    corpus: LivingCorpus, tmp_path: Path, tokenizer_file: Path
) -> None:
    early = corpus.view()
    documents = edited(corpus)
    rebuilt_base = make_base(tmp_path / "rebuilt", documents, tokenizer_file)
    rebuilt = build_lexical_index(rebuilt_base, tmp_path / "rebuilt" / "lexical")

    for _ in range(2):
        view = corpus.view().answerer
        assert isinstance(view.retriever, Retriever)
        assert view.retriever.lexical is not None
        for question in [*QUESTIONS, "zebra left", "town", "harbour poem"]:
            rows, scores = view.retriever.lexical.search([question], 40)
            expected_rows, _ = rebuilt.search([question], 40)
            num = int((rows >= 0).sum())
            assert num == int((expected_rows >= 0).sum())
            assert (np.diff(scores[0, :num]) <= 0).all()
            ours = {view.store.text(row) for row in rows[0, :num].tolist()}
            assert ours == {rebuilt_base.text(row) for row in expected_rows[0, :num].tolist()}
        assert (view.retrieve(["the zebra left"], 5) >= 0).all()
        corpus.merge()
    corpus.put([ZEBRA])
    rows, _ = early.answerer.retriever.lexical.search(["zebra"], 3)  # type: ignore[attr-defined]
    assert (rows == -1).all()


def test_words_of_what_is_gone_are_forgotten(
    corpus: LivingCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, and not by those who still look at them."""
    monkeypatch.setattr(words_module, "_FEWEST_TO_FORGET", 10)
    corpus.put([ZEBRA])
    between = corpus.view().answerer.retriever.lexical  # type: ignore[attr-defined]
    found = between.search(["zebra"], 40)
    for number in range(8):
        corpus.put([Document("zoo/zebra", "Zebra", f"The giraffe number {number} came.")])
    last = corpus.view().answerer.retriever.lexical  # type: ignore[attr-defined]
    num_kept = len({i for pairs in last._weights.values() for i, _ in pairs})
    assert num_kept == 5, "one is here; at 12 known ones all others were forgotten"
    assert (last.search(["giraffe"], 3)[0] >= 0).sum() == 1
    for ours, theirs in zip(between.search(["zebra"], 40), found, strict=True):
        assert (ours == theirs).all()


def test_the_formula_is_that_of_the_base(corpus: LivingCorpus) -> None:
    """A copy of a passage of the base scores as that passage does."""
    copied = corpus.document("article-3")
    corpus.put([type(copied)("copy", copied.title, copied.text)])
    view = corpus.view().answerer
    rows, scores = view.retriever.lexical.search(["harbour Tavil"], 40)  # type: ignore[attr-defined]
    score_by_place: dict[tuple[str, int], float] = {}
    for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True):
        if row >= 0:
            passage = view.store.passage(row)
            score_by_place[passage.document_id, passage.source_start] = score
    copies = [key for key in score_by_place if key[0] == "copy"]
    assert copies
    for _, start in copies:
        expected = score_by_place["article-3", start]
        assert score_by_place["copy", start] == pytest.approx(expected, rel=1e-5)
    corpus.remove(["article-3"])
    found = corpus.view().answerer
    rows = found.retrieve(["harbour Tavil"], 60)
    names = {found.store.passage(row).document_id for row in rows[rows >= 0].tolist()}
    assert "copy" in names
    assert "article-3" not in names
