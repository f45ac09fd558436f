"""Which questions are worth training on."""

import pytest

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.question import Question
from realm.index.exact import ExactIndex
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.openqa import finetune
from realm.openqa.finetune import select_questions
from realm.openqa.labels import holds_answer
from realm.openqa.objective import OpenQaSettings, embed_questions
from realm.retrieval.retriever import Retriever

ANSWERED = [
    Question(f"Question {n}?", (answer,))
    for n, answer in enumerate(["Tavil", "1894", "King Oskar", "1956", "Keld", "The Grey Harbour"])
]
UNANSWERED = [Question(f"Where is {n}?", ("Atlantis",)) for n in range(20)]


@pytest.fixture
def index(small_snapshot: Snapshot) -> ExactIndex:
    return ExactIndex(small_snapshot.embeddings)


def select(
    model: Model,
    store: PassageStore,
    index: ExactIndex,
    questions: list[Question],
    *,
    share: float,
    depth: int = 20,
    seed: int = 0,
) -> list[Question]:
    settings = OpenQaSettings(selection_depth=depth, unanswered_share=share)
    retriever = Retriever(index)
    return select_questions(model, store, retriever, questions, settings, seed=seed)


@pytest.mark.parametrize(
    ("share", "expected"),
    # Of eight questions a quarter are two; all are as many as there are.
    [(0.0, 0), (0.25, 2), (0.5, 6), (1.0, 20)],
)
def test_at_most_a_share_has_no_answer(
    share: float,
    expected: int,
    small_model: Model,
    small_store: PassageStore,
    index: ExactIndex,
) -> None:
    questions = UNANSWERED[:10] + ANSWERED + UNANSWERED[10:]
    chosen = select(small_model, small_store, index, questions, share=share)
    assert chosen[:6] == ANSWERED
    others = chosen[6:]
    assert len(others) == expected
    assert others == [question for question in UNANSWERED if question in others]


def test_the_same_seed_chooses_the_same_ones(
    small_model: Model, small_store: PassageStore, index: ExactIndex
) -> None:
    questions = ANSWERED + UNANSWERED
    chosen = [
        select(small_model, small_store, index, questions, share=0.5, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_only_what_is_retrieved_counts(
    small_model: Model,
    small_store: PassageStore,
    index: ExactIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finetune, "_AT_ONCE", 4)
    with evaluating(small_model.embedder):
        vectors = embed_questions(small_model, [question.question for question in ANSWERED])
        best = index.search(vectors, 2).rows.tolist()
    expected = [
        question
        for question, rows in zip(ANSWERED, best, strict=True)
        if any(holds_answer(small_store, row, question) for row in rows)
    ]
    assert 0 < len(expected) < len(ANSWERED)
    assert select(small_model, small_store, index, ANSWERED, share=0.0, depth=2) == expected


def test_progress_counts_questions(
    small_model: Model, small_store: PassageStore, index: ExactIndex
) -> None:
    done: list[int] = []
    questions = ANSWERED * 15
    select_questions(
        small_model, small_store, Retriever(index), questions, OpenQaSettings(),
        seed=0, on_progress=done.append,
    )  # fmt: skip
    assert done == [64, 90]


def test_questions_of_another_world_are_refused(
    small_model: Model, small_store: PassageStore, index: ExactIndex
) -> None:
    with pytest.raises(SourceError, match="no passage of this corpus"):
        select(small_model, small_store, index, UNANSWERED, share=0.5)
