"""Every published form of a question set, as its files look, and what is wrong with bad ones."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from realm.errors import SourceError
from realm.examples import json_values
from realm.examples.question import Question, read_questions, write_questions

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Lomvar",
            "paragraphs": [
                {
                    "context": "Lomvar lies on the Sorna.",
                    "qas": [
                        {
                            "question": "Where does Lomvar lie?",
                            "id": "1",
                            "answers": [
                                {"text": "on the Sorna", "answer_start": 12},
                                {"text": "the Sorna", "answer_start": 15},
                                {"text": "on the Sorna", "answer_start": 12},
                            ],
                            "is_impossible": False,
                        },
                        {
                            "question": "Who founded Lomvar?",
                            "id": "2",
                            "answers": [],
                            "plausible_answers": [{"text": "Sorna", "answer_start": 19}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        }
    ],
}
TRIVIA = {
    "Data": [
        {
            "Answer": {
                "Aliases": ["Lomvar City", "LOMVAR"],
                "NormalizedAliases": ["lomvar city", "lomvar"],
                "Type": "WikipediaEntity",
                "Value": "Lomvar",
            },
            "EntityPages": [],
            "Question": "Which city lies on the Sorna?",
            "QuestionId": "tc_1",
        }
    ],
    "Domain": "Web",
}
DPR = [
    {
        "dataset": "nq_train_psgs_w100",
        "question": "where does lomvar lie",
        "answers": ["on the Sorna"],
        "positive_ctxs": [
            {"title": "Lomvar", "text": "...", "score": 1000, "passage_id": "631672"},
            {"title": "Sorna", "text": "...", "score": 0, "psg_id": 12},
        ],
        "negative_ctxs": [],
        "hard_negative_ctxs": [],
    },
    {"question": "who", "answers": ["Ida", "Ida Renquist"], "positive_ctxs": []},
]
WEB = [
    {
        "url": "http://www.freebase.com/view/en/lomvar",
        "targetValue": '(list (description "Ida \\"the\\" Renquist") (description Lomvar))',
        "utterance": "who is it?",
    }
]
HTML = "<P>K\u00e4the <B>Lind</B> &amp; Sons , then</P>"


def natural_question(**changes: Any) -> dict[str, Any]:
    """A line of the simplified form; its tokens are parted by single spaces."""
    answer = {"start_token": 1, "end_token": 6}
    value = {
        "document_text": "<P> K\u00e4the Lind 's mill , <B> Tavil </B> ( 1871 ) . </P>",
        "question_text": "who owned the mill",
        "example_id": 5655493461695504401,
        "annotations": [
            {"yes_no_answer": "NONE", "long_answer": {}, "short_answers": [answer]},
            {"yes_no_answer": "NONE", "long_answer": {}, "short_answers": []},
            {
                "yes_no_answer": "NONE",
                "long_answer": {},
                "short_answers": [{"start_token": 6, "end_token": 11}],
            },
        ],
    }
    return {**value, **changes}


def full_natural_question() -> dict[str, Any]:
    """A line of the full form: the answer is a slice of the bytes of the page."""
    content = HTML.encode()
    start, end = content.index(b"K"), content.index(b" ,")
    answer = {"start_token": 1, "end_token": 6, "start_byte": start, "end_byte": end}
    return {
        "document_html": HTML,
        "document_tokens": [],
        "document_title": "Mills",
        "question_text": "who owned the mill",
        "annotations": [{"short_answers": [answer]}],
    }


def as_lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps(SQUAD), [Question("Where does Lomvar lie?", ("on the Sorna", "the Sorna"))]),
        (
            json.dumps(SQUAD, indent=2),
            [Question("Where does Lomvar lie?", ("on the Sorna", "the Sorna"))],
        ),
        (
            json.dumps(TRIVIA, indent=4),
            [Question("Which city lies on the Sorna?", ("Lomvar", "Lomvar City", "LOMVAR"))],
        ),
        (
            # As the hub has it: one question a line, with small letters.
            as_lines({"question": "q", "answer": {"aliases": ["A B"], "value": "B"}}),
            [Question("q", ("B", "A B"))],
        ),
        (
            json.dumps(DPR, indent=4),
            [
                Question("where does lomvar lie", ("on the Sorna",)),
                Question("who", ("Ida", "Ida Renquist")),
            ],
        ),
        (as_lines(*DPR), [Question("where does lomvar lie", ("on the Sorna",)),
                          Question("who", ("Ida", "Ida Renquist"))]),
        (json.dumps(WEB), [Question("who is it?", ('Ida "the" Renquist', "Lomvar"))]),
        (as_lines(natural_question()), [Question("who owned the mill",
                                                 ("K\u00e4the Lind's mill,", "Tavil (1871"))]),
        (as_lines(full_natural_question()), [Question("who owned the mill",
                                                      ("K\u00e4the Lind & Sons",))]),
        (
            "\ufeff \n" + json.dumps([{"question": "q", "answer": "a"}]),
            [Question("q", ("a",))],
        ),
    ],
)  # fmt: skip
def test_the_content_tells_the_format(
    content: str, expected: list[Question], tmp_path: Path
) -> None:
    for name, data in (("q", content.encode()), ("q.gz", gzip.compress(content.encode()))):
        (tmp_path / name).write_bytes(data)
        assert read_questions(tmp_path / name) == expected


def test_long_answers_of_natural_questions_are_left_out(tmp_path: Path) -> None:
    def annotated(*ends: int) -> dict[str, Any]:
        answers = [{"start_token": 1, "end_token": end} for end in ends]
        return natural_question(annotations=[{"short_answers": answers}])

    path = tmp_path / "nq.jsonl"
    # One token, five (the most) and six; an empty span; markup alone.
    markup = natural_question(annotations=[{"short_answers": [{"start_token": 0, "end_token": 1}]}])
    path.write_text(as_lines(annotated(2, 6, 7), annotated(7), annotated(1), markup))
    questions = read_questions(path)
    assert [q.answers for q in questions] == [("K\u00e4the", "K\u00e4the Lind's mill,")]
    path.write_text(as_lines(annotated(7)))
    with pytest.raises(SourceError, match="holds no questions"):
        read_questions(path)


def test_a_list_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dpr.json"
    path.write_text(json.dumps(DPR, indent=1, ensure_ascii=False), encoding="utf-8")
    whole = read_questions(path)
    for size in (1, 7, 100):
        monkeypatch.setattr(json_values, "_READ_AT_ONCE", size)
        assert read_questions(path) == whole


def test_curated_trec_has_regular_expressions(tmp_path: Path) -> None:
    content = as_lines(
        {"question": "When?", "answer": ["Sept?(ember)?"]},
        {"question": "Who?", "answer": ["Ida"], "answer_type": "string"},
    )
    (tmp_path / "CuratedTrec-train.txt").write_text(content)
    questions = read_questions(tmp_path / "CuratedTrec-train.txt")
    assert [q.is_regex for q in questions] == [True, False]
    (tmp_path / "other.txt").write_text(content)
    assert not any(q.is_regex for q in read_questions(tmp_path / "other.txt"))


def test_written_questions_are_read_as_they_were(tmp_path: Path) -> None:
    questions = [
        Question("who?", ("['a']", "b")),
        Question("when?", (r"\d+",), is_regex=True, documents=("d-1", "d-2")),
    ]
    write_questions(tmp_path / "q.jsonl", questions)
    assert read_questions(tmp_path / "q.jsonl") == questions
    assert "answer_type" not in (tmp_path / "q.jsonl").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"question": "q", "answer": ["(a"], "answer_type": "regex"}',
         r"line 1: the regular expression '\(a' is invalid: missing \)"),
        (json.dumps({"data": [{"title": "x"}]}), r"line 1: .*'paragraphs' is missing"),
        (json.dumps({"data": [{"paragraphs": [{"qas": [{"question": 7, "answers":
                                                       [{"text": "a"}]}]}]}]}),
         r'line 1, question 1: "question" is missing'),
        (json.dumps({"Data": [{"Question": "q"}]}, indent=1), "'answer' is missing"),
        (json.dumps([*DPR, {"question": "q", "answers": [1]}]), "item 3.*must be a string"),
        (json.dumps([*DPR, "q"]), "item 3: write an object"),
        (json.dumps(DPR)[:-40], "item 2: not JSON"),
        (json.dumps(DPR)[:-1], "item 3: not JSON"),
        ("[", "item 1: not JSON"),
        ("[]", "holds no questions"),
        ('{"a":\n"b",\n]}', "line 3: not JSON"),
        (as_lines(natural_question(annotations=[{}])), "line 1: .*'short_answers' is missing"),
        (as_lines(natural_question(annotations=3)), "of another type"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_the_place_of_a_fault_is_named(content: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(content)
    with pytest.raises(SourceError, match=complaint) as raised:
        read_questions(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_list_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_bytes(json.dumps(WEB).encode() + b"\xff")
    with pytest.raises(SourceError, match="not UTF-8"):
        read_questions(path)


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(gzip.compress(as_lines(*DPR).encode())[:-12])
    with pytest.raises(SourceError, match="cannot be read"):
        read_questions(path)
