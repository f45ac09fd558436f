"""How does the program speak to a person: progress, tables, and answers in their passages?

Progress goes to standard error, results to standard output. Where nobody watches, a line every
ten seconds takes the place of a moving bar, so that logs stay readable.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from realm.evaluation.report import duration
from realm.progress import Advance

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_OF_PACE = 60.0
_WIDTH_OF_FILES = 140  # characters of a line where the output is no terminal
_displays: list[Progress] = []  # the one that is live, if any: a terminal has room for one


def results() -> Console:
    """Where results go."""
    console = Console(highlighter=NullHighlighter())
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    return console


def say(message: str) -> None:
    """Tell a person what is going on, apart from the results."""
    typer.echo(message, err=True)


def show_table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, num_names: int = 1
) -> None:
    """Print a table; the first `num_names` columns are words, the others numbers.

    Everything is shown as it stands: brackets in a passage are no markup.
    """
    heading = Text(title, style="table.title")
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, header_style="bold")
    for number, name in enumerate(head):
        table.add_column(Text(name), justify="left" if number < num_names else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    results().print(table)


@contextmanager
def show_progress(title: str, total: int | None) -> Iterator[Advance]:
    """Show one piece of long work with its rate and the time left, while the block runs.

    Work within work gets a bar of its own below, which goes when it is done.
    """
    console = Console(stderr=True)
    pace = Pace(total)
    if console.is_terminal:
        with _bar(console, title, pace) as advance:
            yield advance
    else:
        with _lines(title, pace) as advance:
            yield advance


class Pace:
    """How quickly work gets on, judged by the last minute."""

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done = total, 0
        self._clock, self._begin = clock, clock()
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, done: int) -> None:
        """Note how much is done. The first note is where a resumed piece of work begins."""
        now = self._clock()
        self.done = done
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _SECONDS_OF_PACE:
            self._samples.popleft()

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return self._clock() - self._begin

    @property
    def rate(self) -> float:
        """Pieces a second; 0 where it is not known yet."""
        if len(self._samples) < 2:
            return 0.0
        (first_time, first), (last_time, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_time - first_time) if last_time > first_time else 0.0

    def summary(self) -> str:
        """What to say of work that has come to its end."""
        return f"{self.total or self.done:,} in {duration(self.seconds)}"

    def __str__(self) -> str:
        """For example `120/2,000  3.1/s  10:05 left`."""
        count = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        parts = [count]
        if self.rate:
            parts.append(_rate(self.rate))
            if self.total is not None and self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / self.rate)} left")
        return "  ".join(parts)


def size(num_bytes: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} GB"


def _rate(rate: float) -> str:
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


@contextmanager
def _bar(console: Console, title: str, pace: Pace) -> Iterator[Advance]:
    is_within = bool(_displays)
    with ExitStack() as stack:
        progress = _displays[0] if is_within else stack.enter_context(_display(console))
        task = progress.add_task(title, total=pace.total, pace="", note="")
        if is_within:
            stack.callback(progress.remove_task, task)

        def advance(done: int, note: str) -> None:
            pace.note(done)
            progress.update(task, completed=done, pace=str(pace), note=note)

        yield advance
        progress.update(task, completed=pace.total, pace=pace.summary())


@contextmanager
def _display(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        _displays.append(progress)
        try:
            yield progress
        finally:
            _displays.remove(progress)


@contextmanager
def _lines(title: str, pace: Pace) -> Iterator[Advance]:
    last_line, last_note = time.monotonic(), ""

    def advance(done: int, note: str) -> None:
        nonlocal last_line, last_note
        last_note = note
        pace.note(done)
        if time.monotonic() - last_line >= _SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            say(f"{title}: {pace}  {note}".rstrip())

    yield advance
    say(f"{title}: {pace.summary()}  {last_note}".rstrip())
