"""Where does an answer stand in a passage?

Every occurrence counts: training marginalises over all of them (REALM, section 3.3 fine-tuning).
Words are compared as the metric compares them, so that a label is never a span which the
evaluation would call wrong. A regular expression is searched in the text as it stands.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal

import numpy as np

from realm.corpus.store import PassageStore
from realm.examples.answer_pattern import compile_pattern
from realm.examples.question import Question
from realm.examples.wordpieces import occurrences, wordpieces

AnswerRule = Literal["summed", "single_span"]
"""How spans become answers: summed over all places where the same words stand, without those that
begin or end inside a word; or each span for itself, as in the released code."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_OPENING, _CLOSING = "([{\"'`", ")]}\"'`.,;:!?"
# The metric removes the punctuation of ASCII alone. Quotation marks beyond it, where a word begins
# or ends, are words of their own here: a quoted number is found, and pointed at without its marks.
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2039\u203a"
_QUOTE = re.compile(f"[{_QUOTES}]")
_QUOTED_WORD = re.compile(f"([{_QUOTES}]*)(.*?)([{_QUOTES}]*)")
_EDGE = f"[{re.escape(string.punctuation)}{_QUOTES}]*"
_LEADING_QUOTES = re.compile(rf"{_EDGE}[{_QUOTES}]")
_TRAILING_QUOTES = re.compile(rf"[{_QUOTES}]{_EDGE}\Z")


def normalise_answer(text: str) -> str:
    """Reduce an answer to what is compared: no case, punctuation, articles or spare spaces."""
    text = unicodedata.normalize("NFD", text).lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def contains_answer(text: str, title: str, question: Question) -> bool:
    """Whether the text or the title of a passage holds an answer of the question.

    An answer is held where its normalised words stand side by side, a regular expression where
    it matches anywhere in the original text.
    """
    if question.is_regex:
        patterns = map(compile_pattern, question.answers)
        return any(pattern.occurs(part) for pattern in patterns for part in (text, title))
    searched = _searchable(text, title)
    return any(answer in searched for answer in _wanted(question))


def find_answers(text: str, question: Question) -> list[tuple[int, int]]:
    """Character spans of all occurrences of all answers in a normalised passage text."""
    if question.is_regex:
        return sorted({span for p in question.answers for span in compile_pattern(p).spans(text)})
    words, spans = _words_with_spans(text)
    found = set()
    for answer in question.answers:
        wanted = tuple(_words(answer))
        for first in _occurrences(words, wanted):
            found.add((spans[first][0], spans[first + len(wanted) - 1][1]))
    return sorted(found)


def holds_answer(store: PassageStore, row: int, question: Question) -> bool:
    """Whether an answer stands in the text or the title of a passage."""
    if row < 0:
        return False
    passage = store.passage(row)
    return contains_answer(passage.text, passage.title, question)


def holds_raw_answer(store: PassageStore, row: int, question: Question) -> bool:
    """Whether an answer stands letter by letter in the text of a passage, as released.

    Case counts, the title does not, and an answer may begin or end inside a word.
    """
    if row < 0 or question.is_regex:
        return holds_answer(store, row, question)
    text = store.passage(row).text
    return any(answer in text for answer in question.answers)


def holds_wordpieces(store: PassageStore, row: int, question: Question) -> bool:
    """Whether the wordpieces of an answer stand in the text of a passage, as in the port."""
    if question.is_regex:
        return holds_answer(store, row, question)
    longest = len(store.token_ids(row)) if row >= 0 else 0
    return bool(answer_wordpiece_spans(store, row, question, max_answer_tokens=longest))


def answer_wordpiece_spans(
    store: PassageStore, row: int, question: Question, *, max_answer_tokens: int
) -> list[tuple[int, int]]:
    """First and last wordpiece (inclusive) where the wordpieces of an answer stand, as released.

    A regular expression has no wordpieces: it is searched in the text.
    """
    if row < 0 or question.is_regex:
        return answer_token_spans(store, row, question, max_answer_tokens=max_answer_tokens)
    body, found = store.token_ids(row), set()
    for answer in question.answers:
        wanted = wordpieces(store.tokenizer, answer)
        if len(wanted) <= max_answer_tokens:
            for first in occurrences(body, wanted):
                found.add((int(first), int(first) + len(wanted) - 1))
    return sorted(found)


def answer_token_spans(
    store: PassageStore, row: int, question: Question, *, max_answer_tokens: int
) -> list[tuple[int, int]]:
    """First and last wordpiece (inclusive) of each occurrence in a passage's body.

    Occurrences longer than the reader can point at are left out, and matches of a regular
    expression inside a wordpiece: what the reader would point at is called wrong.
    """
    if row < 0:
        return []
    text = store.passage(row).text
    spans = find_answers(text, question)
    if not spans:
        return []
    starts, ends = store.token_spans(row).T
    result = []
    for start, end in spans:
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(starts, end, side="left")) - 1
        if first <= last < first + max_answer_tokens:
            pointed_at = text[starts[first] : ends[last]]
            if not question.is_regex or matches_regex(pointed_at, question.answers):
                result.append((first, last))
    return result


def matches_regex(prediction: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern matches where the prediction begins, as the official evaluation asks."""
    return any(compile_pattern(pattern).begins(prediction) for pattern in patterns)


def _words(text: str) -> list[str]:
    words = normalise_answer(text).split()
    if _QUOTE.search(text) is None:
        return words
    return [part for word in words for part in _split_quotes(word)]


def _split_quotes(word: str) -> list[str]:
    quoted = _QUOTED_WORD.fullmatch(word)
    before, inner, after = quoted.groups() if quoted else ("", word, "")
    return [*before, *([inner] if inner else []), *after]


@lru_cache(maxsize=16_384)
def _wanted(question: Question) -> tuple[str, ...]:
    answers = (f" {' '.join(_words(answer))} " for answer in question.answers)
    return tuple(dict.fromkeys(answer for answer in answers if answer.strip()))


# Thousands of questions meet the same passages: about 1 kB for each entry here. No answer holds a
# line break, so that none is found half in the text and half in the title.
@lru_cache(maxsize=131_072)
def _searchable(text: str, title: str) -> str:
    return f" {' '.join(_words(text))} \n {' '.join(_words(title))} "


# The same passages again, where an answer is known to stand in them: about 20 kB for each entry.
@lru_cache(maxsize=16_384)
def _words_with_spans(text: str) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    for match in re.finditer(r"\S+", text):
        for word, (start, end) in _words_of_piece(match.group()):
            words.append(word)
            spans.append((match.start() + start, match.start() + end))
    return tuple(words), tuple(spans)


def _words_of_piece(piece: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """The words of text without white space, as `_words` gives them, with their characters."""
    leading = _LEADING_QUOTES.match(piece)
    start = leading.end() if leading else 0
    trailing = _TRAILING_QUOTES.search(piece, start)
    end = trailing.start() if trailing else len(piece)
    yield from ((q.group(), q.span()) for q in _QUOTE.finditer(piece, 0, start))
    span = _trim(piece, start, end)
    yield from ((word, span) for word in _words(piece[start:end]))
    yield from ((q.group(), q.span()) for q in _QUOTE.finditer(piece, end))


def _occurrences(words: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    if not wanted:
        return []
    length = len(wanted)
    return [
        first
        for first, word in enumerate(words)
        if word == wanted[0] and words[first : first + length] == wanted
    ]


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out quotes and stops around a word, unless nothing else is left."""
    first, last = start, end
    while first < last and text[first] in _OPENING:
        first += 1
    while last > first and text[last - 1] in _CLOSING:
        last -= 1
    return (first, last) if first < last else (start, end)
