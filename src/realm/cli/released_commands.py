"""Which commands take models in, released or shipped, and give models out?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from realm.cli.info_commands import show_import
from realm.cli.options import ModelOption, RunOption, open_existing
from realm.cli.terminal import say, show_progress
from realm.errors import SettingError

_FORMATS = ("transformers-realm", "auto-model", "realm")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("import")(import_)
    app.command("export")(export)


def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, or names on the hub, that complete each other; or realm-mini.",
        ),
    ],
    run: RunOption,
    passage_embedder: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="What embeds passages beside an openqa folder, for refresh and edits.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Make a run of released REALM checkpoints (google/realm-orqa-nq-openqa and its kind).

    Or of a model in this program's own form: realm-mini comes with it, `realm export --format
    realm` writes others.
    """
    from realm.importing import import_released
    from realm.run_folder import IMPORT
    from realm.shipped.folder import begin_with, find_model

    if len(sources) == 1 and find_model(sources[0]) is not None:
        begin_with(sources[0], run, show_progress)
        show_import(run)
        return
    import_released(sources, run, passage_embedder=passage_embedder, progress=show_progress)
    show_import(run)
    padding = json.loads((run / IMPORT / "config.json").read_text("utf-8"))["pad_token_id"]
    if padding:
        say(
            f"wordpiece {padding} takes no gradient, as in transformers' port: the released "
            f"config.json says pad_token_id={padding}"
        )


def export(
    run: RunOption,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write.", show_default=False)
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="|".join(_FORMATS), help="For which program.")
    ] = _FORMATS[0],
    model: ModelOption = "",
) -> None:
    """Write a model for transformers: REALM's own classes (up to 4.57), or any AutoModel.

    Or, as `realm`, for this program: small, for `realm ask --model FOLDER` and `realm import`.
    """
    from realm.exporting import export_auto_models, export_transformers_realm
    from realm.scoring import check_model
    from realm.shipped.folder import ship

    if form not in _FORMATS:
        raise SettingError(f"--format {form}: choose one of {', '.join(_FORMATS)}")
    if folder.exists():
        raise SettingError(f"{folder} is there already: give another folder")
    opened = open_existing(run)
    writers = dict(
        zip(_FORMATS, (export_transformers_realm, export_auto_models, ship), strict=True)
    )
    for path in writers[form](opened, check_model(opened, model), folder):
        typer.echo(path)
