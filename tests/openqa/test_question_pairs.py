"""Which passages a question learns from, and what it is asked among them."""

from pathlib import Path

import pytest
import torch

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.question import Question
from realm.index.encode import pack_passage
from realm.index.trunk_vectors import write_trunk_vectors
from realm.models.checkpoint import Model
from realm.models.embedder import embed
from realm.openqa.labels import holds_answer
from realm.openqa.objective import embed_questions
from realm.openqa.question_pairs import (
    QuestionPair,
    QuestionPairObjective,
    QuestionPairSettings,
    mine_question_pairs,
)
from realm.pretraining.warm_start import InverseClozeSettings
from realm.retrieval.candidates import NULL_ROW
from realm.retrieval.lexical import LexicalIndex
from realm.training.loop import LoopSettings, Training
from realm.training.optim import OptimSettings

FOUNDED = Question("When was the Orsk Observatory founded?", ("1894",))
BRISK = Question("In which town was the poet Anton Brisk born?", ("Tavil",))
NOWHERE = Question("Where is the observatory?", ("Atlantis",))


def mined(store: PassageStore, lexical: LexicalIndex, *questions: Question) -> list[QuestionPair]:
    return mine_question_pairs(store, lexical, questions, QuestionPairSettings())


def test_the_best_that_answers_and_the_best_that_does_not(
    small_store: PassageStore, small_lexical: LexicalIndex
) -> None:
    pairs = mined(small_store, small_lexical, NOWHERE, FOUNDED, BRISK)
    assert [pair.question for pair in pairs] == [FOUNDED, BRISK]
    for question, positive, negative in pairs:
        ranking = small_lexical.search([question.question], 12)[0][0].tolist()
        held = [holds_answer(small_store, row, question) for row in ranking]
        assert positive == ranking[held.index(True)]
        assert negative == ranking[held.index(False)]


def test_the_document_that_a_question_names_is_not_looked_at(
    small_store: PassageStore, small_lexical: LexicalIndex
) -> None:
    (plain,) = mined(small_store, small_lexical, BRISK)
    named = "article-5"  # The Grey Harbour, which tells of Tavil as well
    assert small_store.passage(plain.positive).document_id != named
    question = Question(BRISK.question, BRISK.answers, documents=(named,))
    (pair,) = mined(small_store, small_lexical, question)
    assert pair[1:] == plain[1:]


def test_where_all_hold_an_answer_there_is_no_hard_negative(
    small_store: PassageStore, small_lexical: LexicalIndex
) -> None:
    (pair,) = mined(small_store, small_lexical, Question("Who was Maritha?", (".",), is_regex=True))
    assert pair.negative == NULL_ROW


def test_questions_about_something_else_are_refused(
    small_store: PassageStore, small_lexical: LexicalIndex
) -> None:
    with pytest.raises(SourceError, match="holds an answer to any training question"):
        mined(small_store, small_lexical, NOWHERE)


def test_each_question_is_asked_among_all_passages_of_the_batch(
    small_model: Model, small_store: PassageStore
) -> None:
    pairs = [QuestionPair(FOUNDED, 6, 3), QuestionPair(BRISK, 4, NULL_ROW)]
    settings = InverseClozeSettings(batch_size=9)
    objective = QuestionPairObjective(small_model, small_store, pairs, settings, seed=0)
    loss, scalars = objective.loss(0)
    packer, embedder = small_model.packer, small_model.embedder
    queries = embed_questions(small_model, [pair.question.question for pair in pairs])
    packed = [pack_passage(small_store, packer, row) for row in (6, 4, 3, NULL_ROW)]
    scores = queries @ embed(embedder.passage_tower, packed, packer).T
    log_probs = scores.log_softmax(dim=-1)
    assert loss.item() == pytest.approx(-(log_probs[0, 0] + log_probs[1, 1]).item() / 2, abs=1e-4)
    right = (scores.argmax(dim=-1) == torch.arange(2)).float().mean()
    assert scalars == {"accuracy": float(right)}


def test_passages_of_a_trunk_at_rest_are_taken_from_where_they_are_kept(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    pairs = [QuestionPair(FOUNDED, 6, 3), QuestionPair(BRISK, 4, NULL_ROW)]
    settings = InverseClozeSettings(batch_size=9, trains="projection")
    vectors = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    losses = [
        QuestionPairObjective(small_model, small_store, pairs, settings, seed=0, vectors=kept)
        .loss(0)[0]
        .item()
        for kept in (None, vectors)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)  # they are kept in half width
    assert losses[0] != losses[1]


def test_the_loss_falls(
    small_model: Model, small_store: PassageStore, small_lexical: LexicalIndex, tmp_path: Path
) -> None:
    pairs = mined(small_store, small_lexical, FOUNDED, BRISK)
    settings = InverseClozeSettings(batch_size=2, trains="projection")
    objective = QuestionPairObjective(small_model, small_store, pairs, settings, seed=0)
    before = float(objective.loss(0)[0].detach())
    loop = LoopSettings(
        num_steps=20, save_every=20, precision="fp32", optim=OptimSettings(learning_rate=1e-2)
    )
    trunk = [weight.clone() for weight in small_model.embedder.query_tower.trunk.parameters()]
    Training(objective, loop, tmp_path, {}).run()
    assert float(objective.loss(0)[0].detach()) < 0.5 * before
    rested = zip(trunk, small_model.embedder.query_tower.trunk.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in rested)
