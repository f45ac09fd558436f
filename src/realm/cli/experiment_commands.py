"""Which command measures the paper's tables with a recipe of one's own?"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realm.cli.options import DEFAULT_SEEDS, RecipeOption, RunOption, SetOption, open_run
from realm.cli.terminal import say, show_table

if TYPE_CHECKING:
    from realm.stages import Run
    from realm.tables.making import Job


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("experiment")(experiment)


def experiment(  # noqa: PLR0913 - each is an option of the command line
    name: Annotated[str, typer.Argument(metavar="table1|table2", show_default=False)],
    run: RunOption,
    recipe: RecipeOption = "",
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="NAME", help="Make this row only; may be given repeatedly."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings of REALM and ORQA; other rows have one.")
    ] = DEFAULT_SEEDS,
    folds: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Measure by these training questions too: each fifth by what learned the others.",
        ),
    ] = "",
    at_once: Annotated[
        int,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            help="Rows made at a time, each by a process: small models leave a GPU idle.",
        ),
    ] = 1,
    assignments: SetOption = None,
) -> None:
    """Make the rows of a table of the paper, each in RUN/rows; started again, go on."""
    from realm.scoring import check_all_questions
    from realm.tables.folds import make_folds, write_folds
    from realm.tables.making import rows_to_make

    opened = open_run(run, recipe, assignments, check=check_all_questions)
    jobs = rows_to_make(opened, name, names=rows or (), num_seeds=seeds)
    if folds:
        write_folds(opened, folds)  # a file that cannot be used is found before hours of training
    _make(opened, jobs, at_once, lambda: _write(opened, name, folds))
    report, page = _write(opened, name, folds)
    for job in [job for job in jobs if folds and job.seed == 0]:
        say(f"in folds of {folds}: {job.row.title}")
        make_folds(opened, job, folds)
        report, page = _write(opened, name, folds)
    _show(report)
    say(f"{page} shows the table beside the paper's; its numbers are in report.json beside it")


def _make(opened: "Run", jobs: "Sequence[Job]", at_once: int, on_row: Callable[[], object]) -> None:
    """Make all rows; the page shows each while the others are made."""
    from realm.tables.making import make_row, row_run
    from realm.tables.side_by_side import make_rows_at_once

    def tell(what: str, job: "Job") -> None:
        say(f"{what}: {job.row.title}, seed {job.seed}")
        if what == "finished":
            on_row()

    if at_once > 1:
        make_rows_at_once(opened, jobs, at_once, tell)
        return
    for number, job in enumerate(jobs, start=1):
        say(f"row {number} of {len(jobs)}: {job.row.title}, seed {job.seed}")
        make_row(opened, row_run(opened, job))
        on_row()


def _write(opened: "Run", name: str, folds: str) -> tuple[dict[str, Any], Path]:
    """The page of a table, with what was measured in folds by this command or the last with any."""
    from realm.tables.folds import read_folds
    from realm.tables.page import folds_shown, write_table
    from realm.tables.results import read_table

    report = read_table(name, opened).report()
    if file := folds or folds_shown(opened.path / name):
        report["folds"] = read_folds(name, opened, file)
    return report, write_table(opened.path / name, report)


def _show(report: Mapping[str, Any]) -> None:
    from realm.evaluation.report import bounds
    from realm.tables.page import exact_match_cells, paper_cells

    names, papers = paper_cells(report)
    columns = [*report["files"], "average"]
    body = [
        [row["title"], *paper, *exact_match_cells(row, columns), str(len(row["seeds"]))]
        for row, paper in zip(report["summary"], papers, strict=True)
    ]
    head = ["exact match in percent", *(f"paper {name}" for name in names), *columns, "seeds"]
    show_table(f"{report['table']} ({report['machine']})", head, body)
    for lead in report["differences"]:
        interval = lead["exact_match"]["average"]
        say(
            f"REALM against {lead['before']}: {interval['estimate']:+.1f} points, 95% interval "
            f"{bounds(interval)}"
        )
