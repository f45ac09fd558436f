"""Does a model that was trained elsewhere answer about a person's own documents at once?"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, realm

from realm.models.checkpoint import load_model, unique_parameters
from realm.shipped.folder import begin_with, find_model, shipped_models
from realm.stages import Run
from small_run import make_run

QUESTIONS = ("Who was born in Tavil?", "When was the observatory founded?")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, corpus_source: Path, trunk_folder: Path
) -> Run:
    path = tmp_path_factory.mktemp("trained") / "run"
    return make_run(path, corpus_source, trunk_folder, names=("pretrain", "finetune"))


@pytest.fixture(scope="module")
def model(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / "model"
    result = realm("export", folder, "--run", trained.path, "--format", "realm")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def begun(model: Path, corpus_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the model over the documents that it was trained with; read it, do not change it."""
    run = tmp_path_factory.mktemp("begun") / "run"
    ask("Where is Tavil?", "--model", model, "--source", corpus_source, "--run", run)
    return run


def ask(*arguments: str | Path) -> dict[str, Any]:
    result = realm("ask", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_the_run_it_was_made_in(
    trained: Run, begun: Path, question: str
) -> None:
    (there,) = trained.answerer().answer([question], top_k=3)
    (here,) = Run.open(begun).answerer().answer([question], top_k=3)
    assert [a.text for a in here.answers] == [a.text for a in there.answers]
    assert here.null_probability > 0, "a fine-tuned reader may say nothing"
    for ours, theirs in zip(here.answers, there.answers, strict=True):
        assert ours.probability == pytest.approx(theirs.probability, rel=0.02)


def test_the_files_are_half_as_wide_and_hold_each_tensor_once(trained: Run, model: Path) -> None:
    full = unique_parameters(load_model(trained.checkpoint("finetune")).modules())
    num_bytes = 4 * sum(weight.numel() for weight in full.values())
    assert (model / "model" / "weights.safetensors").stat().st_size < 0.6 * num_bytes


def test_the_next_question_needs_neither_source_nor_model(
    model: Path, begun: Path, corpus_source: Path
) -> None:
    first = ask(QUESTIONS[0], "--run", begun)
    assert first == ask(QUESTIONS[0], "--run", begun, "--model", model)
    again = ask(QUESTIONS[0], "--run", begun, "--model", model, "--source", corpus_source)
    assert first == again
    assert first["model"].startswith("start:")


def test_without_a_run_it_stands_under_the_name_of_the_source(
    model: Path, corpus_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(corpus_source, tmp_path / "letters.jsonl")
    monkeypatch.chdir(tmp_path)
    result = realm("ask", QUESTIONS[0], "--model", model, "--source", "letters.jsonl")
    assert result.exit_code == 0, result.output
    assert "runs/letters holds" in result.stderr
    assert Run.is_run(tmp_path / "runs" / "letters")
    again = realm("ask", QUESTIONS[0], "--model", model, "--source", "letters.jsonl")
    assert again.stdout == result.stdout
    assert again.stderr == "", "nothing is read twice"


def test_changed_documents_are_told_and_taken_in(
    model: Path, corpus_source: Path, tmp_path: Path
) -> None:
    source, run = tmp_path / "corpus.jsonl", tmp_path / "run"
    shutil.copy(corpus_source, source)
    arguments = (QUESTIONS[0], "--model", model, "--source", source, "--run", run)
    ask(*arguments)
    with source.open("a", encoding="utf-8") as stream:
        stream.write('{"id": "new", "title": "Orv", "text": "Orv is a village on the Sorna."}\n')
    later = time.time() + 5
    os.utime(source, (later, later))
    told = realm("ask", *arguments).stderr
    assert f"realm documents add {source} --run {run}" in told
    assert realm("documents", "add", source, "--run", run).exit_code == 0
    for file in (run / "living").rglob("*"):
        os.utime(file, (later + 5, later + 5))
    assert realm("ask", *arguments).stderr == ""


def test_import_and_corpus_begin_the_same_run(
    model: Path, begun: Path, corpus_source: Path, tmp_path: Path
) -> None:
    result = realm("import", model, "--run", tmp_path)
    assert result.exit_code == 0, result.output
    assert "masked head" in result.stdout
    assert realm("corpus", corpus_source, "--run", tmp_path).exit_code == 0
    ours, theirs = (ask(QUESTIONS[0], "--run", run) for run in (tmp_path, begun))
    assert ours["answers"] == theirs["answers"]


def test_a_run_that_was_moved_takes_documents(
    model: Path, corpus_source: Path, tmp_path: Path
) -> None:
    """Its tokenizer lies in it, and goes along."""
    begin_with(str(model), tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert realm("corpus", corpus_source, "--run", tmp_path / "there").exit_code == 0
    assert ask(QUESTIONS[0], "--run", tmp_path / "there")["answers"]


def test_fine_tuning_goes_on_from_it(trained: Run, begun: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    changes = ("finetune.loop.num_steps=1", "finetune.loop.precision=fp32",
               "finetune.loop.optim.learning_rate=0")  # fmt: skip
    questions = trained.experiment.dev_questions[0]
    arguments = [word for change in changes for word in ("--set", change)]
    result = realm("finetune", questions, "--run", run, *arguments)
    assert result.exit_code == 0, result.output
    before, after = (load_model(Run.open(run).checkpoint(n)) for n in ("start", "finetune"))
    theirs = unique_parameters(before.reader)
    for name, weight in unique_parameters(after.reader).items():
        assert weight.equal(theirs[name]), name


def test_it_is_served_without_being_asked_first(
    model: Path, corpus_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(
        "realm.serving.process.run_server", lambda app, *_, **__: served.append(app)
    )
    monkeypatch.setattr("realm.serving.process.log_to_standard_error", lambda: None)
    monkeypatch.setattr("realm.memory.keep_freed_memory", lambda: True)
    run = tmp_path / "run"
    arguments = ("--model", model, "--source", corpus_source, "--run", run)
    result = realm("serve", *arguments, "--port", "0")
    assert result.exit_code == 0, result.output
    assert len(served) == 1
    assert ask(QUESTIONS[0], "--run", run) == ask(QUESTIONS[0], *arguments)
    for command in ("serve", "mcp"):
        assert "--run RUN, or --model realm-mini" in error_of(realm(command))


def test_one_short_document_is_enough_to_ask(model: Path, tmp_path: Path) -> None:
    document = tmp_path / "note.txt"
    document.write_text("The observatory was founded in 1911.", encoding="utf-8")
    found = ask(
        "When was it founded?", "--model", model, "--source", document, "--run", tmp_path / "run"
    )
    assert found["answers"][0]["passage"]["text"] == "The observatory was founded in 1911."
    trained = realm("corpus", document, "--run", tmp_path / "other")
    assert "passages of all sources: 1, needed are at least 2" in error_of(trained)


def test_a_run_is_named_after_its_documents(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("my.docs.v1", "my.docs.v2"):
        Path(folder).mkdir()
        Path(folder, "note.txt").write_text(f"It is called {folder}.", encoding="utf-8")
    Path("notes.md").write_text("It is called notes.", encoding="utf-8")
    for source in ("my.docs.v1", "my.docs.v2", "notes.md"):
        ask("What is it called?", "--model", model, "--source", source)
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "my.docs.v1", "my.docs.v2", "notes",
    ]  # fmt: skip
    nameless = realm("ask", "Who?", "--model", model, "--source", "/")
    assert "give --run RUN" in error_of(nameless)


def test_a_folder_whose_name_is_no_utf_8_is_refused_before_a_run_begins(
    model: Path, tmp_path: Path
) -> None:
    folder, run = tmp_path / "caf\udce9 \U0001f600", tmp_path / "run"
    folder.mkdir()
    (folder / "note.txt").write_text("Here.", encoding="utf-8")
    refused = realm("ask", "Who?", "--model", model, "--source", folder, "--run", run)
    assert "has a name that is not UTF-8: rename it" in error_of(refused)
    assert not run.exists()


def test_what_it_cannot_do_is_told(
    model: Path, trained: Run, begun: Path, corpus_source: Path, tmp_path: Path
) -> None:
    assert "name them with --source" in error_of(realm("ask", "Who?", "--model", model))
    assert "--run RUN, or --model realm-mini" in error_of(realm("ask", "Who?"))
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "1", "title": "", "text": "Somewhere else."}\n', encoding="utf-8")
    arguments = ("ask", "Who?", "--model", model, "--source")
    refused = error_of(realm(*arguments, other, "--run", begun))
    assert f"{begun} holds the documents of {corpus_source}" in refused
    assert f"realm documents add {other} --run {begun}" in refused
    assert "a run of another model" in error_of(
        realm(*arguments, corpus_source, "--run", trained.path)
    )
    gap = error_of(realm("fill-mask", "The [MASK] of Tavil.", "--run", begun))
    assert "no masked head: import a model as it was before fine-tuning" in gap
    with_run = realm("ask", "Who?", "--run", trained.path, "--source", other)
    assert "--source goes with --model" in error_of(with_run)


def test_a_model_as_it_was_before_fine_tuning_fills_gaps(
    trained: Run, corpus_source: Path, tmp_path: Path
) -> None:
    folder, run = tmp_path / "model", tmp_path / "run"
    arguments = ("--run", trained.path, "--format", "realm", "--model", "pretrain")
    assert realm("export", folder, *arguments).exit_code == 0
    begin_with(str(folder), run)
    assert realm("corpus", corpus_source, "--run", run).exit_code == 0
    assert realm("fill-mask", "The [MASK] of Tavil.", "--run", run).exit_code == 0
    (answered,) = Run.open(run).answerer().answer([QUESTIONS[0]], top_k=1)
    assert answered.null_probability == 0, "nothing taught it to say nothing"


def test_names_that_are_no_model(tmp_path: Path) -> None:
    assert find_model("") is None
    assert find_model(str(tmp_path)) is None
    assert all(find_model(name) is not None for name in shipped_models())
