"""Where does an answer stand in a passage?

Every occurrence counts: training marginalises over all of them (REALM, section 3.3 fine-tuning).
Words are compared as the metric compares them, so that a label is never a span which the
evaluation would call wrong. A regular expression is searched in the text as it stands.
"""

import re
import string
import unicodedata
from functools import lru_cache

import numpy as np

from realm.corpus.store import PassageStore
from realm.examples.question import Question
from realm.pretraining.reading import occurrences

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_REGEX_FLAGS = re.IGNORECASE | re.UNICODE | re.MULTILINE
_OPENING, _CLOSING = "([{\"'`\u201c\u2018", ")]}\"'`\u201d\u2019.,;:!?"


def normalise_answer(text: str) -> str:
    """Reduce an answer to what is compared: no case, punctuation, articles or spare spaces."""
    text = unicodedata.normalize("NFD", text).lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """A regular-expression answer, or nothing where it is invalid."""
    try:
        return re.compile(pattern, _REGEX_FLAGS)
    except (re.error, OverflowError, RecursionError):
        return None


def contains_answer(text: str, title: str, question: Question) -> bool:
    """Whether the text or the title of a passage holds an answer of the question.

    An answer is held where its normalised words stand side by side, a regular expression where
    it matches anywhere in the original text.
    """
    if question.is_regex:
        patterns = [p for p in map(compile_pattern, question.answers) if p is not None]
        return any(pattern.search(part) for pattern in patterns for part in (text, title))
    words = (_padded_words(text), _padded_words(title))
    answers = [answer for answer in map(_padded_words, question.answers) if answer.strip()]
    return any(answer in part for answer in answers for part in words)


def find_answers(text: str, question: Question) -> list[tuple[int, int]]:
    """Character spans of all occurrences of all answers in a normalised passage text."""
    if question.is_regex:
        patterns = [p for p in map(compile_pattern, question.answers) if p is not None]
        return sorted({m.span() for p in patterns for m in p.finditer(text) if m.group().strip()})
    words, spans = _words_with_spans(text)
    found = set()
    for answer in question.answers:
        wanted = tuple(normalise_answer(answer).split())
        for first in _occurrences(words, wanted):
            found.add(_trim(text, spans[first][0], spans[first + len(wanted) - 1][1]))
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
        wanted = store.tokenizer.encode(answer, add_special_tokens=False).ids
        if len(wanted) <= max_answer_tokens:
            for first in occurrences(body, np.array(wanted, dtype=np.int64)):
                found.add((int(first), int(first) + len(wanted) - 1))
    return sorted(found)


def answer_token_spans(
    store: PassageStore, row: int, question: Question, *, max_answer_tokens: int
) -> list[tuple[int, int]]:
    """First and last wordpiece (inclusive) of each occurrence in a passage's body.

    Occurrences longer than the reader can point at are left out.
    """
    spans = find_answers(store.passage(row).text, question) if row >= 0 else []
    if not spans:
        return []
    starts, ends = store.token_spans(row).T
    result = []
    for start, end in spans:
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(starts, end, side="left")) - 1
        if first <= last < first + max_answer_tokens:
            result.append((first, last))
    return result


# Thousands of questions meet the same passages: about 1 kB for each entry here.
@lru_cache(maxsize=131_072)
def _padded_words(text: str) -> str:
    return f" {normalise_answer(text)} "


# The same passages again, where an answer is known to stand in them: about 20 kB for each entry.
@lru_cache(maxsize=16_384)
def _words_with_spans(text: str) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    for match in re.finditer(r"\S+", text):
        for word in normalise_answer(match.group()).split():
            words.append(word)
            spans.append(match.span())
    return tuple(words), tuple(spans)


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
    """Leave out quotes and stops around an occurrence, unless nothing else is left."""
    first, last = start, end
    while first < last and text[first] in _OPENING:
        first += 1
    while last > first and text[last - 1] in _CLOSING:
        last -= 1
    return (first, last) if first < last else (start, end)
