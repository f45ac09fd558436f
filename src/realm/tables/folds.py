"""How is a set of questions measured that has a training file alone?

In folds: each fifth by a model that was fine-tuned on the other four, beside the recipe's own
questions. What comes before fine-tuning is the same for all folds, and is linked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realm.errors import SettingError
from realm.evaluation.comparison import article_by_question
from realm.evaluation.metrics import paired_bootstrap
from realm.examples.question import write_questions
from realm.scoring import data_fingerprint, question_file_name, questions_of
from realm.stages import Run
from realm.tables.making import ROWS, Job, make_row
from realm.tables.results import Result, read_result
from realm.tables.row import mean_lengths
from realm.tables.rows import REALM, rows_of

NUM_FOLDS = 5
_METRICS = ("exact_match", "recall_before")
_SEED = (0, 60)


@dataclass(frozen=True)
class Fold:
    """A fifth of a file, and what is learned before it is asked."""

    name: str
    learned: Path
    asked: Path


def make_folds(base: Run, job: Job, file: str) -> None:
    """Make the runs of a row on all folds of a file, or what is missing of them.

    Raises:
        SettingError: a run was begun with another recipe.
    """
    for fold in write_folds(base, file):
        make_row(base, _run(base, job, fold))


def read_folds(table: str, base: Run, file: str) -> dict[str, Any]:
    """Exact match and zero-shot recall@5 over all questions of a file, in percent.

    For every row of the table of which all folds are finished, with REALM's lead in exact match.
    """
    folds = write_folds(base, file)
    found: list[dict[str, Any]] = []
    scores: dict[str, list[float]] = {}
    for row in rows_of(table, base.experiment, mean_lengths(base.corpus(), base.experiment)):
        job = Job(row, 0)
        results = [read_result(job, _run(base, job, fold)) for fold in folds]
        finished = [result for result in results if result is not None]
        if len(finished) == NUM_FOLDS:
            by_metric = {metric: _scores(finished, folds, metric) for metric in _METRICS}
            means = {metric: _percent(values) for metric, values in by_metric.items()}
            found.append({"name": row.name, "title": row.title, **means})
            scores[row.name] = by_metric["exact_match"]
    articles = _articles(base, folds)
    for other in found:
        if REALM in scores and other["name"] != REALM:
            lead = paired_bootstrap(scores[REALM], scores[other["name"]], clusters=articles)
            other["lead"] = lead.rounded(100)
    return {
        "file": question_file_name(file),
        "path": file,
        "num_questions": len(questions_of(file)),
        "rows": found,
    }


def write_folds(base: Run, file: str) -> list[Fold]:
    """Write the folds of a file into RUN; what it holds gives the same ones every time.

    Raises:
        SettingError: the file has fewer questions than folds, or every row learns from it.
        SourceError: it cannot be read.
    """
    questions, data = questions_of(file), data_fingerprint(file)
    # One that stands twice is asked by one model, which has learned it in neither place.
    numbers: dict[str, int] = {}
    asked = [numbers.setdefault(question.question, len(numbers)) for question in questions]
    if len(numbers) < NUM_FOLDS:
        raise SettingError(
            f"{file} has {len(numbers)} different questions, too few for {NUM_FOLDS} folds"
        )
    if data in map(data_fingerprint, base.experiment.train_questions):
        raise SettingError(
            f"{file} is among the recipe's train_questions: every fold would have learned what it "
            "is asked; take it out there"
        )
    name = f"{question_file_name(file)}-{data[:8]}"
    places = np.random.default_rng(_SEED).permutation(len(numbers))[asked] % NUM_FOLDS
    folds = []
    for number in range(NUM_FOLDS):
        fold = Fold(
            name=f"{name}-{number + 1}",
            learned=base.path / "folds" / f"{name}-without-{number + 1}.jsonl",
            asked=base.path / "folds" / f"{name}-{number + 1}.jsonl",
        )
        for path, is_in in ((fold.learned, places != number), (fold.asked, places == number)):
            write_questions(path, [questions[i] for i in np.flatnonzero(is_in)])
        folds.append(fold)
    return folds


def _run(base: Run, job: Job, fold: Fold) -> Run:
    recipe = job.row.experiment(base.experiment, job.seed)
    # A checkpoint that is selected by questions is selected by the recipe's, never by these.
    selected_by = recipe.dev_questions[:1] if recipe.finetune.num_development_questions else ()
    changes = {
        "train_questions": (*recipe.train_questions, str(fold.learned.absolute())),
        "dev_questions": (*selected_by, str(fold.asked.absolute())),
    }
    path = base.path / ROWS / f"{job.name}-{fold.name}"
    return Run(path, recipe.model_copy(update=changes), base.progress)


def _scores(results: Sequence[Result], folds: Sequence[Fold], metric: str) -> list[float]:
    """By question, fold after fold."""
    return [
        float(score)
        for result, fold in zip(results, folds, strict=True)
        for score in result.scores(fold.asked.stem, metric)
    ]


def _articles(base: Run, folds: Sequence[Fold]) -> list[str]:
    """By question, fold after fold: those about one article are drawn together."""
    asked = [question for fold in folds for question in questions_of(str(fold.asked))]
    return article_by_question(asked, base.corpus())


def _percent(scores: Sequence[float]) -> float:
    return round(100 * float(np.mean(scores)), 2)
