import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from realm.errors import SourceError
from realm.examples.question import (
    Question,
    parse_answer_list,
    read_questions,
    write_questions,
)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_reads_every_form_of_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        {"question": "who?", "answer": ["Ada", "Ada Lovelace", "Ada"]},
        {"question": "when?", "answer": "1815", "doc": "ada"},
        {"question": "how?", "answer": ["[a-z]+"], "answer_type": "regex", "documents": ["a", "b"]},
        {"question": "what?", "answer": "[ab]", "answer_type": "regex"},
    )
    assert read_questions(path) == [
        Question("who?", ("Ada", "Ada Lovelace")),
        Question("when?", ("1815",), documents=("ada",)),
        Question("how?", ("[a-z]+",), is_regex=True, documents=("a", "b")),
        Question("what?", ("[ab]",), is_regex=True),
    ]


def test_reads_gzip_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"question": "q", "answer": "a"}\r\n\r\n'))
    assert read_questions(path) == [Question("q", ("a",))]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Paris", ["Paris"]),
        ("[1]", ["1"]),
        ("['a', 'b, c', 'd']", ["a", "b, c", "d"]),
        ("['N Z', New Zealand's, 'Nz']", ["N Z", "New Zealand's", "Nz"]),
        ("['1970s (decade)', The '70s, 1970's, '1970-1979']",
         ["1970s (decade)", "The '70s", "1970's", "1970-1979"]),
        ("[Hawai'i, USA, O'ahu, 'Maui']", ["Hawai'i, USA", "O'ahu", "Maui"]),
        ("['Allo 'Allo!, 'x']", ["'Allo 'Allo!", "x"]),
    ],
)  # fmt: skip
def test_takes_lists_in_strings_apart(text: str, items: list[str]) -> None:
    assert parse_answer_list(text) == items


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[]", "write an object"),
        (b'{"answer": ["a"]}', '"question" is missing'),
        (b'{"question": " ", "answer": ["a"]}', '"question" is missing'),
        (b'{"question": "q"}', '"answer" is missing'),
        (b'{"question": "q", "answer": []}', '"answer" is missing'),
        (b'{"question": "q", "answer": [" "]}', '"answer" is missing'),
        (b'{"question": "q", "answer": [1]}', "must be a string"),
        (b'{"question": "q", "answer": "a", "answer_type": "fuzzy"}', "answer_type"),
        (b'{"question": "q\xff", "answer": "a"}', "not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "a"}\n' + line + b"\n")
    with pytest.raises(SourceError, match=f"line 2: .*{complaint}"):
        read_questions(path)


@pytest.mark.parametrize(
    "content",
    [
        "[%s]",
        "%s",
        '{\n"id": %s}',
        '{"question": "q", "answer": "a"}\n%s',
        '[{"question": "q", "answer": "a"}, %s',
    ],
)
def test_numbers_of_thousands_of_digits_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(content % ("9" * 5000))
    with pytest.raises(SourceError, match=r"not JSON: .*digits"):
        read_questions(tmp_path / "q.json")


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    row = {"question": "who \ud800?", "answer": ["\udfff", "Ada"], "documents": ["d\ud800"]}
    questions = read_questions(write(tmp_path / "q.jsonl", row))
    assert questions == [
        Question("who \ufffd?", ("\ufffd", "Ada"), documents=("d\ufffd",)),
    ]
    write_questions(tmp_path / "again.jsonl", questions)
    assert read_questions(tmp_path / "again.jsonl") == questions


def test_files_without_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no question file"):
        read_questions(tmp_path / "absent.jsonl")
    with pytest.raises(SourceError, match="holds no questions"):
        read_questions(write(tmp_path / "empty.jsonl"))
    (tmp_path / "q.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(SourceError, match="cannot be read"):
        read_questions(tmp_path / "q.jsonl.gz")


def test_real_files_are_read_whole() -> None:
    folder = Path(os.environ.get("REALM_DATA", "../shared/data")) / "openqa"
    if not folder.is_dir():
        pytest.skip("REALM_DATA is absent")
    for name, count in {"trivia-dev": 1999, "squad-dev": 1086, "curatedtrec-train": 428}.items():
        questions = read_questions(folder / f"{name}.jsonl")
        assert len(questions) == count
        assert not any(a.startswith("['") for q in questions for a in q.answers)
