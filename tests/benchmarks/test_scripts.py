"""Every benchmark runs from beginning to end on our side, at a size of seconds."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness import Report, run
from realm.kernels import use_attention
from realm.models.checkpoint import Model
from realm.models.embedder import embed
from realm.models.last_layer import run_trunk
from realm.models.precision import shape_of

SCRIPTS = (
    "answer", "build", "edits", "encode", "finetune_step", "precision", "refresh", "scaling",
    "search", "serve", "train_step",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little corpus and its index are made once for all scripts."""
    return tmp_path_factory.mktemp("benchmarks")


def run_script(name: str, trunk: Path, cache: Path) -> Report:
    module = importlib.import_module(name)
    options = ["--size", "tiny", "--without-peers", "--threads", str(torch.get_num_threads())]
    folders = ["--trunk", str(trunk), "--cache", str(cache)]
    return run(module.measure, str(module.__doc__), options + folders)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_measures_our_side(name: str, trunk_folder: Path, cache: Path) -> None:
    report = run_script(name, trunk_folder, cache)
    assert report.rows
    assert all(row.ours >= 0 for row in report.rows)
    assert len({row.name for row in report.rows}) == len(report.rows)


def test_there_is_a_test_for_every_script() -> None:
    folder = Path(importlib.import_module("harness").__file__ or "").parent
    scripts = {f.stem for f in folder.glob("*.py") if "\n    run(" in f.read_text()}
    assert scripts == {*SCRIPTS, "gpu"}


def test_the_script_for_a_gpu_runs_on_a_cpu(
    trunk_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu = importlib.import_module("gpu")
    file = tmp_path / "rows.json"
    threads = str(torch.get_num_threads())
    options = ["--device", "cpu", "--size", "tiny", "--threads", threads, "--json", str(file)]
    gpu.main([*options, "--trunk", str(trunk_folder), "--cache", str(cache)])
    rows = json.loads(file.read_text(encoding="utf-8"))
    names = " ".join(row["name"] for row in rows)
    for part in ("pre-training step of 2", "passages embedded", "exact top 100 of 4,096 x 128"):
        assert part in names
    shares = [row["ratio"] for row in rows if row["unit"] == "TFLOP/s"]
    assert len(shares) == 2
    assert all(share > 0 for share in shares)


def test_operations_are_those_of_the_wordpieces_that_were_read(small_model: Model) -> None:
    gpu = importlib.import_module("gpu")
    packed = [small_model.packer.query(np.arange(5, 5 + number)) for number in (3, 8)]
    with gpu.counting(small_model) as count:
        embed(small_model.embedder.query_tower, packed, small_model.packer)
    # Two layers, 32 wide and 64 inside; inputs of 5 and 10 wordpieces, padding left out. With
    # gradients a pass counts three times.
    one = [length * (2 * 8192 + 4 * length * 32) for length in (5, 10)]
    assert count["operations"] == 3 * 2 * sum(one)


def test_operations_of_a_narrowed_last_layer_are_those_that_torch_counts(
    small_model: Model,
) -> None:
    gpu = importlib.import_module("gpu")
    trunk = small_model.reader.trunk
    use_attention(trunk, "eager")  # whose products torch counts on every device
    ids = torch.arange(20).reshape(2, 10) + 5
    places = torch.tensor([[1, 3, 8], [2, 4, 9]])
    with gpu.counting(small_model) as count, torch.no_grad(), FlopCounterMode(display=False) as own:
        run_trunk(trunk, ids, torch.ones_like(ids), torch.zeros_like(ids), places)
    pooler = 2 * 2 * shape_of(trunk).width ** 2  # of two inputs; it is no layer
    assert count["operations"] + pooler == own.get_total_flops()


def test_a_machine_without_a_gpu_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module("gpu").main(["--size", "tiny"])
    assert stopped.value.code == 2
    assert "try --device cpu --size tiny" in capsys.readouterr().err
