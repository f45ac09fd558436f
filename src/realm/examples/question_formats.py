"""How do the published question sets become rows of one form, that of NQ-open?

    {"question": ..., "answer": [...], "answer_type": "string" | "regex", "documents": [...]}

Each function takes one JSON value of a format as it was published; which one it is shows in
its keys. What is in no known format is handed on as it is, for the reader of NQ-open to judge.
"""

import re
from collections.abc import Iterator
from typing import Any

from bs4 import BeautifulSoup

MAX_ANSWER_TOKENS = 5  # of Natural Questions, counted as its annotations do (Lee et al. 2019)

Row = dict[str, Any]

_DESCRIPTION = re.compile(r'\(description (?:"((?:[^"\\]|\\.)*)"|([^()"]*))\)')
_TAG = re.compile(r"<[^<>\s]+(?: [^<>]*)?>")
_SPACE_INSIDE = re.compile(r" (?=[,.;:!?%)\]]|'s\b|n't\b)|(?<=[(\[$]) ")


def question_rows(value: Any) -> Iterator[Any]:
    """Turn one JSON value into any number of rows; questions without an answer are left out.

    Raises:
        KeyError, TypeError, AttributeError, IndexError: it looks like a published format, but
            something in it is missing or of another type.
    """
    if not isinstance(value, dict):
        yield value
    elif "annotations" in value and ("document_text" in value or "document_html" in value):
        yield from _natural_question(value)
    elif isinstance(value.get("data"), list):
        yield from _squad(value)
    elif isinstance(value.get("Data"), list):
        yield from map(_trivia_question, value["Data"])
    elif isinstance(value.get("Answer", value.get("answer")), dict):
        yield _trivia_question(value)
    elif "utterance" in value and "targetValue" in value:
        yield _web_question(value)
    elif "answers" in value and "answer" not in value:
        yield _dpr_question(value)
    else:
        yield value


def _squad(value: Row) -> Iterator[Row]:
    """SQuAD 1.1 and 2.0; what cannot be answered (2.0) has an empty list of answers."""
    for article in value["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [answer["text"] for answer in question["answers"]]
                if answers and not question.get("is_impossible", False):
                    yield {"question": question["question"], "answer": answers}


def _trivia_question(value: Row) -> Row:
    """TriviaQA: every alias counts as right; keys begin with capitals in the original files.

    The normalised aliases are lower-case copies, which the rules of matching make unnecessary.
    """
    fields = {key.lower(): field for key, field in value.items()}
    answer = {key.lower(): field for key, field in fields["answer"].items()}
    answers = [answer["value"], *answer.get("aliases", ()), *answer.get("humananswers", ())]
    return {"question": fields["question"], "answer": answers}


def _web_question(value: Row) -> Row:
    """WebQuestions: answers stand as `(list (description "one") (description two))`."""
    found = _DESCRIPTION.findall(value["targetValue"])
    answers = [re.sub(r"\\(.)", r"\1", quoted) or bare.strip() for quoted, bare in found]
    return {"question": value["utterance"], "answer": answers}


def _dpr_question(value: Row) -> Row:
    """DPR; its positive passages have the ids of its own corpus, which name no document here."""
    row = {"question": value["question"], "answer": value["answers"]}
    return row | {key: value[key] for key in ("answer_type", "doc", "documents") if key in value}


def _natural_question(value: Row) -> Iterator[Row]:
    """Natural Questions, simplified or full: the short answers of all annotators, if short."""
    answers = [
        _short_answer_text(value, answer)
        for annotation in value["annotations"]
        for answer in annotation["short_answers"]
        if 0 < answer["end_token"] - answer["start_token"] <= MAX_ANSWER_TOKENS
    ]
    answers = [answer for answer in answers if answer]
    if answers:
        yield {"question": value["question_text"], "answer": answers}


def _short_answer_text(value: Row, answer: Row) -> str:
    if "document_html" in value:
        html = value["document_html"].encode()[answer["start_byte"] : answer["end_byte"]]
        return " ".join(BeautifulSoup(html.decode(), "html.parser").get_text().split())
    # Tokens of the simplified form are parted by single spaces, markup is among them.
    tokens = value["document_text"].split(" ")[answer["start_token"] : answer["end_token"]]
    text = " ".join(token for token in tokens if not _TAG.fullmatch(token))
    return _SPACE_INSIDE.sub("", text.replace("``", '"').replace("''", '"'))
