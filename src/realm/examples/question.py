"""Which form do questions and their right answers have in a file?

One JSON object a line, the form of Natural Questions open: `question`, `answer` (a string or
a list of strings) and, where the answers are regular expressions, `"answer_type": "regex"`.
`doc` or `documents` name the documents that hold the answer; they serve analysis alone. The
other published forms (`question_formats`) are turned into this one, and told by their content.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realm.artifact import write_atomically
from realm.corpus.documents import replace_surrogates
from realm.errors import SourceError
from realm.examples.answer_pattern import compile_pattern
from realm.examples.json_values import read_json_values
from realm.examples.question_formats import question_rows

# CuratedTREC comes without a word on its answers, which are regular expressions; its name tells.
_REGEX_FILE = re.compile(r"curated[-_]?trec", re.IGNORECASE)
# An item of a list whose double quotes were lost: 'no apostrophe inside' up to the next item.
_QUOTED_ITEM = re.compile(r"'([^']*)'(?:, |$)")
_NEXT_QUOTED_ITEM = re.compile(r", (?='[^']*'(?:, |$))")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with every answer that counts as right."""

    question: str
    answers: tuple[str, ...]
    is_regex: bool = False
    documents: tuple[str, ...] = ()


def read_questions(path: str | Path) -> list[Question]:
    """Read a file of questions in any of the published formats, also gzipped.

    Raises:
        SourceError: no such file, no question in it, or something that is not a question with
            at least one answer, or an invalid regular expression; the message names the place.
    """
    path = Path(path)
    questions = [_parse(row, place, _default_type(path)) for row, place in _rows(path)]
    if not questions:
        raise SourceError(f"{path} holds no questions: write one JSON object a line")
    return questions


def write_questions(path: Path, questions: list[Question]) -> None:
    """Write questions as one JSON object a line, in the form of NQ-open."""
    lines = []
    for question in questions:
        row: dict[str, Any] = {"question": question.question, "answer": list(question.answers)}
        if question.is_regex or _default_type(path) == "regex":
            row["answer_type"] = "regex" if question.is_regex else "string"
        if question.documents:
            row["documents"] = list(question.documents)
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines))


def parse_answer_list(text: str) -> list[str]:
    """Take apart a list of answers that was written as one string, as in `['a', b's, 'c']`.

    Files in this form went through a step that dropped double quotes, so that items with an
    apostrophe stand there bare. Text in no brackets is one answer.
    """
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    rest, items = text[1:-1], list[str]()
    while rest:
        if quoted := _QUOTED_ITEM.match(rest):
            items.append(quoted[1])
            rest = rest[quoted.end() :]
        else:
            bare, *later = _NEXT_QUOTED_ITEM.split(rest, maxsplit=1)
            items.extend(_split_bare_items(bare))
            rest = later[0] if later else ""
    return items


def _default_type(path: Path) -> str:
    """Of answers that come without a word on it."""
    return "regex" if _REGEX_FILE.search(path.name) else "string"


def _rows(path: Path) -> Iterator[tuple[Any, str]]:
    for value, place in read_json_values(path):
        try:
            for number, row in enumerate(question_rows(value), start=1):
                yield row, place if row is value else f"{place}, question {number}"
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise SourceError(
                f"{place}: looks like a published question set, but {_fault(error)}"
            ) from error


def _fault(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return f"something in it is of another type ({error})"


def _parse(row: Any, place: str, default_type: str) -> Question:
    if not isinstance(row, dict):
        raise SourceError(f'{place}: write an object with the keys "question" and "answer"')
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise SourceError(f'{place}: "question" is missing or holds no text')
    answer_type = row.get("answer_type") or default_type
    if answer_type not in ("string", "regex"):
        raise SourceError(
            f'{place}: "answer_type" is {answer_type!r}: write "regex" or leave it out'
        )
    is_regex = answer_type == "regex"
    documents = row.get("documents", row.get("doc"))
    return Question(
        question=replace_surrogates(question),
        answers=_answers(row.get("answer"), place, is_regex=is_regex),
        is_regex=is_regex,
        documents=tuple(_strings(documents, place, "documents")),
    )


def _answers(value: Any, place: str, *, is_regex: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value] if is_regex else parse_answer_list(value)
    answers = [answer for answer in _strings(value, place, "answer") if answer.strip()]
    if not answers:
        raise SourceError(f'{place}: "answer" is missing or holds no text')
    for pattern in answers if is_regex else ():
        try:
            compile_pattern(pattern)
        except ValueError as error:
            raise SourceError(
                f"{place}: the regular expression {pattern!r} is invalid: {error}: mend it"
            ) from error
    return tuple(dict.fromkeys(answers))


def _strings(value: Any, place: str, key: str) -> list[str]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise SourceError(f'{place}: "{key}" must be a string or a list of strings')
    return list(map(replace_surrogates, values))


def _split_bare_items(text: str) -> list[str]:
    # Each bare item has an apostrophe; a piece without one is the rest of the item before it.
    items: list[str] = []
    for piece in text.split(", "):
        if items and "'" not in piece:
            items[-1] += f", {piece}"
        else:
            items.append(piece)
    return items
