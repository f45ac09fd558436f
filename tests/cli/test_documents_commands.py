"""Documents come and go from the command line, and the next question knows."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import error_of, realm

from realm.cli.options import open_run
from realm.models.checkpoint import copy_checkpoint
from realm.run_folder import TAKEN_FROM
from realm.training.state import checkpoint_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_source: Path, trunk_folder: Path) -> Path:
    """A run with an untrained model, which can answer anything badly."""
    path = tmp_path_factory.mktemp("living") / "run"
    recipe = path.with_name("recipe.toml")
    recipe.write_text(
        f"""
sources = ["{corpus_source}"]
corpus = {{ passage_tokens = 64, num_workers = 1 }}
packing = {{ query_tokens = 40 }}
embedder = {{ trunk = "{trunk_folder}", projection_width = 8 }}
reader = {{ trunk = "{trunk_folder}" }}
""",
        encoding="utf-8",
    )
    opened = open_run(path, str(recipe))
    target = checkpoint_path(opened.training_of("pretrain")[0], 0)
    inputs = {"corpus": opened.corpus().fingerprint, TAKEN_FROM: "start"}
    copy_checkpoint(opened.start(), target, inputs=inputs)
    opened.snapshot("pretrain")
    return path


def test_a_document_comes_changes_and_goes(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "zebra.txt"
    file.write_text("The zebra of Tavil is striped.", encoding="utf-8")

    def documents_asked() -> set[str]:
        result = realm("ask", "--run", run, "Is the zebra striped?", "--json", "--top-k", "200")
        return {answer["document_id"] for answer in json.loads(result.stdout)["answers"]}

    def listed(*arguments: str) -> list[dict[str, object]]:
        result = realm("documents", "list", "--run", run, "--json", *arguments)
        return [json.loads(line) for line in result.stdout.splitlines()]

    realm("ask", "--run", run, "Is the zebra striped?", "--json")
    assert not (run / "living").exists(), "who only asks leaves nothing behind"
    added = realm("documents", "add", "--run", run, file)
    assert added.stdout.splitlines()[0] == "added: 1 documents, 1 passages"
    assert added.stdout.endswith("13 passages of 13 documents\n")
    everything = [str(document["id"]) for document in listed("--limit", "100")]
    realm("documents", "remove", "--run", run, *(i for i in everything if i != "zebra.txt"))
    assert documents_asked() == {"zebra.txt"}
    file.write_text("The zebra of Tavil is spotted.", encoding="utf-8")
    assert "replaced: 1 documents" in realm("documents", "add", "--run", run, file).stdout
    expected = {"id": "zebra.txt", "title": "zebra", "num_passages": 1, "origin": "edited"}
    assert listed("--text", "SPOTTED") == [expected]
    assert listed("--text", "striped") == []
    assert realm("documents", "remove", "--run", run, "zebra.txt").exit_code == 0
    assert documents_asked() == set()
    assert listed() == []
    assert "0 documents" in realm("documents", "list", "--run", run).stdout
    # What every other command says of the run is about the corpus that it was trained with.
    assert realm("info", "--run", run, "--verify").exit_code == 0


def test_what_changed_in_a_folder_is_taken_in(run: Path, tmp_path: Path) -> None:
    """Files without text and files that are as they were hold nothing up, and make nothing new."""
    notes = tmp_path / "notes"
    (notes / "sub").mkdir(parents=True)
    (notes / "blank.txt").write_text(" \n", encoding="utf-8")
    for name in ("a.txt", "sub/b.txt"):
        (notes / name).write_text(f"The quagga of {name} is striped.", encoding="utf-8")
    copied = tmp_path / "run"
    shutil.copytree(run, copied, ignore=shutil.ignore_patterns("living"))

    def add(source: Path) -> tuple[list[str], str]:
        result = realm("documents", "add", "--run", copied, source)
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()[:-1], result.stderr

    added, said = add(notes)
    assert added == ["added: 2 documents, 2 passages"]
    assert "no text: 1 documents" in said
    (notes / "sub" / "b.txt").write_text("The quagga of b.txt is spotted.", encoding="utf-8")
    added, said = add(notes)
    assert added == ["replaced: 1 documents, 1 passages"]
    assert "there already: 1 documents" in said
    assert add(notes)[0] == []
    # From a folder that the run was made from, what lies in it has the same id named alone.
    recipe = json.loads((copied / "recipe.json").read_text(encoding="utf-8"))
    recipe["sources"].append(str(notes))
    (copied / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    for source in (notes / "sub", notes / "sub" / "b.txt"):
        words = f"The quagga of {source.name} is grey."
        (notes / "sub" / "b.txt").write_text(words, encoding="utf-8")
        assert add(source)[0] == ["replaced: 1 documents, 1 passages"]


def test_bytes_that_are_no_text_ask_and_remove_nothing(run: Path) -> None:
    result = realm("ask", "--run", run, "Is the caf\udce9 striped?", "--json")
    assert json.loads(result.stdout)["question"] == "Is the caf\ufffd striped?"
    assert "no document 'caf\ufffd'" in error_of(
        realm("documents", "remove", "--run", run, "caf\udce9")
    )


def test_bad_input_is_one_line(run: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n", encoding="utf-8")
    cases = {
        ("remove", "nowhere"): "no document 'nowhere'",
        ("add", str(blank)): "'blank.txt' has no text",
        ("add", str(tmp_path / "missing.txt")): "no file or folder",
        ("list", "--limit", "0"): "a list of 0 documents",
    }
    for (command, *arguments), message in cases.items():
        result = realm("documents", command, "--run", run, *arguments)
        assert message in error_of(result)
    assert "is no run" in error_of(realm("documents", "list", "--run", tmp_path))
