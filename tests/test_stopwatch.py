"""The peak of a stage is its own, also where stages are measured within one another."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from realm import stopwatch
from realm.stopwatch import measured, total_by_stage


def peaks(log: Path) -> dict[str, int]:
    return {name: total["peak_megabytes"] for name, total in total_by_stage(log).items()}


def use(megabytes: int) -> None:
    np.ones(megabytes * 125_000).sum()


def test_peaks_of_blocks_within_blocks(tmp_path: Path) -> None:
    log = tmp_path / "stages.jsonl"
    with measured(log, "outer"):
        use(400)
        with measured(log, "first"):
            use(50)
        with measured(log, "second"), measured(log, "innermost"):
            use(200)
    with measured(log, "after"):
        pass
    got = peaks(log)
    ground = got["after"]
    assert got["outer"] == pytest.approx(ground + 400, abs=60), "an inner block made it forget"
    assert got["first"] == pytest.approx(ground + 50, abs=60)
    assert got["second"] == got["innermost"] == pytest.approx(ground + 200, abs=60)
    assert [json.loads(line)["stage"] for line in log.read_text().splitlines()] == [
        "first", "innermost", "second", "outer", "after",
    ]  # fmt: skip


def test_a_block_that_fails_is_measured(tmp_path: Path) -> None:
    def fail() -> None:
        with measured(tmp_path / "log", "outer"), measured(tmp_path / "log", "inner"):
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert set(peaks(tmp_path / "log")) == {"outer", "inner"}
    assert stopwatch._peaks == []


def test_a_child_counts_where_it_ended(tmp_path: Path) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    code = f"bytearray({own + 300} * 1_000_000)"
    with measured(tmp_path / "log", "child"):
        subprocess.run([sys.executable, "-c", code], check=True)
    with measured(tmp_path / "log", "later"):
        pass
    got = peaks(tmp_path / "log")
    assert got["child"] >= own + 300
    assert got["later"] < own + 200


@pytest.mark.parametrize(("platform", "megabytes"), [("linux", 2048), ("darwin", 2)])
def test_the_unit_of_the_system(
    platform: str, megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    usage: Any = SimpleNamespace(ru_maxrss=2_000_000)
    assert stopwatch._maxrss_bytes(usage) == megabytes * 1_000_000


def test_a_line_that_was_cut_short_takes_no_other_along(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with measured(log, "first"):
        pass
    with log.open("a", encoding="utf-8") as stream:
        stream.write('{"stage": "cut", "seco')
    with measured(log, "second"):
        pass
    assert set(stopwatch.total_by_stage(log)) == {"first", "second"}
