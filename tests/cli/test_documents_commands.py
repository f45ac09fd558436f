"""Documents come and go from the command line, and the next question knows."""

import json
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
