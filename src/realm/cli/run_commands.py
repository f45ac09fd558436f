"""Which commands make something: whole runs and single stages?

Every stage opens what is finished and makes what is missing before it, so any of these
commands may be the first one.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realm.cli.info_commands import examples_left_out
from realm.cli.options import (
    RecipeOption,
    RunOption,
    SetOption,
    SourceOption,
    absolute,
    open_existing,
    open_run,
)
from realm.cli.result_tables import show_evaluations
from realm.cli.terminal import say, show_progress
from realm.errors import SettingError
from realm.evaluation.report import duration, write_report

if TYPE_CHECKING:
    from realm.corpus.store import PassageStore
    from realm.stages import Run

_MOST_NAMED = 3  # documents
_SECONDS_BETWEEN_LOOKS = 1.0


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("run")(whole_run)
    for name, command in (
        ("corpus", corpus),
        ("trunk", trunk),
        ("warm-start", warm_start),
        ("pretrain", pretrain),
        ("refresh", refresh),
        ("index", index),
        ("finetune", finetune),
    ):
        app.command(name, rich_help_panel="Single stages")(command)


def whole_run(
    run: RunOption,
    recipe: Annotated[str, typer.Argument(metavar="[RECIPE]", show_default=False)] = "",
    sources: SourceOption = None,
    assignments: SetOption = None,
) -> None:
    """Do every stage of a recipe, then measure; started again, go on where it stopped."""
    from realm.scoring import check_all_questions, evaluate

    begin = time.perf_counter()
    changes: dict[str, Any] = {"sources": absolute(sources)} if sources else {}
    opened = open_run(run, recipe, assignments, check=check_all_questions, **changes)
    make_all_stages(opened)
    if opened.experiment.dev_questions:
        show_evaluations(evaluate(opened, opened.experiment.dev_questions))
    else:
        say("the recipe names no dev_questions: nothing was measured")
    report = write_report(run)
    say(f"{report} shows the curves; all of it took {duration(time.perf_counter() - begin)}")


def make_all_stages(run: "Run") -> None:
    """Every stage for which the run has data."""
    from realm.stages import all_stages

    for name, make in all_stages(run):
        if name == "finetune" and not run.experiment.train_questions:
            say("no train_questions: the run ends before fine-tuning (`realm finetune FILE...`)")
            return
        make()
        if name == "corpus":
            _say_which_have_no_text(run.corpus())
        if name == "pretrain":
            _say_what_was_left_out(run.path)


def corpus(
    run: RunOption,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...", help="Folders, files, or hub:NAME.", show_default=False
        ),
    ] = None,
    recipe: RecipeOption = "",
    assignments: SetOption = None,
) -> None:
    """Read documents and cut them into passages."""
    changes: dict[str, Any] = {"sources": absolute(sources)} if sources else {}
    store = open_run(run, recipe, assignments, **changes).corpus()
    typer.echo(f"{run}/corpus: {len(store):,} passages of {store.num_documents:,} documents")
    _say_which_have_no_text(store)


def trunk(run: RunOption, recipe: RecipeOption = "", assignments: SetOption = None) -> None:
    """Train a trunk from nothing on the corpus; other runs may start from its folder."""
    folder = open_run(run, recipe, assignments).trunk()
    if folder is None:
        raise SettingError(
            f'{run} trains no trunk of its own: set embedder.trunk and reader.trunk to "own", and '
            "trunk.loop.num_steps"
        )
    typer.echo(folder)


def warm_start(run: RunOption, recipe: RecipeOption = "", assignments: SetOption = None) -> None:
    """Teach the embedder the inverse cloze task and the reader to use a passage."""
    typer.echo(open_run(run, recipe, assignments).warm_start())


def pretrain(run: RunOption, recipe: RecipeOption = "", assignments: SetOption = None) -> None:
    """Pre-train retriever and reader together."""
    last = open_run(run, recipe, assignments).pretrain()
    _say_what_was_left_out(run)
    typer.echo(last)


def refresh(
    run: RunOption,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow a pre-training that runs elsewhere.")
    ] = False,
    assignments: SetOption = None,
) -> None:
    """Turn the newest checkpoint of pre-training into a snapshot of the index."""
    from realm.training.state import steps_in

    opened = open_existing(run, assignments)
    num_steps = opened.experiment.pretrain.loop.num_steps
    while True:
        made = _refresh_once(opened)
        if made is not None:
            typer.echo(f"snapshot of step {made:,}")
        elif not watch or num_steps in steps_in(run / "pretrain" / "checkpoints"):
            break
        else:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if not watch:
            return
    say("there is no newer checkpoint to refresh from")


def index(run: RunOption, recipe: RecipeOption = "", assignments: SetOption = None) -> None:
    """Embed all passages with the pre-trained model, for fine-tuning and answering."""
    opened = open_run(run, recipe, assignments)
    opened.pretrain()
    snapshot = opened.snapshot("pretrain")
    typer.echo(f"{snapshot.path}: {len(opened.corpus()):,} passages as of step {snapshot.step:,}")


def finetune(
    run: RunOption,
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUESTIONS...]", help="Question files.", show_default=False),
    ] = None,
    recipe: RecipeOption = "",
    assignments: SetOption = None,
) -> None:
    """Fine-tune on questions with known answers; the index stays as it is."""
    changes: dict[str, Any] = {"train_questions": absolute(questions)} if questions else {}
    opened = open_run(run, recipe, assignments, **changes)
    opened.train_questions()  # a damaged file is found before hours of training, not after
    if opened.taken("finetune") is not None:
        say(f"the fine-tuned model of {run} was taken from another run: nothing is trained")
    typer.echo(opened.finetune())


def _say_which_have_no_text(store: "PassageStore") -> None:
    if ids := store.ids_without_text():
        named = ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
        say(f"{len(ids):,} have no text (a scan has none before it is recognised): {named}")


def _say_what_was_left_out(run: Path) -> None:
    for reason, count in examples_left_out(run):
        say(f"examples of pre-training {reason}: {count}")


def _refresh_once(run: "Run") -> int | None:
    from realm.pretraining.refresh import refresh_once

    every = run.experiment.pretrain.refresh.every
    folder = run.path / "pretrain"
    num_steps = run.experiment.pretrain.loop.num_steps
    snapshot = refresh_once(
        folder, run.corpus(), every=every, num_steps=num_steps,
        vectors=run.trunk_vectors(), index=run.experiment.index, progress=show_progress,
    )  # fmt: skip
    return None if snapshot is None else snapshot.step
