"""Which commands add, remove and list the documents of a run, also while it is being served?

What is added is found by the next question; nothing is trained or embedded again.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realm.cli.options import RunOption, open_existing
from realm.cli.terminal import say, show_table

if TYPE_CHECKING:
    from realm.corpus.documents import Document
    from realm.living.corpus import LivingCorpus
    from realm.living.state import Edit
    from realm.stages import Run

_MOST_LISTED = 50

app = typer.Typer(help="Add, remove and list documents of a finished run.", no_args_is_help=True)


@app.command()
def add(
    run: RunOption,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Folders, files, or hub:NAME.", show_default=False
        ),
    ],
) -> None:
    """Add documents, or replace those with the same ids: all of them, or none.

    Those that are there as they are, and those without text, are passed by.
    """
    from realm.experiment import expand

    opened = open_existing(run)
    folders = [Path(expand(source)) for source in opened.experiment.sources]
    with _corpus(opened) as corpus:
        edits = corpus.put(_new(corpus, sources, folders))
        _show(run, edits, corpus)


@app.command()
def remove(
    run: RunOption,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", show_default=False)],
) -> None:
    """Remove documents: all of them, or none."""
    from realm.corpus.documents import replace_surrogates

    with _corpus(open_existing(run)) as corpus:
        _show(run, corpus.remove([replace_surrogates(name) for name in ids]), corpus)


@app.command("list")
def list_documents(
    run: RunOption,
    text: Annotated[
        str,
        typer.Option(metavar="WORDS", help="Only those whose id, title or text holds these words."),
    ] = "",
    after: Annotated[
        str, typer.Option(metavar="ID", help="Go on after this one.", show_default=False)
    ] = "",
    limit: Annotated[int, typer.Option(help="How many at most.")] = _MOST_LISTED,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a document, for programs.")
    ] = False,
) -> None:
    """Show the documents in the order of their ids."""
    with _corpus(open_existing(run)) as corpus:
        found = corpus.list(text=text, after=after, limit=limit)
        num_documents = corpus.num_documents
    if as_json:
        for document in found:
            typer.echo(json.dumps(asdict(document), ensure_ascii=False))
    else:
        rows = [[d.id, d.title, d.origin, f"{d.num_passages:,}"] for d in found]
        title = f"{run}: {num_documents:,} documents"
        show_table(title, ("id", "title", "origin", "passages"), rows, num_names=3)
    if len(found) == limit:
        say(f"there may be more: --after {found[-1].id!r}")


def _new(
    corpus: "LivingCorpus", sources: Sequence[str], folders: Sequence[Path]
) -> "list[Document]":
    """The documents of the sources that are not there yet.

    A file in a folder that the run was made from has its id from there.
    """
    from realm.corpus.documents import read_documents

    found = list(read_documents(sources, below=folders))
    with_text = [document for document in found if document.text.strip()]
    if with_text and len(with_text) < len(found):
        say(f"passed by, since they have no text: {len(found) - len(with_text):,} documents")
    new = [document for document in with_text or found if not _is_there(corpus, document)]
    if len(new) < len(with_text):
        say(f"passed by, since they are there already: {len(with_text) - len(new):,} documents")
    return new


def _is_there(corpus: "LivingCorpus", document: "Document") -> bool:
    from realm.living.state import UnknownDocument

    try:
        kept = corpus.document(document.document_id)
    except UnknownDocument:
        return False
    return (kept.title, kept.text) == (document.title, document.text)


@contextmanager
def _corpus(run: "Run") -> Iterator["LivingCorpus"]:
    from realm.living.corpus import LivingCorpus

    corpus = LivingCorpus.open(run)
    try:
        yield corpus
    finally:
        corpus.close()


def _show(run: Path, edits: "list[Edit]", corpus: "LivingCorpus") -> None:
    """Say what became of the documents, kind by kind."""
    num_documents = Counter(edit.action for edit in edits)
    for action, count in num_documents.items():
        num_passages = sum(edit.num_passages for edit in edits if edit.action == action)
        typer.echo(f"{action}: {count:,} documents, {num_passages:,} passages")
    typer.echo(f"{run}: {corpus.num_passages:,} passages of {corpus.num_documents:,} documents")
