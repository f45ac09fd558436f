"""Which commands measure a run on a file of questions?"""

from pathlib import Path
from typing import Annotated

import typer

from realm.artifact import write_atomically
from realm.cli.options import (
    JsonFileOption,
    ModelOption,
    RunOption,
    SetOption,
    absolute,
    open_existing,
)
from realm.cli.result_tables import show_open_qa, show_retrieval, show_risk_coverage

app = typer.Typer(help="Measure retrieval and answers on a question file.", no_args_is_help=True)
QuestionsArgument = Annotated[
    str, typer.Argument(metavar="QUESTIONS", help="Question file, in any of the published forms.")
]
DepthOption = Annotated[
    int, typer.Option(min=1, help="How many passages of each ranking are judged; 5000 in ORQA.")
]
_DEPTH = 100


@app.command("retrieval")
def retrieval(
    questions: QuestionsArgument,
    run: RunOption,
    model: ModelOption = "",
    json_file: JsonFileOption = None,
    depth: DepthOption = _DEPTH,
    assignments: SetOption = None,
) -> None:
    """Recall@k of a checkpoint beside BM25; of all checkpoints where no model is named."""
    from realm import scoring

    opened = open_existing(run, assignments)
    (file,) = absolute([questions])
    models = [scoring.check_model(opened, model)] if model else opened.finished_checkpoints()
    report = scoring.retrieval_report(opened, file, models, depth=depth)
    if json_file is not None:
        scoring.write_json(json_file, report)
    show_retrieval(scoring.question_file_name(file), report)


@app.command("open-qa")
def open_qa(
    questions: QuestionsArgument,
    run: RunOption,
    model: ModelOption = "",
    json_file: JsonFileOption = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every answer as JSON lines.")
    ] = None,
    depth: DepthOption = _DEPTH,
    assignments: SetOption = None,
) -> None:
    """Exact match and F1 of the answers, and what bounds them."""
    from realm import scoring

    opened = open_existing(run, assignments)
    (file,) = absolute([questions])
    name = scoring.check_model(opened, model)
    report = scoring.open_qa_report(opened, file, name, predictions=predictions, depth=depth)
    if json_file is not None:
        scoring.write_json(json_file, report)
    show_open_qa(scoring.question_file_name(file), report)


@app.command("risk-coverage")
def risk_coverage(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="What --predictions of open-qa wrote.")
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the curve as an HTML page.")
    ] = None,
    json_file: JsonFileOption = None,
) -> None:
    """How many answers are wrong, the more questions a run abstains from."""
    from realm import scoring
    from realm.evaluation import risk_coverage as curve

    judged = curve.read_judged(predictions)
    facts = curve.summarise_curve(judged)
    if json_file is not None:
        scoring.write_json(json_file, facts)
    if output is not None:
        write_atomically(output, curve.draw_risk_coverage(predictions.name, judged))
    show_risk_coverage(predictions.name, facts)
