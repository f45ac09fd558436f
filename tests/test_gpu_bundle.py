"""What travels to a machine without a network is enough to begin the recipe's run there."""

import importlib.util
import json
import shutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from realm.models.trunk import load_trunk, locate_trunk, read_tokenizer
from realm.stages import Run

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_bundle.py"


@pytest.fixture
def gpu_bundle(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, without what it downloads."""
    spec = importlib.util.spec_from_file_location("gpu_bundle", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "download_wheels", lambda *arguments: None)
    return module


@pytest.fixture
def trained_trunk(trunk_folder: Path, tmp_path: Path) -> Path:
    """The tiny trunk with weights, as `transformers` saves it."""
    folder = tmp_path / "trained"
    shutil.copytree(trunk_folder, folder)
    load_trunk(trunk_folder, dropout=0.0).save_pretrained(folder)  # type: ignore[operator]
    return folder


def write_recipe(path: Path, trunk: str, more: str = "") -> Path:
    path.write_text(
        'sources = ["${REALM_DATA}/corpora/corpus.jsonl"]\n'
        "corpus.passage_tokens = 64\npacking.query_tokens = 32\n"
        f'[embedder]\ntrunk = "{trunk}"\n[reader]\ntrunk = "{trunk}"\n{more}',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def data(corpus_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "there"
    (folder / "corpora").mkdir(parents=True)
    shutil.copyfile(corpus_source, folder / "corpora" / "corpus.jsonl")
    monkeypatch.setenv("REALM_DATA", str(folder))
    return folder


def test_the_run_begins_with_what_came_along(
    gpu_bundle: ModuleType,
    trained_trunk: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", str(trained_trunk))
    gpu_bundle.main([str(tmp_path / "bundle"), "--recipe", str(recipe)])
    whole = load_trunk(trained_trunk, dropout=0.0).state_dict()
    shutil.rmtree(data)
    shutil.rmtree(trained_trunk)

    monkeypatch.chdir(tmp_path / "bundle")
    monkeypatch.setenv("REALM_DATA", "data")
    run = Run.open(Path("run"))
    assert len(run.corpus()) == 12
    arrived = load_trunk(locate_trunk(run.experiment.reader.trunk), dropout=0.0).state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(arrived[name], tensor.half().to(tensor.dtype))


def test_a_trunk_that_gives_its_vocabulary_alone_leaves_its_weights(
    gpu_bundle: ModuleType, trained_trunk: Path, data: Path, tmp_path: Path
) -> None:
    own = f'[trunk]\nvocabulary_of = "{trained_trunk}"\nloop = {{ num_steps = 1 }}\n'
    recipe = write_recipe(tmp_path / "recipe.toml", "own", own)
    gpu_bundle.main([str(tmp_path / "bundle"), "--recipe", str(recipe)])
    settings = json.loads((tmp_path / "bundle/run/recipe.json").read_text(encoding="utf-8"))
    folder = tmp_path / "bundle" / settings["trunk"]["vocabulary_of"]
    assert read_tokenizer(folder).get_vocab() == read_tokenizer(trained_trunk).get_vocab()
    assert not list((tmp_path / "bundle").rglob("*.safetensors"))


def test_what_is_not_below_the_data_does_not_travel_unseen(
    gpu_bundle: ModuleType, trained_trunk: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('sources = ["/elsewhere/a.jsonl"]\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"a\.jsonl is no file below REALM_DATA"):
        gpu_bundle.main([str(tmp_path / "bundle"), "--recipe", str(recipe)])


def test_all_that_the_program_needs_comes_along_as_the_constraints_have_it(
    gpu_bundle: ModuleType,
) -> None:
    lacking = gpu_bundle.lacking()
    assert {"pyarrow", "jaxtyping", "wadler-lindig", "faiss-cpu", "pydantic-core"} <= {*lacking}
    assert not {"torch", "transformers", "numpy", "typing-extensions", "pytest"} & {*lacking}
    pinned = [gpu_bundle.pinned(name).partition("==")[0] for name in lacking]
    assert [name.lower().replace("_", "-") for name in pinned] == lacking
    declared = tomllib.loads((SCRIPT.parents[1] / "pyproject.toml").read_text("utf-8"))
    for requirement in declared["project"]["dependencies"]:
        name = requirement.partition(">=")[0].replace("_", "-")
        assert name in gpu_bundle.THERE or name in lacking
