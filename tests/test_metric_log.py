"""Every step stands in the log once, also after a kill."""

import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from realm.json_lines import read_json_lines
from realm.metric_log import MetricLog


def test_scalars_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "run" / "metrics.jsonl"
    with MetricLog(file, keep_until_step=0) as log:
        log.write(1, {"loss": 0.123456789, "num_spans": 3, "stage": "reading"})
        log.write(2, {"loss": math.nan, "rate": math.inf})
    assert read_json_lines(file) == [
        {"step": 1, "loss": 0.1234568, "num_spans": 3, "stage": "reading"},
        {"step": 2, "loss": None, "rate": None},
    ]


def test_small_numbers_keep_their_digits(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with MetricLog(file, keep_until_step=0) as log:
        log.write(1, {"learning_rate": 3.5e-8})
    assert read_json_lines(file)[0]["learning_rate"] == pytest.approx(3.5e-8)


def test_a_line_is_on_the_disk_when_it_was_written(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl", keep_until_step=0)
    log.write(1, {"loss": 1.0})
    assert read_json_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
    log.close()


def test_resuming_drops_what_will_be_written_again(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with MetricLog(file, keep_until_step=0) as log:
        for step in (1, 2, 3, 4):
            log.write(step, {"loss": float(step)})
    with MetricLog(file, keep_until_step=2) as log:
        log.write(3, {"loss": 30.0})
    assert [(row["step"], row["loss"]) for row in read_json_lines(file)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]


def test_tensorboard_gets_the_same_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[object, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str, *, purge_step: int) -> None:
            told.append((folder, purge_step))

        def add_scalar(self, *scalar: object) -> None:
            told.append(scalar)

        def close(self) -> None:
            told.append(("closed",))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with MetricLog(tmp_path / "metrics.jsonl", keep_until_step=4) as log:
        log.write(5, {"loss": 0.5, "stage": "reading"})
    assert told == [(str(tmp_path / "tensorboard"), 5), ("loss", 0.5, 5), ("closed",)]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"step": 1, "loss": 1.0}) + '\n{"step": 2, "lo')
    assert read_json_lines(file) == [{"step": 1, "loss": 1.0}]
    with MetricLog(file, keep_until_step=5) as log:
        log.write(2, {"loss": 2.0})
    assert [row["step"] for row in read_json_lines(file)] == [1, 2]


def test_a_resume_that_fails_keeps_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metrics.jsonl"
    with MetricLog(file, keep_until_step=0) as log:
        log.write(1, {"loss": 1.0})

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        MetricLog(file, keep_until_step=1)
    assert read_json_lines(file) == [{"step": 1, "loss": 1.0}]


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert read_json_lines(tmp_path / "metrics.jsonl") == []
