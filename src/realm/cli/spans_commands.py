"""Which commands find salient spans, and train the tagger that finds them?"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realm.cli.options import JsonFileOption, RecipeOption, SetOption, open_run
from realm.cli.terminal import say, show_progress, show_table
from realm.errors import SettingError

if TYPE_CHECKING:
    from realm.spans.conll import TaggedFile
    from realm.training.tagger import TaggerSettings

_HELD_OUT_SHARE = 0.2
_RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="FILE:LABEL=NAME",
        help="What a file's label is called here; NAME O drops it. May be given repeatedly.",
    ),
]
_ArticlesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE",
        help="Encyclopedic articles to learn from first: their first sentences say what their "
        "titles name. A folder, a file, or hub:NAME; may be given repeatedly.",
    ),
]

app = typer.Typer(
    help="Find the names, dates and numbers that pre-training will hide; train a tagger for them.",
    invoke_without_command=True,
)


@app.callback()
def spans(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="Directory of the run.", show_default=False),
    ] = None,
    tagger: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="`rules`, or a token classification model: a folder or a name on the hub.",
            show_default=False,
        ),
    ] = "",
    recipe: RecipeOption = "",
    assignments: SetOption = None,
) -> None:
    """Find the names, dates and numbers that pre-training will hide; or `train` a tagger."""
    if context.invoked_subcommand is not None:
        return
    if run is None:
        raise SettingError("no run is named: give `--run RUN`, or `realm spans train --data FILE`")
    chosen = [f"spans.tagger={json.dumps(_absolute_if_folder(tagger))}"] if tagger else []
    found = open_run(run, recipe, [*(assignments or ()), *chosen]).spans()
    labels = ", ".join(f"{count:,} {label}" for label, count in found.num_spans_by_label.items())
    typer.echo(f"{run}/spans: {len(found):,} salient spans ({labels})")


@app.command("train")
def train(  # noqa: PLR0913 - each is an option of the command line
    data: Annotated[
        list[Path],
        typer.Option(metavar="FILE...", help="Files of tagged words (CoNLL).", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the tagger goes.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", hidden=True)] = None,
    trunk: Annotated[
        str, typer.Option(metavar="NAME_OR_PATH", help="Encoder to start from.", show_default=False)
    ] = "",
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out",
            help="Hold out a fifth of the first file, by document, and measure on it.",
        ),
    ] = False,
    renames: _RenameOption = None,
    articles: _ArticlesOption = None,
    json_file: JsonFileOption = None,
    assignments: SetOption = None,
) -> None:
    """Train a tagger on files of tagged words; use it with `realm spans --tagger FOLDER`.

    `--set` changes num_epochs, batch_size, learning_rate, dropout, num_articles, num_trainings
    or seed.
    """
    from realm.config import override, read_settings
    from realm.models.trunk import DEFAULT_TRUNK, locate_trunk
    from realm.spans.conll import split_held_out
    from realm.training.tagger import TaggerSettings, train_tagger

    _check_outputs(out, json_file, is_measured=held_out)
    settings = read_settings(TaggerSettings, override({}, assignments or ()), origin="--set")
    files = _read_files([*data, *(more or ())], renames or ())
    first, measuring = files[0], None
    if held_out:
        first, measuring = split_held_out(first, share=_HELD_OUT_SHARE, seed=settings.seed)
    folder = locate_trunk(trunk or DEFAULT_TRUNK)
    marked = _mark_articles(articles, settings) if articles else None
    train_tagger(out, [first, *files[1:]], folder, settings, show_progress, articles=marked)
    if measuring is not None:
        _measure(out, files[0], measuring, json_file)
    say(f"`realm spans --run RUN --tagger {out}` uses it")
    typer.echo(out)


def _mark_articles(sources: Sequence[str], settings: "TaggerSettings") -> "TaggedFile":
    from realm.corpus.documents import read_documents
    from realm.spans.silver import mark_articles

    marked = mark_articles(
        read_documents(sources),
        num_articles=settings.num_articles,
        seed=settings.seed,
        progress=show_progress,
    )
    num_names = sum(len(sentence.spans) for sentence in marked.sentences)
    say(f"{len(marked.documents):,} articles mark {num_names:,} names")
    return marked


def _check_outputs(out: Path, json_file: Path | None, *, is_measured: bool) -> None:
    """Refuse before the training what would be lost after it."""
    if out.exists():
        raise SettingError(f"{out} exists already: name another folder with --out")
    if json_file is not None and not is_measured:
        raise SettingError("--json writes what was measured: give --held-out too, or leave it out")
    for file in (out, json_file):
        if file is not None:
            folder = next(parent for parent in file.absolute().parents if parent.exists())
            if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                raise SettingError(f"{file} cannot be written in {folder}: name another place")


def _measure(
    tagger: Path, whole: "TaggedFile", measuring: "TaggedFile", json_file: Path | None
) -> None:
    """Compare the new tagger with the rules, on what it was not trained on."""
    from realm.evaluation.tagging import compare_taggers
    from realm.scoring import write_json
    from realm.spans.entities import RuleTagger
    from realm.spans.model_tagger import ModelTagger

    model = ModelTagger(str(tagger))
    # The rules know a corpus by its words alone, so they may see those of all documents.
    rules = RuleTagger.fit(sentence.text for sentence in whole.sentences)
    report = compare_taggers(measuring, {"model": model, "rules": rules})
    if json_file is not None:
        write_json(json_file, report)
    show_agreement(report)


def show_agreement(report: Mapping[str, Any]) -> None:
    """One table of all taggers: precision, recall and F1 with labels, and F1 without."""
    rows = []
    for system, scores in report["systems"].items():
        typed, by_label = scores["typed"] or {}, scores["f1_by_label"] or {}
        figures = [typed.get(key) for key in ("precision", "recall", "f1")]
        figures.append(scores["untyped"]["f1"])
        labels = ", ".join(f"{label} {f1:.1f}" for label, f1 in by_label.items())
        rows.append([system, *map(_score, figures), labels])
    title = (
        f"{report['num_entities']:,} entities in {report['num_documents']:,} documents held out, "
        "found exactly, in percent"
    )
    head = ("tagger", "precision", "recall", "F1", "untyped F1", "F1 by label")
    show_table(title, head, rows)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _read_files(paths: Sequence[Path], renames: Sequence[str]) -> list["TaggedFile"]:
    from realm.spans.conll import read_tagged

    renamed: dict[str, dict[str, str]] = {path.name: {} for path in paths}
    if len(renamed) < len(paths):
        raise SettingError("two files have the same name: rename one, so that reports tell them")
    for rename in renames:
        place, _, name = rename.rpartition("=")
        file, _, label = place.rpartition(":")
        if not (name and label and Path(file).name in renamed):
            known = ", ".join(renamed)
            raise SettingError(f"--rename {rename}: write it as FILE:LABEL=NAME, FILE of {known}")
        renamed[Path(file).name][label] = name
    return [read_tagged(path, renamed[path.name]) for path in paths]


def _absolute_if_folder(tagger: str) -> str:
    """A folder means the same from any working directory; a name on the hub stays."""
    return str(Path(tagger).absolute()) if Path(tagger).is_dir() else tagger
