"""Turns, medians, ratios and the rows that a benchmark writes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import peer_environment
from harness import (
    OURS,
    Bench,
    Report,
    by_turns,
    environment_of,
    fitted_line,
    percentile,
    rate,
    ratio,
    run,
    spread,
)
from machine import Machine, describe_machine
from peer import open_peer
from peer_environment import make_environment
from realm.errors import ResourceError, SourceError

MACHINE = Machine("a processor", 2, 1, 8, 0.5, 2.0)


def report_of(before: float = 0.5) -> Report:
    return Report("How quick?", "tiny", MACHINE, before)


def bench_of(tmp_path: Path) -> Bench:
    return Bench("tiny", 1, 1, "trunk", tmp_path, tmp_path / "peers", True, report_of())


def test_every_side_warms_up_and_has_its_turn_and_order_is_reversed_every_other_round() -> None:
    turns: list[str] = []

    def side(name: str) -> Callable[[], list[float]]:
        def repeat() -> list[float]:
            turns.append(name)
            return [float(len(turns))]

        return repeat

    samples = by_turns({name: side(name) for name in "abc"}, repeats=3)
    assert "".join(turns) == "abc" + "abc" + "cba" + "abc"
    assert samples == {"a": [4, 9, 10], "b": [5, 8, 11], "c": [6, 7, 12]}


def test_a_side_may_go_without_a_warm_up_and_give_several_samples() -> None:
    samples = by_turns({OURS: lambda: [1.0, 2.0]}, 2, warm_ups=0)
    assert samples == {OURS: [1.0, 2.0, 1.0, 2.0]}


def test_a_rate_is_work_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5])
    monkeypatch.setattr("harness.time.perf_counter", lambda: next(clock))
    assert rate(20, lambda: None)() == [40.0]


def test_a_ratio_above_one_is_always_better() -> None:
    assert ratio(30.0, 10.0, "higher") == 3.0
    assert ratio(2.0, 10.0, "lower") == 5.0
    assert ratio(2.0, None, "lower") is None
    assert ratio(2.0, 0.0, "higher") == float("inf")


def test_spread_is_the_distance_of_the_quartiles_by_the_median() -> None:
    # Quartiles of 1 2 3 4 5 are 2, 3 and 4.
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == pytest.approx((4 - 2) / 3)
    assert spread([7.0]) == 0.0


def test_a_percentile_is_a_sample() -> None:
    twenty = [float(number) for number in range(20, 0, -1)]
    assert percentile(twenty, 0.5) == 10.0
    assert percentile(twenty, 0.95) == 19.0
    assert percentile([3.0], 0.95) == 3.0


def test_the_fitted_line_is_that_of_least_squares() -> None:
    # Through (0, 0), (1, 3), (2, 3): slope 3/2, intercept 1/2.
    assert fitted_line([0, 1, 2], [0.0, 3.0, 3.0]) == pytest.approx([0.5, 2.0, 3.5])


def test_rows_have_medians_and_what_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.load", lambda: 1.5)
    report = report_of(before=0.25)
    samples = {OURS: [40.0, 10.0, 30.0], "slow": [5.0, 15.0, 10.0], "[quick]": [60.0]}
    report.compare_all("passages", samples, unit="passages/s", tuned={"[quick]"})
    report.compare("seconds", {OURS: [2.0]}, None, unit="s", better="lower", note="alone")
    file = tmp_path / "folder" / "rows.json"
    report.finish(file)
    first, second, third = json.loads(file.read_text(encoding="utf-8"))
    assert first["name"] == "passages, against slow"
    assert (first["ours"], first["peer"], first["ratio"], first["tuned"]) == (30, 10, 3, False)
    assert first["unit"] == "passages/s"
    assert first["load"] == [0.25, 1.5]
    assert "a processor, 2 cores, 1 threads" in first["machine"]
    assert (second["ratio"], second["tuned"]) == (0.5, True)
    assert (third["name"], third["peer"], third["ratio"]) == ("seconds", None, None)
    printed = capsys.readouterr().out
    assert "[quick]" in printed
    assert "3.00" in printed


def test_a_mistake_of_the_user_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measure(bench: Bench) -> None:
        raise SourceError("there is no data")

    with pytest.raises(SystemExit) as ended:
        run(measure, "How quick?", ["--size", "tiny", "--threads", str(torch.get_num_threads())])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(": there is no data\n")


def test_the_machine_is_measured() -> None:
    machine = describe_machine(3, matrix_size=64)
    assert machine.threads == 3
    assert 0 < machine.fp32_teraflops < 1000
    assert machine.best_teraflops == max(machine.fp32_teraflops, machine.bf16_teraflops)


def test_a_process_gets_its_thread_budget() -> None:
    environment = environment_of(3)
    assert environment["OMP_NUM_THREADS"] == environment["RAYON_NUM_THREADS"] == "3"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for workers; they run in this very interpreter."""
    monkeypatch.setattr("peer.make_environment", lambda folder, packages: Path(sys.executable))
    conversation = Path(peer_environment.__file__).parent / "workers" / "conversation.py"
    (tmp_path / "conversation.py").write_text(conversation.read_text(encoding="utf-8"))
    monkeypatch.setattr("peer._WORKERS", tmp_path)
    return tmp_path


def test_a_worker_answers_whatever_a_library_prints(here: Path) -> None:
    (here / "adder.py").write_text(
        "from conversation import converse\n"
        "def add(left, right):\n    print('noise')\n    return [left + right]\n"
        "converse({'add': add})\n"
    )
    with open_peer(bench_of(here), "scann", "adder") as peer:
        assert peer is not None
        assert peer.call("add", left=1, right=2) == [3]
        assert peer.side("add", left=1, right=3)() == [4.0]


def test_a_worker_that_fails_is_named(here: Path) -> None:
    (here / "broken.py").write_text(
        "from conversation import converse\nconverse({'go': lambda: 1 / 0})\n"
    )
    with open_peer(bench_of(here), "scann", "broken") as peer:
        assert peer is not None
        with pytest.raises(ResourceError, match="the peer ended in go"):
            peer.call("go")


def test_a_peer_that_cannot_be_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(folder: Path, packages: tuple[str, ...]) -> Path:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr("peer.make_environment", fail)
    with open_peer(bench_of(tmp_path), "scann", "scann_search") as peer:
        assert peer is None


def test_an_environment_is_made_again_when_its_packages_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(
        "peer_environment.venv.create", lambda folder, **_: folder.mkdir(exist_ok=True)
    )
    monkeypatch.setattr(
        "peer_environment.subprocess.run", lambda command, **_: installed.append(command[5:])
    )
    folder = tmp_path / "environment"
    assert make_environment(folder, ("one",)) == folder / "bin" / "python"
    make_environment(folder, ("one",))
    assert installed == [["one"]]
    make_environment(folder, ("one", "two"))
    assert installed == [["one"], ["one", "two"]]
