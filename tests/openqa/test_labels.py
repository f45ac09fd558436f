"""Where answers stand, by hand."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm.corpus.store import Passage, PassageStore
from realm.examples.question import Question
from realm.openqa import labels
from realm.openqa.labels import (
    answer_token_spans,
    answer_wordpiece_spans,
    contains_answer,
    find_answers,
    holds_answer,
    holds_raw_answer,
    holds_wordpieces,
    normalise_answer,
)


class FakeStore:
    """One passage whose wordpieces are three characters long or shorter, as far as words go."""

    def __init__(self, title: str, text: str) -> None:
        self.title, self.text = title, text

    def passage(self, row: int) -> Passage:
        return Passage(0, "d", self.title, self.text, 0, len(self.text))

    def token_spans(self, row: int) -> np.ndarray:
        spans, start = [], 0
        for word in self.text.split(" "):
            end = start + len(word)
            spans += [(begin, min(begin + 3, end)) for begin in range(start, end, 3)]
            start = end + 1
        return np.array(spans)


def fake_store(title: str, text: str) -> PassageStore:
    return cast(PassageStore, FakeStore(title, text))


def regex(*patterns: str) -> Question:
    return Question("?", patterns, is_regex=True)


def found(text: str, question: Question) -> list[str]:
    return [text[start:end] for start, end in find_answers(text, question)]


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        # Case.
        ("It was NASA who did.", ["nasa"], ["NASA"]),
        ("ida renquist lived here.", ["Ida Renquist"], ["ida renquist"]),
        # Articles, in the answer, in the text, between.
        ("He read The Grey Harbour.", ["the grey harbour"], ["Grey Harbour"]),
        ("He read The Grey Harbour.", ["A Grey Harbour"], ["Grey Harbour"]),
        ("Harbour of a Queen", ["Harbour of the Queen"], ["Harbour of a Queen"]),
        ("in theory", ["ory"], []),
        # Punctuation, around and inside, on either side.
        ('She said "Tavil", then left.', ["Tavil"], ["Tavil"]),
        ("It opened (1871).", ["1871"], ["1871"]),
        ("It opened in '1871'!", ["1871."], ["1871"]),
        ("the U.S. army", ["US"], ["U.S"]),
        ("the US army", ["U.S."], ["US"]),
        ("a well-known poet", ["wellknown"], ["well-known"]),
        ("Renquist, Ida", ["Renquist Ida"], ["Renquist, Ida"]),
        # Whole words only.
        ("Tavils and Tavilton", ["Tavil"], []),
        ("1871-1902", ["1871"], []),
        # Accents: written with one sign or with two they are equal, without them they are not.
        ("Jos\u00e9 came.", ["Jose\u0301"], ["Jos\u00e9"]),
        ("Jose\u0301 came.", ["JOS\u00c9"], ["Jose\u0301"]),
        ("Jos\u00e9 came.", ["Jose"], []),
        # Typographic marks around a word are apart from it, inside they are not.
        ("It opened in \u201c1871\u201d, they say.", ["1871"], ["1871"]),
        ("(\u2018Tavil\u2019).", ["Tavil"], ["Tavil"]),
        ("\u00abThe Grey Harbour\u00bb", ["Grey Harbour"], ["Grey Harbour"]),
        ("\u201e\u201aTavil\u2018\u201c", ["tavil"], ["Tavil"]),
        ("He said \u201cgo\u201d.", ["said go"], []),
        ("He said \u201cgo\u201d.", ["said \u201cgo\u201d"], ["said \u201cgo\u201d"]),
        ("It\u2019s Lind\u2019s.", ["Lind"], []),
        ("Dickens\u2019 novel", ["Dickens"], ["Dickens"]),
        # Several occurrences, of several answers, in the order of the text.
        ("Tavil, not Lomvar. Tavil!", ["Lomvar", "Tavil"], ["Tavil", "Lomvar", "Tavil"]),
        ("New York New York", ["New York"], ["New York", "New York"]),
        ("ha ha ha", ["ha ha"], ["ha ha", "ha ha"]),
        # Two spellings of one answer are one occurrence.
        ("The queen came.", ["queen", "The Queen", "Queen."], ["queen"]),
        # Nothing is left to look for.
        ("the a an ...", ["the", "..."], []),
        ("anything", ["?"], []),
        ("", ["Tavil"], []),
    ],
)
def test_occurrences(text: str, answers: list[str], expected: list[str]) -> None:
    assert found(text, Question("?", tuple(answers))) == expected


@pytest.mark.parametrize(
    ("text", "patterns", "expected"),
    [
        ("Born 9 June 1838 in Tavil.", [r"\d+ June \d{4}"], ["9 June 1838"]),
        ("born in TAVIL", ["tavil"], ["TAVIL"]),
        ("1871 and 1902", [r"\b1[89]\d\d\b"], ["1871", "1902"]),
        # The text as it stands: articles and punctuation are part of it.
        ("the U.S. army", [r"U\.S\."], ["U.S."]),
        ("the U.S. army", ["US"], []),
        # Parts of words, if the pattern wants them.
        ("Tavilton", ["Tavil"], ["Tavil"]),
        # Case is ignored, and ends of lines count as ends.
        ("tavil\nLomvar", ["^lomvar$"], ["Lomvar"]),
        # Nothing and blanks are no answers.
        ("a b", ["x*", r"\s"], []),
    ],
)
def test_regular_expressions(text: str, patterns: list[str], expected: list[str]) -> None:
    assert found(text, regex(*patterns)) == expected


quoted = ["\u201cTavil\u201d", "\u20181871", "Tavil\u2019,", "(\u201cthe\u201d"]
words = st.lists(st.sampled_from(["Tavil", "the", "1871", "a", "Lind's", "(queen)", "é", *quoted]))
answer_words = st.sampled_from(["Tavil", "1871", "queen", "é", "\u201cTavil\u201d"])


@given(words, st.lists(answer_words, min_size=1, max_size=3))
def test_a_label_is_never_called_wrong(text_words: list[str], answer_words: list[str]) -> None:
    text, answer = " ".join(text_words), " ".join(answer_words)
    spans = find_answers(text, Question("?", (answer,)))
    for start, end in spans:
        assert normalise_answer(text[start:end]) == normalise_answer(answer)
    assert bool(spans) == contains_answer(text, "", Question("?", (answer,)))


# By hand, from the rules in their order: decompose, lower case, drop the punctuation of ASCII,
# drop whole words a/an/the, one space between words.
NORMALISED = {
    # case
    "NASA": "nasa",
    "McDonald": "mcdonald",
    "STRA\u00dfE": "stra\u00dfe",
    "\u0391\u03b8\u03ae\u03bd\u03b1": "\u03b1\u03b8\u03b7\u0301\u03bd\u03b1",
    # white space
    "": "",
    "   ": "",
    "a   cat \n sat ": "cat sat",
    "one\ttwo": "one two",
    "one\u00a0two\u2003three": "one two three",
    "line\r\nbreak": "line break",
    # punctuation goes without leaving a space
    "The Beatles!": "beatles",
    "U.S.A.": "usa",
    "rock-n-roll": "rocknroll",
    "1,000 metres": "1000 metres",
    "3.14": "314",
    "$12.50": "1250",
    "50%": "50",
    "AC/DC": "acdc",
    "C++": "c",
    "C#": "c",
    "#1 (one)": "1 one",
    "it's": "its",
    "Dickens' novel": "dickens novel",
    "snake_case": "snakecase",
    "a@b.org": "aborg",
    "~`^|<>={}[]": "",
    "...": "",
    "Marks & Spencer": "marks spencer",
    # what is no ASCII stays
    "\u201cquoted\u201d": "\u201cquoted\u201d",
    "it\u2019s": "it\u2019s",
    "1914\u20131918": "1914\u20131918",
    "\u00a35": "\u00a35",
    "20 \u00b0C": "20 \u00b0c",
    "\u6771\u4eac": "\u6771\u4eac",
    # articles are whole words
    "the": "",
    "A": "",
    "an apple a day": "apple day",
    "The The": "",
    "Anna": "anna",
    "Theatre an hour": "theatre hour",
    "in theory": "in theory",
    "vitamin A": "vitamin",
    "A.": "",
    "a-ha": "aha",
    "the-end": "theend",
    "\u201cThe Wall\u201d": "\u201c wall\u201d",
    "die Br\u00fccke": "die bru\u0308cke",
    # accents: decomposed, not removed
    "Zo\u00eb": "zoe\u0308",
    "Zoe\u0308": "zoe\u0308",
    "\u00c9t\u00e9": "e\u0301te\u0301",
    "\u00f1": "n\u0303",
    # an accent is no part of a word, so that a bare `a` below one counts as an article
    "\u00c5ngstr\u00f6m": "\u030angstro\u0308m",
    "\u00e0 la carte": "\u0300 la carte",
    "\u00f8re": "\u00f8re",
    # no compatibility forms
    "\ufb01x": "\ufb01x",
    "x\u00b2": "x\u00b2",
}


@pytest.mark.parametrize(("text", "expected"), NORMALISED.items())
def test_normalised_answers(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def test_the_table_is_long_enough() -> None:
    assert len(NORMALISED) >= 40


@given(st.text(alphabet="the ab1.,()'\u201c\u201d\u2019\u2018\u00e9\u0301\n", max_size=30))
def test_the_two_ways_to_take_words_apart_agree(text: str) -> None:
    """The quick test of a passage and the slow one that knows the places see the same words."""
    words, spans = labels._words_with_spans(text)
    assert list(words) == labels._words(text)
    assert len(spans) == len(words)


def test_the_title_counts_for_the_retriever_alone() -> None:
    store = fake_store("Ida Renquist", "She was an engineer.")
    question = Question("?", ("Ida Renquist",))
    assert holds_answer(store, 0, question)
    assert holds_answer(store, 0, regex("ida"))
    assert answer_token_spans(store, 0, question, max_answer_tokens=5) == []
    assert not holds_answer(store, 0, Question("?", ("Tavil",)))


@pytest.mark.parametrize(
    ("title", "text", "answer", "expected"),
    [
        ("", "She was born in Tavil.", "Tavil", True),
        ("", "She was born in Tavilton.", "Tavil", True),
        ("", "She was born in Tavil.", "tavil", False),
        ("", "the U.S. army", "US", False),
        ("Tavil", "It is a port.", "Tavil", False),
    ],
)
def test_raw_answers(title: str, text: str, answer: str, expected: bool) -> None:
    store = fake_store(title, text)
    assert holds_raw_answer(store, 0, Question("?", ("nothing", answer))) is expected
    assert not holds_raw_answer(store, -1, Question("?", (answer,)))


def test_raw_regular_expressions_are_searched() -> None:
    store = fake_store("", "Born 9 June 1838.")
    assert holds_raw_answer(store, 0, regex(r"june \d{4}"))
    assert answer_wordpiece_spans(store, 0, regex(r"\d{4}"), max_answer_tokens=5) == [(5, 6)]


def test_wordpieces_by_hand(small_store: PassageStore) -> None:
    row, question = 3, Question("?", ("the SORNA", "harbour", "Tavil", "zzz"))
    tokens = small_store.tokenizer.encode(small_store.text(row), add_special_tokens=False).tokens
    expected = set()
    for words in ("the sorna", "harbour", "tavil"):
        wanted = small_store.tokenizer.encode(words, add_special_tokens=False).tokens
        expected |= {
            (first, first + len(wanted) - 1)
            for first in range(len(tokens))
            if tokens[first : first + len(wanted)] == wanted
        }
    found = answer_wordpiece_spans(small_store, row, question, max_answer_tokens=9)
    assert set(found) == expected
    assert len(expected) >= 3
    short = answer_wordpiece_spans(small_store, row, question, max_answer_tokens=1)
    assert set(short) == {span for span in expected if span[0] == span[1]}
    assert answer_wordpiece_spans(small_store, -1, question, max_answer_tokens=9) == []
    assert holds_wordpieces(small_store, row, question)
    assert not holds_wordpieces(small_store, row, Question("?", ("zzz",)))
    assert not holds_wordpieces(small_store, -1, question)


def test_the_null_passage_holds_nothing() -> None:
    store = fake_store("Tavil", "Tavil")
    assert not holds_answer(store, -1, Question("?", ("Tavil",)))
    assert answer_token_spans(store, -1, Question("?", ("Tavil",)), max_answer_tokens=5) == []


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        # Tav il is a por t Tav il
        ("Tavil is a port Tavil", "Tavil", [(0, 1), (6, 7)]),
        ("Tavil is a port Tavil", "port", [(4, 5)]),
        ("Tavil is a port Tavil", "is a port", [(2, 5)]),
        # (Ta vil ) in: a wordpiece is taken whole where the answer begins inside it.
        ("(Tavil) in", "Tavil", [(0, 1)]),
        ("Tavil.", "Tavil", [(0, 1)]),
        # Wit her spo oni a: five, and four is the most.
        ("Witherspoonia is", "Witherspoonia", []),
        ("Witherspoon is", "Witherspoon", [(0, 3)]),
    ],
)
def test_wordpieces_of_occurrences(text: str, answer: str, expected: list[tuple[int, int]]) -> None:
    store, question = fake_store("", text), Question("?", (answer,))
    assert answer_token_spans(store, 0, question, max_answer_tokens=4) == expected


def test_what_the_reader_points_at_must_match() -> None:
    # Wit her spo on: a match that begins inside a wordpiece would be called wrong.
    store = fake_store("", "Witherspoon")
    spans = answer_token_spans(store, 0, regex("wither"), max_answer_tokens=4)
    assert spans == [(0, 1)]
    assert answer_token_spans(store, 0, regex("itherspoon"), max_answer_tokens=4) == []
    assert answer_token_spans(store, 0, regex("her|wit"), max_answer_tokens=4) == [(0, 0), (1, 1)]


def test_the_wordpieces_of_real_passages(small_store: PassageStore) -> None:
    question = Question("?", ("3 May 1871", "Sorna", "the observatory Orsk"))
    for row in range(len(small_store)):
        text, spans = small_store.text(row), small_store.token_spans(row)
        places = answer_token_spans(small_store, row, question, max_answer_tokens=20)
        assert len(places) == text.count("3 May 1871") + text.count("Sorna")
        for first, last in places:
            assert text[spans[first][0] : spans[last][1]] in ("3 May 1871", "Sorna")
