"""How is a run measured on a file of questions?

Glue between the stages of a run and the measures of `evaluation`: rankings of BM25 and of the
run's checkpoints on the one hand, answers on the other, each report with the fingerprints of
what it was made from. A report whose fingerprints still hold is not made again.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realm.artifact import checksum_of, fingerprint_of, read_manifest, write_atomically
from realm.errors import SettingError, SourceError
from realm.evaluation.comparison import FixedRanking, compare
from realm.evaluation.metrics import METRIC_VERSION
from realm.evaluation.open_qa import Prediction, predict, summarise, write_predictions
from realm.evaluation.retrieval import Search, hits, rank_in_batches, recall_by_k
from realm.examples.question import Question, read_questions
from realm.experiment import Experiment, expand
from realm.openqa.answerer import Answerer
from realm.progress import Progress
from realm.retrieval.lexical import reciprocal_rank_fusion
from realm.retrieval.retriever import Retriever
from realm.run_folder import CHECKPOINTS, RunFolder
from realm.stages import Run
from realm.stopwatch import measured

BM25 = "bm25"
DEPTH = 100  # passages of each ranking that are judged where nothing else is said
_COMPARED = (("start", "warm-start"), ("warm-start", "pretrain"), ("start", "pretrain"))


def evaluate(run: Run, files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Measure every checkpoint that the run has on every file; keep the reports in the run.

    Reports are returned under `retrieval:FILE` and `open-qa:FILE`.
    """
    names = check_question_files(files)
    folder, models = run.path / "evaluation", run.finished_checkpoints()
    furthest = models[-1]
    reports: dict[str, dict[str, Any]] = {}
    for name, file in zip(names, files, strict=True):
        expected = fingerprints(run, furthest, file)
        reports[f"retrieval:{name}"] = _kept(
            folder / f"retrieval-{name}.json",
            expected,
            partial(retrieval_report, run, file, models),
        )
        if furthest == "finetune":
            predictions = folder / f"predictions-{name}.jsonl"
            reports[f"open-qa:{name}"] = _kept(
                folder / f"open-qa-{name}.json",
                expected,
                partial(open_qa_report, run, file, furthest, predictions=predictions),
            )
    return reports


def retrieval_report(
    run: Run, file: str, models: Sequence[str], *, depth: int = DEPTH
) -> dict[str, Any]:
    """Recall of BM25, of each model, and of the last one joined with BM25 by reciprocal rank.

    Where the run answers with both, so is the one that fine-tuning begins with.
    """
    questions = questions_of(file)
    for model in models:
        run.snapshot(model)  # a stage of its own, with its own time
    with measured(run.path / "stages.jsonl", "evaluate-retrieval"):
        ranked = {BM25: lexical_ranking(run, questions, depth=depth)}
        ranked |= {model: model_ranking(run, model, questions, depth=depth) for model in models}
        for model in models:
            if model == models[-1] or joined_with_bm25(model) in rankings_used(run):
                both = [ranked[model], ranked[BM25]]
                ranked[joined_with_bm25(model)] = reciprocal_rank_fusion(both, depth)
        pairs = [pair for pair in _COMPARED if set(pair) <= set(models)]
        pairs.append((BM25, models[-1]))
        report = compare(questions, ranked, run.corpus(), pairs=pairs)
    return {
        **report,
        "model": models[-1],
        "recall": report["systems"][models[-1]]["recall"],
        "questions": Path(file).name,
        "fingerprints": fingerprints(run, models[-1], file),
    }


def open_qa_report(
    run: Run, file: str, model: str, *, predictions: Path | None = None, depth: int = DEPTH
) -> dict[str, Any]:
    """Exact match and F1 of a model's answers, and the recall of the passages it chooses from."""
    questions = questions_of(file)
    with measured(run.path / "stages.jsonl", "evaluate-open-qa"):
        answerer = run.answerer(model)
        rows = _rank(
            lambda texts, k: answerer.retrieve(texts, k).numpy(),
            questions,
            "passages retrieved",
            depth,
            run.progress,
        )
        found = hits(questions, rows, run.corpus())
        answered = answer_all(answerer, questions, run.progress)
    if predictions is not None:
        write_predictions(predictions, answered)
    return {
        **summarise(answered),
        "recall": recall_by_k(found),
        "metric_version": METRIC_VERSION,
        "model": model,
        "questions": Path(file).name,
        "fingerprints": fingerprints(run, model, file),
    }


def lexical_ranking(run: Run, questions: Sequence[Question], *, depth: int = DEPTH) -> np.ndarray:
    """The best passages of each question by BM25."""
    lexical = run.lexical()
    return _rank(
        lambda texts, k: lexical.search(texts, k)[0],
        questions,
        "questions to BM25",
        depth,
        run.progress,
    )


def model_ranking(
    run: Run, model: str, questions: Sequence[Question], *, depth: int = DEPTH
) -> np.ndarray:
    """The best passages of each question by a checkpoint's embedder alone."""
    answerer = run.searcher(model)
    answerer.retriever = Retriever(answerer.snapshot.index(run.experiment.index))
    return _rank(
        lambda texts, k: answerer.retrieve(texts, k).numpy(),
        questions,
        f"questions to {model}",
        depth,
        run.progress,
    )


def answer_all(
    answerer: Answerer, questions: Sequence[Question], progress: Progress
) -> list[Prediction]:
    """Answer and judge all questions under a progress bar."""
    with progress("questions answered", len(questions)) as advance:
        return predict(answerer, questions, on_progress=lambda done: advance(done, ""))


def exact_match_beside(
    answerer: Answerer, questions: Sequence[Question], rows: np.ndarray, progress: Progress
) -> float:
    """Exact match, in percent, of a reader that is given another system's passages."""
    own = answerer.retriever
    answerer.retriever = FixedRanking(questions, rows)
    try:
        return float(summarise(answer_all(answerer, questions, progress))["exact_match"])
    finally:
        answerer.retriever = own


def rankings_used(run: RunFolder) -> tuple[str, str]:
    """The names under which a report has the passages that are read, before fine-tuning and after.

    Before it with the retriever that it begins with.
    """
    retrieval = run.experiment.retrieval
    if not retrieval.embedder:
        return BM25, BM25
    before, after = run.resolved(run.experiment.finetune.retriever_from), "finetune"
    if retrieval.lexical:
        return joined_with_bm25(before), joined_with_bm25(after)
    return before, after


def joined_with_bm25(model: str) -> str:
    """The name of a model's ranking joined with that of BM25."""
    return f"{model} + {BM25}"


def check_model(run: Run, model: str) -> str:
    """The named checkpoint, or the furthest one where none is named."""
    if model and model not in CHECKPOINTS:
        raise SettingError(f"--model {model}: choose one of {', '.join(CHECKPOINTS)}")
    return model or run.newest_checkpoint()


def questions_of(file: str) -> list[Question]:
    """Read a question file that a recipe or a person named."""
    return read_questions(Path(expand(file)))


def question_file_name(file: str) -> str:
    """`squad-dev` for `somewhere/squad-dev.jsonl.gz`."""
    return Path(file).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def check_all_questions(experiment: Experiment) -> None:
    """Read what a recipe learns from and is measured by, before it trains for hours.

    Raises:
        SettingError: two files to measure by have one name.
        SourceError: a file is missing, or holds no questions.
    """
    check_question_files(experiment.dev_questions)
    for file in experiment.train_questions:
        questions_of(file)


def check_question_files(files: Sequence[str]) -> list[str]:
    """The names of question files that can all be read, and told apart.

    Raises:
        SettingError: two of them have one name.
        SourceError: one is missing, or holds no questions.
    """
    names = [question_file_name(file) for file in files]
    if len(set(names)) < len(names):
        raise SettingError(f"two question files have one name ({', '.join(names)}): rename one")
    for file in files:
        questions_of(file)
    return names


def data_fingerprint(file: str) -> str:
    """Of what a question file holds.

    Raises:
        SourceError: there is no such file.
    """
    try:
        return checksum_of(Path(expand(file)))[:16]
    except OSError as error:
        raise SourceError(f"there is no question file {file}: check the path") from error


def fingerprints(run: Run, model: str, file: str) -> dict[str, str]:
    """What a report depends on: data, corpus, checkpoint, snapshot and how answers are made."""
    settings = run.experiment
    used = [settings.finetune.objective, settings.index, settings.retrieval]
    return {
        "data": data_fingerprint(file),
        "corpus": run.corpus().fingerprint,
        "checkpoint": read_manifest(run.checkpoint(model)).fingerprint,
        "snapshot": run.snapshot(model).manifest.fingerprint,
        "settings": fingerprint_of(
            [*(group.model_dump(mode="json") for group in used), settings.precision]
        ),
    }


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a report."""
    write_atomically(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _rank(
    search: Search, questions: Sequence[Question], title: str, depth: int, progress: Progress
) -> np.ndarray:
    with progress(title, len(questions)) as advance:
        return rank_in_batches(search, questions, depth, on_progress=lambda done: advance(done, ""))


def _kept(
    path: Path, expected: dict[str, str], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The report at `path` where it was made from the same things, else a new one."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    if (report.get("fingerprints"), report.get("metric_version")) != (expected, METRIC_VERSION):
        report = make()
        write_json(path, report)
    return report
