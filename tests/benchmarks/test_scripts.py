"""Every benchmark runs from beginning to end on our side, at a size of seconds."""

import importlib
from pathlib import Path

import pytest
import torch

from harness import Report, run

SCRIPTS = sorted(
    ("encode", "train_step", "finetune_step", "answer", "search", "build", "refresh", "scaling")
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little corpus and its index are made once for all scripts."""
    return tmp_path_factory.mktemp("benchmarks")


def run_script(name: str, trunk: Path, cache: Path) -> Report:
    module = importlib.import_module(name)
    options = ["--size", "tiny", "--without-peers", "--threads", str(torch.get_num_threads())]
    folders = ["--trunk", str(trunk), "--cache", str(cache)]
    return run(module.measure, module.__doc__, options + folders)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_measures_our_side(name: str, trunk_folder: Path, cache: Path) -> None:
    report = run_script(name, trunk_folder, cache)
    assert report.rows
    assert all(row.ours >= 0 for row in report.rows)
    assert len({row.name for row in report.rows}) == len(report.rows)


def test_there_is_a_test_for_every_script() -> None:
    folder = Path(importlib.import_module("harness").__file__ or "").parent
    scripts = {f.stem for f in folder.glob("*.py") if "run(measure" in f.read_text()}
    assert scripts == set(SCRIPTS)
