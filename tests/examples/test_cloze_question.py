"""Made questions ask for a salient span in words of its own sentence."""

import numpy as np
import pytest

from realm.corpus.store import PassageStore
from realm.examples.cloze_question import OTHER, QUESTION_WORDS, AskedSpan, ClozeQuestionMaker
from realm.examples.wordpieces import occurrences
from realm.spans.annotate import SpanStore

# Words that the small tokenizer has.
ONE_PIECE: dict[str, tuple[str, ...]] = {"date": ("1871",), OTHER: ("bridge",)}


@pytest.fixture
def maker(small_store: PassageStore, small_spans: SpanStore) -> ClozeQuestionMaker:
    return ClozeQuestionMaker(small_store, small_spans, QUESTION_WORDS)


def ask_many(
    maker: ClozeQuestionMaker, spans: SpanStore, *, times: int = 20
) -> list[tuple[int, AskedSpan]]:
    return [
        (row, maker.ask(row, np.random.default_rng((row, number))))
        for row in spans.rows_with_spans().tolist()
        for number in range(times)
    ]


def test_the_answer_stands_in_the_passage_and_the_words_of_the_question_too(
    maker: ClozeQuestionMaker, small_store: PassageStore, small_spans: SpanStore
) -> None:
    openings = {
        piece
        for words in QUESTION_WORDS.values()
        for text in (*words, "?")
        for piece in small_store.tokenizer.encode(text, add_special_tokens=False).ids
    }
    for row, (question, answer) in ask_many(maker, small_spans):
        assert len(occurrences(small_store.token_ids(row), answer))
        known = {*small_store.token_ids(row).tolist(), *small_store.title_token_ids(row).tolist()}
        assert set(question.tolist()) <= known | openings


def test_a_question_does_not_hold_its_own_answer(
    maker: ClozeQuestionMaker, small_spans: SpanStore
) -> None:
    """Titles are often what is asked for: a reader that copies from the question learns nothing."""
    for row, (question, answer) in ask_many(maker, small_spans, times=40):
        assert not len(occurrences(question, answer)), row


def test_a_question_begins_as_its_label_asks_and_ends_with_a_mark(
    small_store: PassageStore, small_spans: SpanStore
) -> None:
    encode = small_store.tokenizer.encode
    maker = ClozeQuestionMaker(small_store, small_spans, ONE_PIECE)
    (date,), (other,), (mark,) = (
        encode(text, add_special_tokens=False).ids for text in ("1871", "bridge", "?")
    )
    dates = {
        tuple(small_store.token_ids(row)[span["token_start"] : span["token_end"]].tolist())
        for row in small_spans.rows_with_spans().tolist()
        for span in small_spans.of(row)
        if small_spans.labels[span["label_id"]] == "date"
    }
    seen = set()
    for _, (question, answer) in ask_many(maker, small_spans):
        is_date = tuple(answer.tolist()) in dates
        assert question[0] == (date if is_date else other)
        assert question[-1] == mark
        seen.add(is_date)
    assert seen == {True, False}


def test_the_title_is_named_in_half_of_the_questions(
    small_store: PassageStore, small_spans: SpanStore
) -> None:
    maker = ClozeQuestionMaker(small_store, small_spans, ONE_PIECE)
    named = []
    for row, (question, _) in ask_many(maker, small_spans):
        title = small_store.title_token_ids(row)
        if len(title) > 1:  # a name of one word may be there by itself
            places = {1, len(question) - 1 - len(title)}
            named.append(bool(places & {*occurrences(question, title).tolist()}))
    assert np.mean(named) == pytest.approx(0.5, abs=0.15)


def test_the_same_draw_asks_the_same(maker: ClozeQuestionMaker, small_spans: SpanStore) -> None:
    row = int(small_spans.rows_with_spans()[0])
    first, second = (maker.ask(row, np.random.default_rng(3)) for _ in range(2))
    assert first.question.tolist() == second.question.tolist()
    others = {tuple(maker.ask(row, np.random.default_rng(n)).question.tolist()) for n in range(20)}
    assert len(others) > 10


def test_punctuation_is_left_out_and_words_stay_whole(
    maker: ClozeQuestionMaker, small_store: PassageStore, small_spans: SpanStore
) -> None:
    full_stop = small_store.tokenizer.encode(".", add_special_tokens=False).ids[0]
    assert full_stop in small_store.token_ids(0)
    for row, (question, _) in ask_many(maker, small_spans):
        assert full_stop not in question
        words = maker._words(row, 0, len(small_store.token_ids(row)))
        body = small_store.token_ids(row).tolist()
        assert [piece for word in words for piece in word.tolist()] == [
            piece for piece in body if piece != full_stop and piece not in _marks(small_store)
        ]


def _marks(store: PassageStore) -> set[int]:
    return {
        piece
        for mark in ",;:"
        for piece in store.tokenizer.encode(mark, add_special_tokens=False).ids
    }
