"""Does help come at once, and does progress say how long it will take?"""

import subprocess
import sys

import pytest
from command_line import realm

from realm.cli import terminal
from realm.cli.terminal import Pace, show_progress, show_table, size
from realm.evaluation.report import duration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pace_by_hand() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    pace.note(500)  # where a resumed training begins
    assert str(pace) == "500/1,000"
    clock.now += 10
    pace.note(540)
    assert pace.rate == 4.0
    assert str(pace) == "540/1,000  4.0/s  1:55 left"
    clock.now += 20
    pace.note(544)
    assert str(pace).startswith("544/1,000  1.5/s")
    clock.now += 100  # the first minute is forgotten
    pace.note(545)
    assert str(pace).startswith("545/1,000  100.0 s each")
    assert pace.summary() == "1,000 in 2:10"


def test_pace_without_a_total() -> None:
    clock = Clock()
    pace = Pace(None, clock)
    pace.note(0)
    clock.now += 2
    pace.note(4000)
    assert str(pace) == "4,000  2,000/s"
    assert pace.summary() == "4,000 in 0:02"


def test_units() -> None:
    assert [size(n) for n in (999, 1500, 2_500_000, 3_200_000_000)] == [
        *("999 B", "2 kB", "2 MB", "3.2 GB"),
    ]
    assert [duration(s) for s in (0.4, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]


def test_logs_get_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_SECONDS_BETWEEN_LINES", 0.0)
    with show_progress("steps", 2) as advance:
        advance(1, "loss 2.0")
        advance(2, "loss 1.0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "steps: 1/2  loss 2.0"
    assert lines[-1] == "steps: 2 in 0:00  loss 1.0"


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with show_progress("steps", 2) as advance:
        advance(2, "loss 1.0")
    shown = capsys.readouterr()
    assert "steps" in shown.err
    assert "2 in 0:00" in shown.err
    assert shown.out == ""


def test_brackets_are_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [["Tavil [citation needed] is a port [/b] :smile:", "1"]]
    show_table("What 'a [/i]' makes", ("passage [x]", "number"), rows)
    shown = capsys.readouterr().out
    for text in ("What 'a [/i]' makes", "passage [x]", rows[0][0]):
        assert text in shown
    monkeypatch.setenv("FORCE_COLOR", "1")
    with show_progress("steps [/b]", 2) as advance:
        advance(2, "[note]")
    assert "steps [/b]" in capsys.readouterr().err


def test_work_within_work_shares_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with show_progress("steps", 2) as advance:
        for done in (1, 2):
            with show_progress("refresh", 5) as advance_inner:
                advance_inner(5, "")
                (display,) = terminal._displays
                assert [task.description for task in display.tasks] == ["steps", "refresh"]
            advance(done, "")
        assert [task.description for task in display.tasks] == ["steps"]
    assert not terminal._displays
    assert "2 in 0:00" in capsys.readouterr().err


def test_help_needs_nothing_that_trains() -> None:
    code = (
        "import sys, realm.cli.main\n"
        "print([n for n in ('torch', 'transformers', 'pydantic', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_help_and_version() -> None:
    result = realm("--help")
    assert result.exit_code == 0
    for name in ("run", "corpus", "pretrain", "refresh", "evaluate", "ask", "report", "demo"):
        assert name in result.stdout
    assert realm("--version").stdout.startswith("realm 0.")
