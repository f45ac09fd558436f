"""Rows come to the disk as they are, on systems that can reserve space and on those that cannot."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from realm.index import encode
from realm.index.encode import write_rows


@pytest.mark.parametrize("can_reserve", [True, False])
def test_rows_are_written_in_order(
    tmp_path: Path, can_reserve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_reserve:
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.setattr(encode, "_PIECE", 7)
    rows = torch.arange(33.0).view(11, 3)
    done: list[int] = []
    write_rows(tmp_path / "rows.npy", iter(rows.split(4)), 11, on_progress=done.append)
    written = np.load(tmp_path / "rows.npy")
    assert written.dtype == np.float16
    assert np.array_equal(written, rows.numpy())
    assert done == [4, 8, 11]


def test_space_is_taken_before_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    file = tmp_path / "rows.npy"
    taken: list[int] = []

    def look(done: int) -> None:
        taken.append(file.stat().st_blocks * 512)

    write_rows(file, iter(torch.ones(2, 500_000).split(1)), 2, on_progress=look)
    assert taken[0] >= 2_000_000
