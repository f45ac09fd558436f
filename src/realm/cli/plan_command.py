"""Which command says what a run will take, before it begins?"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from realm.cli.options import DEFAULT_SEEDS, SetOption
from realm.cli.terminal import say, show_table
from realm.evaluation.report import duration

if TYPE_CHECKING:
    from realm.experiment import Experiment
    from realm.plan import Plan
    from realm.rates import Machine
    from realm.workload import Workload


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("plan")(plan)


def plan(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A name or a file.", show_default=False)
    ],
    machine: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Another machine: a known one, or what `info --machine --json` wrote there.",
            show_default=False,
        ),
    ] = "",
    passages: Annotated[
        int | None,
        typer.Option(min=2, help="How many there will be; counted from the sources if left out."),
    ] = None,
    assignments: SetOption = None,
    experiment_name: Annotated[
        str,
        typer.Option(
            "--experiment", metavar="table1|table2",
            help="The rows of that table, with what they share.", show_default=False,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:  # fmt: skip
    """Estimate time, memory and refresh age of a recipe, stage by stage, on this machine."""
    from realm.experiment import read_recipe
    from realm.plan import make_plan
    from realm.rates import open_machine
    from realm.workload import estimate_workload

    experiment = read_recipe(recipe, assignments or ())
    chosen = open_machine(machine) if machine else None
    work = estimate_workload(experiment, passages)
    on = chosen or _this_machine(experiment)
    if experiment_name:
        _show_rows(experiment_name, experiment, work, on, as_json=as_json)
        return
    made = make_plan(experiment, work, on)
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=1))
    else:
        _show(recipe, made)


def _this_machine(experiment: "Experiment") -> "Machine":
    """Measured with the recipe's own trunks, at the lengths of queries, passages and pairs."""
    from realm.costs import trunks_of
    from realm.rates import measure_machine

    embedder, reader = trunks_of(experiment)
    shapes = dict.fromkeys((reader.shape, embedder.shape))
    passage, query = experiment.corpus.passage_tokens, experiment.packing.query_tokens
    lengths = (query // 2, round(0.8 * passage), round(0.8 * passage) + query // 2)
    return measure_machine(list(shapes), lengths, experiment.pretrain.loop)


def _show_rows(
    name: str, experiment: "Experiment", work: "Workload", machine: "Machine", *, as_json: bool
) -> None:
    from realm.tables.planning import plan_rows

    planned = plan_rows(name, experiment, work, machine, num_seeds=DEFAULT_SEEDS)
    if as_json:
        facts = {"machine": machine.name, "num_passages": work.num_passages}
        typer.echo(
            json.dumps(
                {"table": name, **facts, "rows": [row.as_dict() for row in planned]}, indent=1
            )
        )
        return
    rows = [
        [
            row.job.row.title, str(row.job.seed),
            ", ".join(f"{s.name} {duration(s.seconds)}" for s in row.stages if s.seconds >= 60),
            duration(row.seconds),
        ]
        for row in planned
    ]  # fmt: skip
    rows.append(["all", "", "", duration(sum(row.seconds for row in planned))])
    head = ("row", "seed", "of its own", "time")
    show_table(f"{name} on {machine.name}, {work.num_passages:,} passages", head, rows, num_names=3)


def _show(recipe: str, made: "Plan") -> None:
    rows = [
        [stage.name, stage.detail, duration(stage.seconds), f"{stage.gigabytes:.1f} GB"]
        for stage in made.stages
    ]
    rows.append(["all", "", duration(made.seconds), f"{made.gigabytes:.1f} GB"])
    title = f"{recipe} on {made.machine}, {made.num_passages:,} passages"
    head = ("stage", "where the time goes", "time", "memory")
    show_table(title, head, rows, num_names=2)
    typer.echo(
        f"refresh: a snapshot is {made.refresh_age:,} steps old when it is adopted, and at most "
        f"{made.oldest:,} before the next one"
    )
    say(f"rates: {made.source}")
    for note in made.notes:
        say(f"note: {note}")
