"""How does a person, or a program, ask a run questions?

One question as an argument; without one a prompt, or one question a line from a pipe. The model
is loaded once.
"""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realm.cli.options import RunToAskOption, SetOption, SourceOption, open_to_answer
from realm.cli.terminal import results

if TYPE_CHECKING:
    from realm.openqa.answerer import Answer, Answered
    from realm.stages import Run

_FOR_PEOPLE, _FOR_PROGRAMS = 3, 5  # answers
_MARKS = "»", "«"  # around an answer where no colour can show it


ModelToAskOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A model that was trained before: realm-mini, or a folder of `realm export --format "
        "realm`. Or start|warm-start|pretrain|finetune, a checkpoint of the run; the furthest one "
        "if left out.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("ask")(ask)


def ask(
    question: Annotated[str, typer.Argument(metavar='["QUESTION"]', show_default=False)] = "",
    run: RunToAskOption = None,
    model: ModelToAskOption = "",
    sources: SourceOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a question, for programs.")
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many answers; 3, for programs 5 as over HTTP.", show_default=False
        ),
    ] = None,
    assignments: SetOption = None,
) -> None:
    """Answer a question with the evidence; without one, ask for questions.

    `realm ask --model realm-mini --source FOLDER` needs no training: the first call reads the
    documents, later ones open what it kept.

    Documents that were added with `realm documents` are searched, removed ones are not; measures
    (`realm evaluate`) are those of the corpus that the run was trained with.
    """
    from realm.corpus.documents import replace_surrogates
    from realm.living.corpus import LivingCorpus
    from realm.living.view import View
    from realm.serving.results import Asked, answer_results, versions_of

    opened, name = _opened(run, model, sources or (), assignments)
    opened.require_answering(name)
    versions = versions_of(opened, name)
    if LivingCorpus.exists(opened):
        view = LivingCorpus.open(opened, name).view()
    else:
        answerer = opened.answerer(name)
        view = View(f"{answerer.store.fingerprint}:0", answerer)
    for asked in [question] if question else _asked():
        text = replace_surrogates(asked)  # bytes of a shell that are no UTF-8
        if as_json:
            (result,) = answer_results(view, versions, [Asked(text, top_k or _FOR_PROGRAMS)])
            typer.echo(json.dumps(result, ensure_ascii=False))
        else:
            show_answers(view.answerer.answer([text], top_k=top_k or _FOR_PEOPLE)[0])


def _opened(
    run: Path | None, model: str, sources: Sequence[str], assignments: Sequence[str] | None
) -> "tuple[Run, str]":
    """The run that is asked, and the name of its checkpoint."""
    from realm.scoring import check_model
    from realm.shipped.folder import find_model

    is_shipped = find_model(model) is not None
    opened = open_to_answer(run, model if is_shipped else "", sources, assignments)
    name = opened.newest_checkpoint() if is_shipped else check_model(opened, model)
    return opened, name


def show_answers(answered: "Answered") -> None:
    """Print the answers, each highlighted in the passage that supports it."""
    from rich.text import Text

    from realm.evaluation.open_qa import abstains

    console = results()
    console.print(Text(answered.question, style="bold"))
    if abstains(answered):
        null = f"(probability {answered.null_probability:.2f})"
        text = f"  I do not know: no passage that was read seems to hold the answer {null}."
        console.print(Text(text, style="yellow"))
        if answered.answers:
            console.print(Text("  What comes nearest:"))
    for number, answer in enumerate(answered.answers, start=1):
        head = Text(f"  {number}. ").append(answer.text, style="bold green")
        console.print(head.append(f"  (probability {answer.probability:.2f})"))
        console.print(_evidence(answer, is_coloured=console.is_terminal))
    console.print()


def _evidence(answer: "Answer", *, is_coloured: bool) -> "object":
    from rich.padding import Padding
    from rich.text import Text

    passage = answer.passage
    start, end = passage.answer_start, passage.answer_end
    before, after = ("", "") if is_coloured else _MARKS
    text = Text(passage.title, style="italic")
    text.append(
        f"  {answer.document_id}, characters {answer.start} to {answer.end}\n",
        style="not italic dim",
    )
    body = Text(passage.text[:start], style="not italic")
    body.append(f"{before}{passage.text[start:end]}{after}", style="bold reverse green")
    return Padding(text.append(body).append(passage.text[end:], style="not italic"), (0, 2, 0, 5))


def _asked() -> Iterator[str]:
    """Questions of a person at a prompt until an empty line, or the lines of a pipe."""
    if not sys.stdin.isatty():
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # as the bytes of an argument
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    import readline  # noqa: F401  (its import gives the prompt a history)

    while True:
        try:
            text = input("question (empty to end): ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text
