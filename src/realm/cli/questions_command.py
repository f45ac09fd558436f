"""Which command turns a published question set into a small file?

Every command takes the published forms as they are. This one is for those of many gigabytes,
the original Natural Questions above all, which should be read once.
"""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("questions")(questions)


def questions(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="NQ, NQ-open, WebQuestions, CuratedTREC, TriviaQA, SQuAD or DPR, also gzipped.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The JSON lines that are written.")
    ],
) -> None:
    """Write the questions of published sets as one file in the form of NQ-open."""
    from realm.examples.question import read_questions, write_questions

    found = [question for file in files for question in read_questions(file)]
    write_questions(output, found)
    typer.echo(f"{output}: {len(found):,} questions")
