"""What each passage makes of an answer, by hand: exponentials of all scores are whole numbers."""

import math

import pytest
import torch

from realm.corpus.store import PassageStore
from realm.index.snapshot import IndexSettings, Snapshot
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.openqa.answerer import Answerer
from realm.openqa.explanation import explain
from realm.openqa.objective import OpenQaSettings, Reading, embed_questions
from realm.retrieval.retriever import Retriever
from small_world import ARTICLES

TITLES = list(ARTICLES)
TAVIL, BRISK = TITLES.index("Tavil"), TITLES.index("Anton Brisk")
BODY, WIDTHS = 64, 2
NONE = -math.inf


def token_of(store: PassageStore, row: int, word: str, occurrence: int = 0) -> int:
    text = store.text(row)
    found = [n for n, (a, b) in enumerate(store.token_spans(row)) if text[a:b] == word]
    return found[occurrence]


@pytest.fixture
def reading(small_store: PassageStore) -> Reading:
    """One question, read with two passages and a place in the beam that stayed empty.

    exp(score): passages 2 and 1, null 1. In "Tavil" the reader gives "Tavil" 3 and 1 in two places
    and "Sorna" 4; in "Anton Brisk" it gives "Velland" 5.
    """
    spans = torch.full((1, 3, BODY, WIDTHS), NONE)
    spans[0, 0, token_of(small_store, TAVIL, "Tavil", 0), 0] = math.log(3)
    spans[0, 0, token_of(small_store, TAVIL, "Tavil", 1), 0] = 0.0
    spans[0, 0, token_of(small_store, TAVIL, "Sorna"), 0] = math.log(4)
    spans[0, 1, token_of(small_store, BRISK, "Velland"), 0] = math.log(5)
    scores = torch.tensor([[math.log(2), 0.0, NONE]])
    joint = torch.cat(((spans + scores[:, :, None, None]).flatten(1), torch.zeros(1, 1)), dim=1)
    rows = torch.tensor([[TAVIL, BRISK, -1]])
    return Reading(rows, scores, torch.zeros(1), spans, joint)


def test_by_hand(reading: Reading, small_store: PassageStore) -> None:
    first, second, null = explain(small_store, reading, 0, "Tavil", "summed")
    assert (first.title, second.title) == ("Tavil", "Anton Brisk")
    assert (first.document_id, second.document_id) == (f"article-{TAVIL}", f"article-{BRISK}")
    beliefs = [first.retrieval_probability, second.retrieval_probability]
    assert [*beliefs, null.retrieval_probability] == pytest.approx([0.5, 0.25, 0.25])
    # Both places count: (3 + 1) of 3 + 1 + 4. The likelier one is shown.
    assert first.reading_probability == pytest.approx(0.5)
    # Of all spans: 2 * (3 + 1) of 2 * (3 + 1 + 4) + 1 * 5 + 1.
    assert first.contribution == pytest.approx(8 / 22)
    assert (first.answer_start, first.answer_end) == (0, 5)
    # "Tavil" stands in the second passage too, but nothing points there.
    assert (second.reading_probability, second.answer_start, second.answer_end) == (0.0, None, None)
    assert (null.passage_id, null.document_id, null.text) == (None, None, "")
    passage = small_store.passage(BRISK)
    assert (second.start, second.end) == (passage.source_start, passage.source_end)
    assert (null.start, null.end) == (None, None)
    assert (null.reading_probability, second.contribution, null.contribution) == (0.0, 0.0, 0.0)


def test_spans_that_count_for_themselves_are_not_added_up(
    reading: Reading, small_store: PassageStore
) -> None:
    first, *_ = explain(small_store, reading, 0, "Tavil", "single_span")
    assert first.reading_probability == pytest.approx(3 / 8)
    assert first.contribution == pytest.approx(2 * 3 / 22)


def test_without_an_answer_beliefs_are_left(reading: Reading, small_store: PassageStore) -> None:
    candidates = explain(small_store, reading, 0, "", "summed")
    assert [c.reading_probability for c in candidates] == [0.0, 0.0, 0.0]
    assert sum(c.retrieval_probability for c in candidates) == pytest.approx(1)


@pytest.mark.parametrize("null_passage", [False, True])
def test_explaining_changes_no_answer(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot, null_passage: bool
) -> None:
    settings = OpenQaSettings(reader_passages=4, null_passage=null_passage)
    retriever = Retriever(small_snapshot.index(IndexSettings()))
    answerer = Answerer(small_model, small_store, small_snapshot, retriever, settings)
    questions = ["Who designed the Lomvar Bridge?", "Where is Tavil?"]
    explained = answerer.explain(questions, top_k=3)
    assert [e.answered for e in explained] == answerer.answer(questions, top_k=3)
    for e in explained:
        assert len(e.candidates) == 5
        assert sum(c.retrieval_probability for c in e.candidates) == pytest.approx(1, abs=1e-5)
        assert (e.candidates[-1].retrieval_probability > 0) == null_passage
        best = e.answered.answers[0]
        (own,) = (c for c in e.candidates if c.passage_id == best.passage.passage_id)
        assert own.reading_probability > 0
        assert own.answer_start is not None
        assert own.text[own.answer_start : own.answer_end] == best.text


@pytest.mark.parametrize("answers", ["summed", "single_span"])
@pytest.mark.parametrize("null_passage", [False, True])
def test_the_numbers_are_those_of_the_answer(
    small_model: Model,
    small_store: PassageStore,
    small_snapshot: Snapshot,
    null_passage: bool,
    answers: str,
) -> None:
    """Scores count by their weight, and one name has one value."""
    values: dict[str, object] = {"reader_passages": 4, "retrieval_weight": 3.0}
    values |= {"null_passage": null_passage, "answers": answers}
    index = small_snapshot.index(IndexSettings())
    answerer = Answerer(
        small_model, small_store, small_snapshot, Retriever(index),
        OpenQaSettings.model_validate(values),
    )  # fmt: skip
    question = "Who designed the Lomvar Bridge?"
    (explained,) = answerer.explain([question], top_k=9)
    *passages, null = explained.candidates
    found = answerer.search([question], 4).scores[0]
    with evaluating(small_model.embedder):
        vector = embed_questions(small_model, [question])[0]
    nothing = vector @ small_snapshot.null_embedding if null_passage else torch.tensor(NONE)
    expected = (3.0 * torch.cat((found, nothing[None]))).softmax(dim=0).tolist()
    beliefs = [c.retrieval_probability for c in explained.candidates]
    assert beliefs == pytest.approx(expected, rel=1e-4)
    by_id = {c.passage_id: c.retrieval_probability for c in passages}
    for answer in explained.answered.answers:
        assert answer.passage.retrieval_probability == by_id[answer.passage.passage_id]
    contributions = [c.contribution for c in passages]
    total = sum(contributions) if answers == "summed" else max(contributions)
    assert total == pytest.approx(explained.answered.answers[0].probability, rel=1e-5)
    assert null.contribution == 0.0


def test_a_corpus_of_nothing_is_explained_by_nothing(small_store: PassageStore) -> None:
    nothing, none = torch.full((1, 2), NONE), torch.full((1,), NONE)
    spans = torch.full((1, 2, BODY, WIDTHS), NONE)
    joint = torch.full((1, 2 * BODY * WIDTHS + 1), NONE)
    reading = Reading(torch.full((1, 2), -1), nothing, none, spans, joint)
    (null,) = explain(small_store, reading, 0, "", "summed")
    assert null.retrieval_probability == 0.0


def test_another_number_of_passages(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    retriever = Retriever(small_snapshot.index(IndexSettings()))
    made = [
        Answerer(
            small_model, small_store, small_snapshot, retriever, OpenQaSettings(reader_passages=n)
        )
        for n in (2, 5)
    ]
    assert made[0].with_passages(5).answer(["Where is Tavil?"]) == made[1].answer(
        ["Where is Tavil?"]
    )
    assert made[0].settings.reader_passages == 2


def test_scores_of_a_search_are_inner_products(
    small_model: Model, small_store: PassageStore, small_snapshot: Snapshot
) -> None:
    index = small_snapshot.index(IndexSettings())
    answerer = Answerer(
        small_model, small_store, small_snapshot, Retriever(index), OpenQaSettings()
    )
    found = answerer.search(["Where is Tavil?"], 20)
    assert found.rows.tolist() == answerer.retrieve(["Where is Tavil?"], 20).tolist()
    assert found.rows[0, 12:].tolist() == [-1] * 8, "the corpus has twelve passages"
    scores = found.scores[0, :12].tolist()
    assert scores == sorted(scores, reverse=True)
    assert torch.isneginf(found.scores[0, 12:]).all()
