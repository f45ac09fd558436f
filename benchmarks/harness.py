"""How do two sides compare when they are measured by turns in one run?

Absolute figures drift with the machine and its load, ratios inside one run hardly do: every side
gets the same threads, runs while the others rest, and has its turn in every round.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from machine import Machine, available_cores, describe_machine, load
from realm.errors import RealmError
from realm.models.trunk import DEFAULT_TRUNK

Size = Literal["tiny", "reduced", "full"]
Better = Literal["higher", "lower"]
Repeat = Callable[[], Sequence[float]]
"""One turn of a side: the figures that it measured, one or many."""
Samples = dict[str, list[float]]
OURS = "ours"
ROOT = Path(__file__).resolve().parents[1]
_MATRIX = {"tiny": 256, "reduced": 2048, "full": 4096}
_REPEATS = {"tiny": 1, "reduced": 2, "full": 5}


@dataclass(frozen=True)
class Row:
    """One line of a table; `ratio` says how many times better ours is, whatever the unit."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    tuned: bool
    """Whether the peer is at its best (padding trimmed, dropout off, the quicker precision), not
    as its users run it."""
    unit: str
    machine: str
    load: tuple[float, float]
    """Before and after the whole benchmark."""
    ours_spread: float
    """Distance of the quartiles as a share of the median."""
    peer_spread: float | None
    size: str
    date: str
    note: str = ""


@dataclass
class Report:
    """The rows of one benchmark."""

    title: str
    size: Size
    machine: Machine
    load_before: float
    rows: list[Row] = field(default_factory=list)

    def compare(
        self,
        name: str,
        samples: Mapping[str, Sequence[float]],
        against: str | None,
        *,
        unit: str,
        better: Better = "higher",
        tuned: bool = False,
        note: str = "",
    ) -> None:
        """Add a row: our side of the samples, and that of a peer where it was measured."""
        ours, theirs = samples[OURS], samples.get(against or "", ())
        peer = statistics.median(theirs) if theirs else None
        row = Row(
            f"{name}, against {against}" if against else name,
            statistics.median(ours), peer, ratio(statistics.median(ours), peer, better),
            tuned, unit, str(self.machine), (self.load_before, self.load_before),
            spread(ours), spread(theirs) if theirs else None,
            self.size, time.strftime("%Y-%m-%d"), note,
        )  # fmt: skip
        self.rows.append(row)

    def compare_all(
        self,
        name: str,
        samples: Mapping[str, Sequence[float]],
        *,
        unit: str,
        better: Better = "higher",
        tuned: Collection[str] = (),
        note: str = "",
    ) -> None:
        """Add a row for each peer of the samples; one without a peer where there is none."""
        peers: list[str | None] = [side for side in samples if side != OURS]
        for peer in peers or [None]:
            is_tuned = peer in tuned
            self.compare(name, samples, peer, unit=unit, better=better, tuned=is_tuned, note=note)

    def finish(self, file: Path | None) -> None:
        """Print the table; write the rows as JSON where a file is given."""
        loads = (self.load_before, load())
        rows = [Row(**{**asdict(row), "load": loads}) for row in self.rows]
        # A pipe has no width of its own, and 80 columns would break every name.
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(_table(self.title, rows))
        console.print(f"{self.machine}; load {loads[0]} before, {loads[1]} after", highlight=False)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            values = [asdict(row) for row in rows]
            file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given: its size and budget, where things are kept, where rows go."""

    size: Size
    threads: int
    repeats: int
    trunk: str
    cache: Path
    """Corpora and indexes that are made once."""
    environments: Path
    """Where peers are installed that need other packages than the project."""
    has_peers: bool
    report: Report


def by_turns(sides: Mapping[str, Repeat], repeats: int, *, warm_ups: int = 1) -> Samples:
    """Let every side warm up, then run `repeats` rounds; return what each measured.

    Every other round goes backwards, so that a machine that grows slower or quicker meanwhile
    favours nobody.
    """
    for _ in range(warm_ups):
        for side in sides.values():
            side()
    samples: Samples = {name: [] for name in sides}
    for number in range(repeats):
        names = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in names:
            samples[name] += sides[name]()
    return samples


def rate(work: float, run: Callable[[], object]) -> Repeat:
    """A side that reports how much work a second it did."""

    def repeat() -> list[float]:
        begin = time.perf_counter()
        run()
        return [work / (time.perf_counter() - begin)]

    return repeat


def ratio(ours: float, peer: float | None, better: Better) -> float | None:
    """How many times better ours is; None where there is nothing to compare with."""
    if peer is None:
        return None
    above, below = (ours, peer) if better == "higher" else (peer, ours)
    return above / below if below else math.inf


def spread(samples: Sequence[float]) -> float:
    """Distance of the quartiles as a share of the median; 0 for a single sample."""
    if len(samples) < 2:
        return 0.0
    first, middle, third = statistics.quantiles(samples, n=4, method="inclusive")
    return (third - first) / middle if middle else 0.0


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that so large a share of the samples does not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def fitted_line(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """What the straight line of least squares says at each x."""
    slope, intercept = statistics.linear_regression(x, y)
    return [intercept + slope * value for value in x]


def run(
    measure: Callable[[Bench], None], description: str, arguments: Sequence[str] | None = None
) -> Report:
    """Parse the command line, measure, print the table; errors of the user end with status 2."""
    title = description.splitlines()[0]
    options = _parser(title).parse_args(arguments)
    torch.set_num_threads(options.threads)
    before = load()
    machine = describe_machine(options.threads, matrix_size=_MATRIX[options.size])
    report = Report(title, options.size, machine, before)
    bench = Bench(
        options.size, options.threads, options.repeats or _REPEATS[options.size], options.trunk,
        options.cache, options.environments, not options.without_peers, report,
    )  # fmt: skip
    try:
        measure(bench)
    except RealmError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    report.finish(options.json)
    return report


def _parser(title: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=title)
    add = parser.add_argument
    add("--size", choices=("tiny", "reduced", "full"), default="reduced")
    add("--json", type=Path, metavar="FILE", help="write the rows there")
    add("--threads", type=int, default=len(available_cores()), help="of each side")
    add("--repeats", type=int, help="rounds in which every side has its turn")
    add("--trunk", default=DEFAULT_TRUNK, help="of both sides")
    add("--cache", type=Path, default=ROOT / ".benchmarks", help="corpora made once")
    add("--environments", type=Path, default=ROOT / ".peers", help="where peers are installed")
    add("--without-peers", action="store_true", help="measure our side alone")
    return parser


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=escape(title))
    table.add_column("what")
    for name in ("ours", "peer", "unit", "ratio", "spread ours/peer", "peer tuned"):
        table.add_column(name, justify="right")
    for row in rows:
        spreads = f"{row.ours_spread:.0%} / {_optional(row.peer_spread, '.0%')}"
        table.add_row(
            escape(f"{row.name} ({row.note})" if row.note else row.name),
            f"{row.ours:,.4g}", _optional(row.peer, ",.4g"), row.unit,
            _optional(row.ratio, ".2f"), spreads, "yes" if row.tuned else "no",
        )  # fmt: skip
    return table


def _optional(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def environment_of(threads: int) -> dict[str, str]:
    """The environment of a process that is to use so many threads and no network."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(names, str(threads)),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }
