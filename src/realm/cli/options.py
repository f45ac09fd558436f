"""Which options does every command share, and which run do they open?

A run keeps its settings: a recipe is needed once, when the run begins; `late_changes` says what
may be set later.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realm.artifact import MANIFEST, is_finished
from realm.cli.late_changes import (
    refuse_other_artifacts,
    refuse_other_recipe,
    refuse_other_trainings,
)
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
_DEFAULT_RECIPE = "laptop"  # for documents of one's own, on two cores


def open_run(
    path: Path,
    recipe: str = "",
    assignments: Sequence[str] | None = None,
    *,
    check: "Callable[[Experiment], None] | None" = None,
    **changes: Any,
) -> "Run":
    """Open the run, or begin it; keep changed settings in it.

    `changes` are whole fields of the experiment, such as `sources`; what `check` refuses is not
    kept.

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
            refuse_other_recipe(path, recipe, saved, wanted)
    else:
        wanted = with_overrides(saved or read_recipe(_DEFAULT_RECIPE), assignments or ())
        wanted = wanted.model_copy(update=changes)
    if saved is not None:
        refuse_other_artifacts(path, saved, wanted)
        refuse_other_trainings(path, saved, wanted)
    elif not wanted.sources:
        raise SettingError(NO_DOCUMENTS)
    if check is not None:
        check(wanted)
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
    refuse_other_artifacts(path, run.experiment, wanted)
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
    changes: dict[str, Any] = {"sources": absolute(sources)} if sources else {}
    path = path or _named_after(sources[0])
    begin_with(model, path, show_progress)
    if sources and is_finished(path / "corpus"):
        _refuse_other_documents(path, changes["sources"])
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


def _named_after(source: str) -> Path:
    """Where the run of a source stands, if nobody says so."""
    place = Path(source).resolve()
    name = place.stem if place.is_file() else place.name
    if not name:
        raise SettingError(f"{source} has no name that a run could take: give --run RUN")
    return Path("runs") / name


def _refuse_other_documents(path: Path, sources: tuple[str, ...]) -> None:
    from realm.stages import Run

    read = Run.open(path).experiment.sources
    if read != sources:
        raise SettingError(
            f"{path} holds the documents of {', '.join(read)}: add to them with `realm documents "
            f"add {' '.join(sources)} --run {path}`, or give another --run"
        )


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
    """Paths that mean the same from any working directory; names of other kinds stay.

    Raises:
        SettingError: a name cannot be written into a recipe.
    """
    for source in sources:
        if any("\udc80" <= letter <= "\udcff" for letter in source):
            raise SettingError(f"{source!r} has a name that is not UTF-8: rename it")
    return tuple(s if s.startswith(("hub:", "${")) else str(Path(s).absolute()) for s in sources)
