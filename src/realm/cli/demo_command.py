"""What does a newcomer see first: every stage on a small encyclopedia, measured and asked."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from realm.cli.ask_command import show_answers
from realm.cli.options import RunOption, open_run
from realm.cli.run_commands import make_all_stages
from realm.cli.terminal import results, say, show_table
from realm.evaluation.report import duration, write_report

if TYPE_CHECKING:
    from realm.examples.question import Question
    from realm.openqa.answerer import Answerer
    from realm.stages import Run

_NUM_ANSWERED = 5


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo)


def demo(run: RunOption = Path("runs/demo")) -> None:
    """Train on the encyclopedia that ships with the program, and answer from it."""
    from realm.scoring import evaluate, questions_of

    begin = time.perf_counter()
    opened = open_run(run, "demo")
    make_all_stages(opened)
    files = opened.experiment.dev_questions
    questions = questions_of(files[0])
    reports = evaluate(opened, files)
    answerer = opened.answerer("finetune")
    _show_scores(opened, answerer, questions, reports)
    _show_answers(answerer, questions)
    write_report(run)
    count = _num_refreshes(run)
    refreshes = f"{count} refresh{'es' if count != 1 else ''} of the index during pre-training"
    say(f"{refreshes}; {duration(time.perf_counter() - begin)} in all")
    results().print(_next_commands(run), soft_wrap=True, markup=False)


def _show_scores(
    run: "Run",
    answerer: "Answerer",
    questions: Sequence["Question"],
    reports: Mapping[str, Mapping[str, Any]],
) -> None:
    """The first three rows give the fine-tuned reader the passages that each ranking chose."""
    from realm import scoring

    name = scoring.question_file_name(run.experiment.dev_questions[0])
    retrieval, open_qa = reports[f"retrieval:{name}"], reports[f"open-qa:{name}"]
    before = scoring.model_ranking(run, "pretrain", questions)
    read = (
        ("BM25", "bm25", answerer, scoring.lexical_ranking(run, questions)),
        ("retriever before pre-training", "start", answerer,
         scoring.model_ranking(run, "start", questions)),
        ("retriever after pre-training", "pretrain", answerer, before),
        ("whole system before fine-tuning", "pretrain", run.answerer("pretrain"), before),
    )  # fmt: skip
    table = [
        (title, system, scoring.exact_match_beside(reader, questions, rows, run.progress))
        for title, system, reader, rows in read
    ]
    table.append(("whole system after fine-tuning", "finetune", open_qa["exact_match"]))
    recall = {system: retrieval["systems"][system]["recall"] for _, system, _ in table}
    rows = [
        [title, *(f"{recall[system][k]:.1f}" for k in ("1", "5")), f"{exact:.1f}"]
        for title, system, exact in table
    ]
    title = f"{len(questions):,} questions that training never saw, in percent"
    show_table(title, ("", "recall@1", "recall@5", "exact match"), rows)


def _show_answers(answerer: "Answerer", questions: Sequence["Question"]) -> None:
    from realm.evaluation.metrics import is_correct

    chosen = questions[:: max(1, len(questions) // _NUM_ANSWERED)][:_NUM_ANSWERED]
    answered = answerer.answer([question.question for question in chosen], top_k=1)
    for question, answer in zip(chosen, answered, strict=True):
        show_answers(answer)
        is_right = bool(answer.answers) and is_correct(answer.answers[0].text, question)
        expected = " or ".join(question.answers)
        typer.echo(f"  {'right' if is_right else 'wrong'}: expected {expected}\n")


def _num_refreshes(run: Path) -> int:
    from realm.training.state import Journal

    entries = Journal(run / "pretrain" / "journal.jsonl").entries
    return sum(entry["event"] == "adopt" and entry["snapshot"] > 0 for entry in entries)


def _next_commands(run: Path) -> str:
    return f"""What to try next:
  realm ask --run {run}
      ask questions of your own
  realm serve --run {run}
      ask in the browser, see the evidence, add documents and ask again
  realm info --run {run}
      see what the run holds and what it took; {run}/report.html shows the curves
  realm run --run runs/mine --source FOLDER
      pre-train on documents of your own; `realm finetune FILE --run runs/mine` where you
      have questions"""
