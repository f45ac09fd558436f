"""What exactly do programs get as the answer to a question, whichever way they ask?

The command line with `--json`, the HTTP service and the tools for agents print what is made here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from realm.artifact import read_manifest
from realm.evaluation.open_qa import abstains
from realm.living.view import View
from realm.openqa.answerer import Answered, Answerer
from realm.openqa.explanation import ReadCandidate
from realm.stages import Run

Json = dict[str, Any]


@dataclass(frozen=True)
class Versions:
    """Which model and which snapshot answer: names that change with the weights."""

    model: str
    snapshot: str


@dataclass(frozen=True)
class Asked:
    """One question; below `min_probability` its first answer is not worth giving."""

    question: str
    top_k: int = 5
    min_probability: float = 0.0


@dataclass(frozen=True)
class Manner:
    """What questions of one batch have in common.

    `num_passages` None reads as many as the run says.
    """

    num_passages: int | None = None
    candidates: bool = False


def versions_of(run: Run, name: str = "") -> Versions:
    """Names of a checkpoint of a run, by default the furthest, and of the snapshot it searches."""
    name = name or run.newest_checkpoint()
    checkpoint = read_manifest(run.checkpoint(name)).fingerprint
    return Versions(f"{name}:{checkpoint}", run.snapshot(name).manifest.fingerprint)


def answer_results(
    view: View, versions: Versions, asked: Sequence[Asked], manner: Manner | None = None
) -> list[Json]:
    """Answer questions together, on one view of the corpus, in plain values."""
    manner = manner or Manner()
    answerer = view.answerer
    if manner.num_passages is not None:
        answerer = answerer.with_passages(manner.num_passages)
    questions = [one.question for one in asked]
    top_k = max((one.top_k for one in asked), default=1)
    answered: list[tuple[Answered, Sequence[ReadCandidate] | None]]
    if manner.candidates:
        answered = [(e.answered, e.candidates) for e in answerer.explain(questions, top_k=top_k)]
    else:
        answered = [(one, None) for one in answerer.answer(questions, top_k=top_k)]
    return [
        {
            **_answered(found, one),
            **asdict(versions),
            "corpus_version": view.version,
            **({} if candidates is None else {"candidates": [c.as_dict() for c in candidates]}),
        }
        for one, (found, candidates) in zip(asked, answered, strict=True)
    ]


def _answered(answered: Answered, asked: Asked) -> Json:
    """An abstaining system gives its answers as well: they are what comes nearest."""
    values = answered.as_dict()
    answers = answered.answers
    is_weak = not answers or answers[0].probability < asked.min_probability
    values["answers"] = values["answers"][: asked.top_k]
    return {**values, "abstained": is_weak or abstains(answered)}


def retrieval_results(view: View, queries: Sequence[str], k: int) -> list[Json]:
    """The best passages of each query, with their place in the document (characters)."""
    answerer = view.answerer
    found = answerer.search(queries, k)
    results = []
    for query, rows, scores in zip(
        queries, found.rows.tolist(), found.scores.tolist(), strict=True
    ):
        ranked = [(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0]
        passages = [_passage(answerer, row, score) for row, score in ranked]
        results.append({"query": query, "passages": passages})
    return results


def _passage(answerer: Answerer, row: int, score: float) -> Json:
    passage = answerer.store.passage(row)
    return {
        "passage_id": passage.passage_id,
        "document_id": passage.document_id,
        "title": passage.title,
        "text": passage.text,
        "score": score,
        "start": passage.source_start,
        "end": passage.source_end,
    }
