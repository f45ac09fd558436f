"""Two processes that train together are one training."""

from pathlib import Path

import pytest
import small_group
import torch
from safetensors.torch import load_file

from launcher import launch
from realm.json_lines import read_json_lines
from realm.models.checkpoint import Model, save_checkpoint
from realm.training.distributed import ProcessGroup, join_group
from realm.training.state import Journal, steps_in


def test_one_process_is_the_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = join_group()
    assert group == ProcessGroup(rank=0, size=1)
    assert group.is_first
    gradient = torch.tensor([1.0, 2.0])
    group.average([gradient])
    assert gradient.tolist() == [1.0, 2.0]
    assert group.agree(7) == 7
    group.wait()


@pytest.mark.slow
def test_shards_are_the_whole(small_model: Model, tmp_path: Path) -> None:
    start, shards = tmp_path / "start", tmp_path / "shards"
    save_checkpoint(start, small_model, step=0, inputs={})
    launch(small_group.__file__, start, shards, 2)
    last = small_group.train(start, tmp_path / "whole", 4)
    ours = load_file(shards / "checkpoints" / last.name / "weights.safetensors")
    theirs = load_file(last / "weights.safetensors")
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    moved = load_file(start / "weights.safetensors")
    assert any(not torch.equal(moved[name], weight) for name, weight in ours.items())
    # One of them writes.
    rows = read_json_lines(shards / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["step"] for row in rows if "measured" in row] == [0, 3, 6, 7]
    assert [e["event"] for e in Journal(shards / "journal.jsonl").entries] == ["precision"]
    assert steps_in(shards / "checkpoints") == [6, 7]
