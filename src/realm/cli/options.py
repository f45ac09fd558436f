"""Which options does every command share, and which run do they open?

A run keeps its settings: a recipe is needed once, when the run begins. What a finished stage
was made with, or a training has begun with, cannot be changed afterwards, so that no command works
with half of a change and one that is refused leaves none behind.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realm.artifact import MANIFEST, is_finished, read_manifest
from realm.cli.terminal import say, show_progress
from realm.errors import SettingError

if TYPE_CHECKING:  # what trains needs seconds to import: commands do it when they run
    from realm.experiment import Experiment
    from realm.stages import Run

RunOption = Annotated[
    Path, typer.Option("--run", metavar="RUN", help="Directory of the run.", show_default=False)
]
RunToAskOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Directory of the run; beside a shipped model runs/NAME-OF-SOURCE if left out.",
        show_default=False,
    ),
]
ShippedOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Begin with a model that was trained before, and --source: realm-mini, or a folder of "
        "`realm export --format realm`.",
        show_default=False,
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", metavar="RECIPE", help="Recipe to begin a new run with: a name or a file."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="Change a setting; may be given repeatedly."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="start|warm-start|pretrain|finetune",
        help="Which checkpoint of the run; the furthest one if left out.",
        show_default=False,
    ),
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="SOURCE",
        help="Documents: a folder, a file, or hub:NAME; may be given repeatedly.",
    ),
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")
]

DEFAULT_SEEDS = 3  # of the rows of a table that are trained more than once
# How quick it is made; and where the tokenizer is from, whose content the start compares.
_MADE_WITHOUT = {"corpus.num_workers", "vocabulary_of"}
_DEFAULT_RECIPE = "laptop"  # for documents of one's own, on two cores
_MOST_NAMED = 3  # differing settings that an error lists


def open_run(
    path: Path, recipe: str = "", assignments: Sequence[str] | None = None, **changes: Any
) -> "Run":
    """Open the run, or begin it; keep changed settings in it.

    `changes` are whole fields of the experiment, such as `sources`.

    Raises:
        SettingError: a recipe differs from the settings of a run that has begun, a setting was
            changed that a finished stage was made with or a training has begun with, or a run
            would begin without documents.
        SourceError: other questions to learn from cannot be read.
    """
    from realm.data_stages import NO_DOCUMENTS
    from realm.experiment import read_recipe, with_overrides
    from realm.stages import Run

    saved = Run.open(path).experiment if Run.is_run(path) else None
    if recipe:
        wanted = read_recipe(recipe, assignments or ()).model_copy(update=changes)
        if saved is not None:
            _refuse_other_recipe(path, recipe, saved, wanted)
    else:
        wanted = with_overrides(saved or read_recipe(_DEFAULT_RECIPE), assignments or ())
        wanted = wanted.model_copy(update=changes)
    if saved is not None:
        _refuse_late_changes(path, saved, wanted)
        _refuse_to_train_otherwise(path, saved, wanted)
        _refuse_other_rows(path, saved, wanted)
    elif not wanted.sources:
        raise SettingError(NO_DOCUMENTS)
    run = Run(path, wanted, show_progress)
    if wanted != saved:
        run.save_recipe()
    return run


def open_existing(path: Path, assignments: Sequence[str] | None = None) -> "Run":
    """Open a run to use what it holds; changed settings hold for this command alone.

    Raises:
        ArtifactError: there is no run.
        SettingError: a setting was changed that a finished stage was made with.
    """
    from realm.experiment import with_overrides
    from realm.stages import Run

    run = Run.open(path, show_progress)
    wanted = with_overrides(run.experiment, assignments or ())
    _refuse_late_changes(path, run.experiment, wanted)
    return Run(path, wanted, show_progress)


def open_to_answer(
    path: Path | None,
    shipped: str,
    sources: Sequence[str],
    assignments: Sequence[str] | None = None,
) -> "Run":
    """Open a run that exists, or one of a shipped model, which may begin here.

    Raises:
        SettingError: neither is named, or documents for a run that has its own.
        ArtifactError: there is no such run.
    """
    if shipped:
        return open_shipped(shipped, path, sources, assignments)
    if path is None:
        raise SettingError("which run? give --run RUN, or --model realm-mini --source FOLDER")
    if sources:
        raise SettingError("--source goes with --model realm-mini: a run has documents of its own")
    return open_existing(path, assignments)


def open_shipped(
    model: str,
    path: Path | None,
    sources: Sequence[str],
    assignments: Sequence[str] | None = None,
) -> "Run":
    """Open a run of a model that was shipped, or begin it over documents; nothing is trained.

    Without a path it stands in runs/, under the name of the first source.

    Raises:
        SettingError: there is no such model, a run of something else, or no documents.
        SourceError: the documents cannot be read.
    """
    from realm.shipped.folder import begin_with

    if path is None and not sources:
        raise SettingError(f"{model} of which documents? name them with --source FOLDER")
    path = path or Path("runs") / Path(sources[0]).resolve().stem
    begin_with(model, path, show_progress)
    changes: dict[str, Any] = {"sources": absolute(sources)} if sources else {}
    run = open_run(path, **changes)
    if is_finished(path / "corpus"):
        _say_if_newer(sources, path)
    else:
        store = run.corpus()
        say(
            f"{path} holds {len(store):,} passages of {store.num_documents:,} documents: "
            f"--run {path} opens it again, `realm serve --run {path}` in the browser"
        )
    return open_existing(path, assignments)


def _say_if_newer(sources: Sequence[str], run: Path) -> None:
    """Tell that documents were written after the run had read them, or was edited."""
    from realm.corpus.documents import source_files

    kept = (run / "corpus" / MANIFEST, *(run / "living").rglob("*"))
    read_at = max(file.stat().st_mtime for file in kept)
    for source in (Path(name) for name in sources if Path(name).exists()):
        if any(file.stat().st_mtime > read_at for _, file in source_files(source)):
            say(
                f"{source} has changed since it was read: `realm documents add {source} --run "
                f"{run}` takes in what is new"
            )


def absolute(sources: Sequence[str]) -> tuple[str, ...]:
    """Paths that mean the same from any working directory; names of other kinds stay."""
    return tuple(s if s.startswith(("hub:", "${")) else str(Path(s).absolute()) for s in sources)


def _refuse_other_recipe(
    path: Path, recipe: str, saved: "Experiment", wanted: "Experiment"
) -> None:
    from realm.config import differing

    names = differing(saved.model_dump(), wanted.model_dump())
    if names:
        named = ", ".join(names[:_MOST_NAMED])
        more = " and others" if len(names) > _MOST_NAMED else ""
        raise SettingError(
            f"{path} has other settings than {recipe} ({named}{more}): leave the recipe out to go "
            "on with the run's own, or take a new --run"
        )


def _refuse_late_changes(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    """Compare what each finished artifact was made with."""
    from realm.tables.sharing import PARTS

    for part in PARTS:
        names = _differing(saved, wanted, part.settings)
        if names and not part.trained_with and is_finished(path / part.path):
            raise SettingError(
                f"{path / part.path} is finished and was made with other settings "
                f"({names[0]}): take a new --run"
            )


def _refuse_other_rows(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    """Compare with what the rows of tables were begun with."""
    from realm.stages import Run
    from realm.tables.making import MAY_DIFFER, ROWS

    names = _differing(saved, wanted, [n for n in type(saved).model_fields if n not in MAY_DIFFER])
    if names and any(map(Run.is_run, (path / ROWS).glob("*"))):
        raise SettingError(
            f"the rows of tables in {path / ROWS} were begun with other settings ({names[0]}): "
            "delete them, or take a new --run"
        )


def _refuse_to_train_otherwise(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    """Compare what each training has begun with; a model that was taken was trained elsewhere."""
    from realm.run_folder import TAKEN_FROM, RunFolder
    from realm.tables.sharing import PARTS, trained_by

    run = RunFolder(path, wanted)
    asks_others = bool(wanted.train_questions) and _differing(saved, wanted, ["train_questions"])
    # Files that cannot be read are named before anything is kept.
    questions = run.fingerprint_of_train_questions() if asks_others else ""
    for part in PARTS:
        inputs = _inputs_of_training(path / part.path) if part.trained_with else {}
        if not inputs or TAKEN_FROM in inputs:
            continue
        others = [name for name in part.settings if name != "train_questions"]
        names = _differing(saved, wanted, others)
        if inputs.get("settings") != trained_by(part, wanted):  # else it goes back to what it was
            names += _differing(saved, wanted, part.trained_with)
        if questions and inputs.get("questions", questions) != questions:
            names.append("train_questions")
        chosen_by = _differing(saved, wanted, ("retrieval", "dev_questions"))
        measured_by = inputs.get("development")
        if measured_by and chosen_by and measured_by != run.fingerprint_of_development():
            names += chosen_by
        if names:
            raise SettingError(
                f"{path / part.path} was trained with other settings ({names[0]}): take a new "
                "--run, or delete that folder to train it again"
            )


def _inputs_of_training(folder: Path) -> dict[str, str]:
    """What its newest checkpoint was made from; nothing where it has not begun."""
    from realm.training.state import latest_checkpoint

    newest = latest_checkpoint(folder)
    return {} if newest is None else read_manifest(newest).inputs


def _differing(saved: "Experiment", wanted: "Experiment", groups: Iterable[str]) -> list[str]:
    """The settings of these groups that differ."""
    from realm.config import differing, plain_value_of

    before, after = (
        {name: plain_value_of(experiment, name) for name in groups}
        for experiment in (saved, wanted)
    )
    return [name for name in differing(before, after) if name not in _MADE_WITHOUT]
