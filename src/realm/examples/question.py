"""Which form do questions and their right answers have in a file?

One JSON object a line, the form of Natural Questions open: `question`, `answer` (a string or
a list of strings) and, where the answers are regular expressions, `"answer_type": "regex"`.
`doc` or `documents` name the documents that hold the answer; they serve analysis alone.
"""

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realm.errors import SourceError

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
    """Read a file of questions (`.jsonl`, also gzipped); blank lines are skipped.

    Raises:
        SourceError: no such file, no question in it, or a line that is not a question with at
            least one answer; the message names the line.
    """
    path = Path(path)
    questions = []
    for number, line in _numbered_lines(path):
        place = f"{path}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip():
                questions.append(_parse(json.loads(text), place))
        except UnicodeDecodeError as error:
            raise SourceError(f"{place}: not UTF-8 at byte {error.start}: convert it") from error
        except json.JSONDecodeError as error:
            raise SourceError(f"{place}: not JSON: {error.msg} at column {error.colno}") from error
    if not questions:
        raise SourceError(f"{path} holds no questions: write one JSON object a line")
    return questions


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


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield from enumerate(stream, start=1)
    except FileNotFoundError as error:
        raise SourceError(f"there is no question file {path}: check the path") from error
    except (EOFError, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _parse(row: Any, place: str) -> Question:
    if not isinstance(row, dict):
        raise SourceError(f'{place}: write an object with the keys "question" and "answer"')
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise SourceError(f'{place}: "question" is missing or holds no text')
    answer_type = row.get("answer_type")
    if answer_type not in (None, "string", "regex"):
        raise SourceError(
            f'{place}: "answer_type" is {answer_type!r}: write "regex" or leave it out'
        )
    is_regex = answer_type == "regex"
    answers = row.get("answer")
    if isinstance(answers, str):
        answers = [answers] if is_regex else parse_answer_list(answers)
    answers = [answer for answer in _strings(answers, place, "answer") if answer.strip()]
    if not answers:
        raise SourceError(f'{place}: "answer" is missing or holds no text')
    documents = row.get("documents", row.get("doc"))
    return Question(
        question=question,
        answers=tuple(dict.fromkeys(answers)),
        is_regex=is_regex,
        documents=tuple(_strings(documents, place, "documents")),
    )


def _strings(value: Any, place: str, key: str) -> list[str]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise SourceError(f'{place}: "{key}" must be a string or a list of strings')
    return values


def _split_bare_items(text: str) -> list[str]:
    # Each bare item has an apostrophe; a piece without one is the rest of the item before it.
    items: list[str] = []
    for piece in text.split(", "):
        if items and "'" not in piece:
            items[-1] += f", {piece}"
        else:
            items.append(piece)
    return items
