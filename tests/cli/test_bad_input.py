"""Does bad input end with one line that says what to do, with status 2, and lose nothing?"""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, realm

from realm.artifact import FORMAT_VERSION, MANIFEST
from realm.stages import Run


@pytest.fixture
def settings(trunk_folder: Path) -> list[str]:
    """Options that begin a run with the tiny trunk."""
    values = {
        "corpus.passage_tokens": "64",
        "corpus.num_workers": "1",
        "packing.query_tokens": "40",
        "embedder.projection_width": "8",
        "embedder.trunk": f"'{trunk_folder}'",
        "reader.trunk": f"'{trunk_folder}'",
    }
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def run(corpus_source: Path, tmp_path: Path, settings: list[str]) -> Path:
    """A run with a corpus."""
    path = tmp_path / "run"
    assert realm("corpus", corpus_source, "--run", path, *settings).exit_code == 0
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


ROW = '{"id": "1", "title": "Tavil", "text": "Tavil is a port."}\n'
BAD_SOURCES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda source: None, "there is no file or folder"),
    "empty folder": (lambda source: source.mkdir(), "document"),
    "empty file": (lambda source: write_text(source / "a.jsonl", ""), "document"),
    "one passage": (lambda source: write_text(source / "a.txt", "One port."), "at least 2"),
    "no JSON": (lambda source: write_text(source / "a.jsonl", ROW + "{"), "line 2"),
    "no text": (
        lambda source: write_text(source / "a.jsonl", '{"id": "1", "title": "", "text": ""}\n'),
        "text",
    ),
    "cut records": (
        lambda source: write_text(source / "a.tfrecord", "").write_bytes(bytes(7)),
        "a.tfrecord, record 1: the file is cut short",
    ),
    "damaged records": (
        lambda source: write_text(source / "a.tfrecord", "").write_bytes(bytes(40)),
        "a.tfrecord, record 1: damaged",
    ),
    "no UTF-8": (
        lambda source: write_text(source / "a.txt", "").write_bytes(b"fine\nnot \xff"),
        "line 2",
    ),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_documents(case: str, tmp_path: Path, settings: list[str], corpus_source: Path) -> None:
    make, expected = BAD_SOURCES[case]
    make(tmp_path / "source")
    run = tmp_path / "run"
    assert expected in error_of(realm("corpus", tmp_path / "source", "--run", run, *settings))
    # What is mended works in the same run.
    assert realm("corpus", corpus_source, "--run", run).exit_code == 0


QUESTION = '{"question": "Where?", "answer": ["Tavil"]}\n'
BAD_QUESTIONS = {
    "": "no questions",
    '{"question": "Where?"}\n': "line 1",
    QUESTION + '{"question": "Where?", "answer": []}\n': "line 2",
    QUESTION + "where?\n": "line 2",
    QUESTION
    + '{"question": "?", "answer": ["(a"], "answer_type": "regex"}\n': "line 2: the regular",
    '{"version": "1.1", "data": [{"title": "Tavil"}]}': "'paragraphs' is missing",
    '[{"question": "Where?", "answers": ["Tavil"]}, 7]': "item 2",
}


@pytest.mark.parametrize("text", BAD_QUESTIONS)
def test_bad_questions(text: str, run: Path, tmp_path: Path) -> None:
    file = write_text(tmp_path / "questions.jsonl", text)
    assert BAD_QUESTIONS[text] in error_of(realm("finetune", file, "--run", run))


def test_unknown_settings_name_the_nearest(tmp_path: Path) -> None:
    message = error_of(realm("corpus", "--run", tmp_path, "--set", "corpus.pasage_tokens=70"))
    assert "'passage_tokens'" in message
    recipe = write_text(tmp_path / "my.toml", "[pretain]\n")
    assert "'pretrain'" in error_of(realm("run", recipe, "--run", tmp_path))
    assert not (tmp_path / "recipe.json").exists()


def test_what_is_no_run_is_not_made_one(tmp_path: Path) -> None:
    for command in (["ask", "Who?"], ["info"], ["report"], ["refresh"]):
        assert "is no run" in error_of(realm(*command, "--run", tmp_path / "none"))
    assert "no documents" in error_of(realm("warm-start", "--run", tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_run_that_holds_nothing_says_so(tmp_path: Path, settings: list[str]) -> None:
    source = write_text(tmp_path / "one.txt", "Tavil is a port.")
    message = error_of(realm("corpus", source, "--run", tmp_path / "run", *settings))
    assert "passages of all sources: 1" in message
    shown = realm("info", "--run", tmp_path / "run").stdout
    assert shown.startswith(f"{tmp_path / 'run'} was begun, and nothing in it is finished")
    assert "Counts" not in shown


def test_a_finished_stage_keeps_its_settings(run: Path) -> None:
    kept = (run / "recipe.json").read_bytes()
    result = realm("spans", "--run", run, "--set", "corpus.passage_tokens=32")
    assert "corpus.passage_tokens" in error_of(result)
    assert "sources" in error_of(realm("corpus", run, "--run", run))
    assert "leave the recipe out" in error_of(realm("run", "small", "--run", run))
    assert (run / "recipe.json").read_bytes() == kept


def test_changed_settings_are_kept(run: Path) -> None:
    assert realm("spans", "--run", run, "--set", "pretrain.loop.num_steps=3").exit_code == 0
    assert Run.open(run).experiment.pretrain.loop.num_steps == 3


def test_an_altered_file_is_found(run: Path) -> None:
    file = next(file for file in (run / "corpus").iterdir() if "passages" in file.name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "checksum" in error_of(realm("info", "--run", run, "--verify"))


def test_a_cut_file_is_found(run: Path) -> None:
    file = next(file for file in (run / "corpus").iterdir() if "passages" in file.name)
    file.write_bytes(file.read_bytes()[:-1])
    assert "cut short" in error_of(realm("spans", "--run", run))


def test_another_format_version_is_refused(run: Path) -> None:
    file = run / "corpus" / MANIFEST
    facts = json.loads(file.read_text(encoding="utf-8"))
    facts["format_version"] = FORMAT_VERSION + 1
    file.write_text(json.dumps(facts), encoding="utf-8")
    assert "format version" in error_of(realm("spans", "--run", run))


def test_passages_over_the_limit_of_the_trunk(
    corpus_source: Path, tmp_path: Path, settings: list[str]
) -> None:
    run = tmp_path / "run"
    longer = [*settings, "--set", "corpus.passage_tokens=200"]
    assert "128 wordpieces" in error_of(realm("corpus", corpus_source, "--run", run, *longer))
    assert not (run / "corpus").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk(error: Exception, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Run) -> None:
        raise error

    monkeypatch.setattr(Run, "spans", fail)
    assert "disk is full" in error_of(realm("spans", "--run", run))


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    questions = write_text(tmp_path / "q.jsonl", QUESTION)
    (tmp_path / "folder").mkdir()
    command = ("questions", questions, "--output")
    assert f"{tmp_path / 'folder'}: Is a directory" in error_of(
        realm(*command, tmp_path / "folder")
    )
    assert "File exists" in error_of(realm(*command, questions / "out.jsonl"))
    assert "Not a directory" in error_of(realm(*command, questions / "below" / "out.jsonl"))


def test_errors_without_a_file_are_not_hidden(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Run) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Run, "spans", fail)
    with pytest.raises(OSError, match="Input/output"):
        realm("spans", "--run", run)


def test_an_interrupt_says_how_to_go_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "spans", stop)
    result = realm("spans", "--run", run)
    assert result.exit_code == 130
    assert result.stderr == "stopped; start again to go on\n"


def test_errors_of_the_program_are_not_hidden(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Run) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Run, "spans", fail)
    with pytest.raises(ZeroDivisionError):
        realm("spans", "--run", run)


def test_documents_without_text_are_named(tmp_path: Path, settings: list[str]) -> None:
    folder = tmp_path / "documents"
    for number in range(5):
        write_text(folder / f"scan-{number}.txt", " \n")
    for name in ("a", "b"):
        write_text(folder / f"{name}.txt", "Tavil is a port.")
    result = realm("corpus", folder, "--run", tmp_path / "run", *settings)
    assert result.stdout.endswith("2 passages of 7 documents\n")
    assert "5 have no text" in result.stderr
    assert result.stderr.endswith(": scan-0.txt, scan-1.txt, scan-2.txt, ...\n")
