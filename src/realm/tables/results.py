"""What do the finished rows of a table say, and how sure is it?

Read from the directories of the rows alone: their evaluations, predictions, logs and times. Over
seeds a mean has Student's interval; REALM's lead over a row is bootstrapped by question, or by
article where questions name one, on scores that are means over seeds.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from realm.evaluation.comparison import article_by_question
from realm.evaluation.metrics import (
    METRIC_VERSION,
    PairedScores,
    mean_with_interval,
    paired_bootstrap_of_average,
)
from realm.evaluation.report import read_evaluations
from realm.json_lines import read_json_lines
from realm.pretraining.run import BEST_PRETRAINED_BY
from realm.rates import processor
from realm.run_folder import RunFolder
from realm.scoring import data_fingerprint, question_file_name, questions_of, rankings_used
from realm.stages import Run
from realm.stopwatch import total_by_stage
from realm.tables.making import Job, row_run, seeds_begun, settings_changed_since
from realm.tables.row import Row, mean_lengths
from realm.tables.rows import REALM, rows_of

AVERAGE = "average"
LEADS = ("exact_match", "recall_before")
"""The metrics whose differences are bootstrapped."""
_DEPTH = "5"
_METRICS = (
    "exact_match", "f1", "recall_before", "recall_after", "gold_share_before", "gold_share_after",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A finished row with one seed."""

    job: Job
    run: RunFolder
    metrics: Mapping[str, Mapping[str, float | None]]
    """In percent, by question file: exact match and F1 after fine-tuning; recall and gold's share
    of the first five passages before it (zero-shot) and after."""

    @property
    def row(self) -> Row:
        """The row."""
        return self.job.row

    @property
    def minutes(self) -> float:
        """What it took beside what it shares with rows that were made before it."""
        return minutes_of(self.run)

    def scores(self, file: str, metric: str) -> list[bool]:
        """By question, whether its first answer is right, or is found before fine-tuning."""
        if metric == "exact_match":
            path = self.run.path / "evaluation" / f"predictions-{file}.jsonl"
            with path.open(encoding="utf-8") as lines:
                return [json.loads(line)["is_correct"] for line in lines]
        before, _ = rankings_used(self.run)
        ranks = read_evaluations(self.run.path, "retrieval")[file]["systems"][before]["first_hits"]
        return [rank is not None and rank <= int(_DEPTH) for rank in ranks]

    def utility(self) -> list[tuple[int, float]]:
        """Retrieval utility of held-out queries by step of pre-training."""
        name, rows = BEST_PRETRAINED_BY, read_json_lines(self.run.path / "pretrain/metrics.jsonl")
        return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def minutes_of(run: RunFolder) -> float:
    """What all stages took that were made in a run itself."""
    stages = total_by_stage(run.path / "stages.jsonl").values()
    seconds: float = sum(stage["seconds"] for stage in stages)
    return round(seconds / 60, 1)


def read_result(job: Job, run: Run) -> Result | None:
    """The result of a row's run; None where it is not finished, or measured on other questions."""
    if not Run.is_run(run.path) or settings_changed_since(run):
        return None
    retrieval, open_qa = (read_evaluations(run.path, task) for task in ("retrieval", "open-qa"))
    files = {question_file_name(file): file for file in run.experiment.dev_questions}
    for name, file in files.items():
        data = data_fingerprint(file)
        if any(_measured_on(reports.get(name)) != data for reports in (retrieval, open_qa)):
            return None
    before, after = rankings_used(run)
    metrics = {
        name: _metrics(retrieval[name]["systems"], open_qa[name], before, after) for name in files
    }
    return Result(job, run, metrics)


def read_table(name: str, base: Run) -> "Table":
    """The rows of a table that are finished by now, made by the recipe that RUN has.

    Raises:
        SettingError: there is no such table, or the recipe leaves nothing to compare.
    """
    rows = rows_of(name, base.experiment, mean_lengths(base.corpus(), base.experiment))
    jobs = [Job(row, seed) for row in rows for seed in seeds_begun(base, row)]
    results = (read_result(job, row_run(base, job)) for job in jobs)
    return Table(name, base, [result for result in results if result is not None])


class Table:
    """The finished rows of a table, in its order and that of the seeds."""

    def __init__(self, name: str, base: Run, results: Sequence[Result]) -> None:
        self.name, self._base, self.results = name, base, results
        self.files = {question_file_name(f): f for f in base.experiment.dev_questions}
        self._scores: dict[tuple[str, str, str], list[float]] = {}

    def report(self) -> dict[str, Any]:
        """Everything as plain values, in percent; what cannot be known is None."""
        store = self._base.corpus()
        return {
            "table": self.name,
            "machine": processor(),
            "torch": torch.__version__,
            "num_documents": store.num_documents,
            "num_passages": len(store),
            "files": {
                name: {"num_questions": len(clusters), "num_articles": len(set(clusters))}
                for name, clusters in self._clusters.items()
            },
            "averaged_over": self._averaged_over,
            "minutes": round(sum(result.minutes for result in self.results), 1),
            "minutes_of_run": minutes_of(self._base),
            "rows": [self._row(result) for result in self.results],
            "summary": [self._summary(results) for results in self._by_row.values()],
            "differences": self._differences(),
            "retrieval_utility": self._curves(),
            "folds": {},
        }

    @cached_property
    def _by_row(self) -> dict[str, list[Result]]:
        by_row: dict[str, list[Result]] = {}
        for result in self.results:
            by_row.setdefault(result.row.name, []).append(result)
        return by_row

    @cached_property
    def _clusters(self) -> dict[str, list[str]]:
        store = self._base.corpus()
        return {
            name: article_by_question(questions_of(file), store)
            for name, file in self.files.items()
        }

    @cached_property
    def _averaged_over(self) -> list[str]:
        """Files whose questions name their document, which this corpus answers; else all."""
        named = [
            name
            for name, file in self.files.items()
            if all(question.documents for question in questions_of(file))
        ]
        return named or list(self.files)

    def _row(self, result: Result) -> dict[str, Any]:
        row, seed = result.row, result.job.seed
        folder = self._base.path
        return {
            "name": row.name,
            "title": row.title,
            "seed": seed,
            "metrics": result.metrics,
            "minutes": result.minutes,
            "changes": dict(row.changes),
            "run": result.run.path.relative_to(folder).as_posix(),
            "command": shlex.join(
                ["realm", "experiment", self.name, "--run", str(folder), "--rows", row.name]
                + (["--seeds", str(seed + 1)] if row.is_repeated else [])
            ),
        }

    def _summary(self, results: Sequence[Result]) -> dict[str, Any]:
        row = results[0].row
        metrics: dict[str, dict[str, Any]] = {}
        for file in self.files:
            columns = {name: [r.metrics[file][name] for r in results] for name in _METRICS}
            metrics[file] = {name: _over_seeds(values) for name, values in columns.items()}
        metrics[AVERAGE] = {
            name: _over_seeds([self._average(result, name) for result in results])
            for name in _METRICS
        }
        return {
            "name": row.name,
            "title": row.title,
            "note": row.note,
            "paper": dict(row.paper),
            "seeds": [result.job.seed for result in results],
            "metrics": metrics,
        }

    def _average(self, result: Result, name: str) -> float | None:
        values = [result.metrics[file][name] for file in self._averaged_over]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    def _differences(self) -> list[dict[str, Any]]:
        """REALM's lead over each other row, by file and on average."""
        others = [name for name in self._by_row if name != REALM]
        if REALM not in self._by_row:
            return []
        return [
            {"before": name, "after": REALM}
            | {metric: self._lead(name, metric) for metric in LEADS}
            for name in others
        ]

    def _lead(self, other: str, metric: str) -> dict[str, Any]:
        paired = {file: self._paired(file, other, metric) for file in self.files}
        groups = {file: [scores] for file, scores in paired.items()}
        groups[AVERAGE] = [paired[file] for file in self._averaged_over]
        return {
            file: paired_bootstrap_of_average(scores).rounded(100)
            for file, scores in groups.items()
        }

    def _paired(self, file: str, other: str, metric: str) -> PairedScores:
        first, second = (self._mean_scores(name, file, metric) for name in (REALM, other))
        return PairedScores(first, second, self._clusters[file])

    def _mean_scores(self, row: str, file: str, metric: str) -> list[float]:
        """By question, the mean over the seeds of a row; REALM's are asked for again and again."""
        key = row, file, metric
        if key not in self._scores:
            scores = [result.scores(file, metric) for result in self._by_row[row]]
            self._scores[key] = np.mean(scores, axis=0).tolist()
        return self._scores[key]

    def _curves(self) -> dict[str, list[tuple[int, float]]]:
        """Figure 4: retrieval utility over steps by what is hidden, as a mean over seeds."""
        curves = {}
        for results in self._by_row.values():
            if results[0].row.masks:
                by_step: dict[int, list[float]] = {}
                for result in results:
                    for step, value in result.utility():
                        by_step.setdefault(step, []).append(value)
                points = [(step, round(float(np.mean(v)), 4)) for step, v in by_step.items()]
                curves[results[0].row.masks] = sorted(points)
        return curves


def _measured_on(report: Mapping[str, Any] | None) -> str | None:
    """The fingerprint of the questions that a report is about, where the metrics are today's."""
    if report is None or report["metric_version"] != METRIC_VERSION:
        return None
    data: str = report["fingerprints"]["data"]
    return data


def _metrics(
    systems: Mapping[str, Any], open_qa: Mapping[str, Any], before: str, after: str
) -> dict[str, float | None]:
    return {
        "exact_match": open_qa["exact_match"],
        "f1": open_qa["f1"],
        "recall_before": systems[before]["recall"][_DEPTH],
        "recall_after": systems[after]["recall"][_DEPTH],
        "gold_share_before": systems[before]["gold_share"],
        "gold_share_after": systems[after]["gold_share"],
    }


def _over_seeds(values: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [value for value in values if value is not None]
    return mean_with_interval(known).rounded() if known else None
