"""What is the answer to a question, and where does it stand?

The one object that answers: command line, evaluation and server all call it. A question's
answers are the spans that the reader points at, summed over passages where the same words
stand in several, ranked by probability, each with the passage that supports it best.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from realm.artifact import read_manifest
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index.exact import Found
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model, load_model
from realm.models.embedder import evaluating
from realm.models.precision import ComputeSettings
from realm.openqa.explanation import ReadCandidate, explain
from realm.openqa.objective import (
    OpenQaSettings,
    Reading,
    embed_questions,
    read_passages,
    retrieval_scores,
)
from realm.openqa.pointing import PointedSpan, likeliest_spans
from realm.retrieval.retriever import Ranker

QUESTIONS_AT_ONCE = 16  # read together; they are looked up all at once


@dataclass(frozen=True)
class EvidencePassage:
    """A passage that was read, and where in it the answer stands (characters of its text).

    `retrieval_probability` is p(z|x) over all that were read, the null passage among them.
    """

    passage_id: int
    title: str
    text: str
    answer_start: int
    answer_end: int
    retrieval_probability: float


@dataclass(frozen=True)
class Answer:
    """One answer; `start` and `end` are character offsets in the user's document."""

    text: str
    probability: float
    document_id: str
    start: int
    end: int
    passage: EvidencePassage


@dataclass(frozen=True)
class Answered:
    """All answers to one question, best first, and the probability that there is none."""

    question: str
    answers: tuple[Answer, ...]
    null_probability: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in the form that programs are promised."""
        answers = [asdict(answer) for answer in self.answers]
        return {
            "question": self.question,
            "answers": answers,
            "null_probability": self.null_probability,
        }


@dataclass(frozen=True)
class Explained:
    """All answers to one question, and what every candidate makes of the first of them."""

    answered: Answered
    candidates: tuple[ReadCandidate, ...]


class Answerer:
    """Answers questions from one corpus with one model and one snapshot."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        snapshot: Snapshot,
        retriever: Ranker,
        settings: OpenQaSettings,
    ) -> None:
        self.model, self.store, self.snapshot = model, store, snapshot
        self.retriever, self.settings = retriever, settings

    def with_passages(self, num_passages: int) -> Self:
        """The same answerer, reading another number of passages for each question."""
        other = copy(self)
        other.settings = self.settings.model_copy(update={"reader_passages": num_passages})
        return other

    def answer(self, questions: Sequence[str], *, top_k: int = 5) -> list[Answered]:
        """Answer questions in their order, each with at most `top_k` answers."""
        return [
            self._rank(question, number, reading, top_k)
            for question, number, reading in self._read(questions)
        ]

    def explain(self, questions: Sequence[str], *, top_k: int = 5) -> list[Explained]:
        """As `answer`, and what each passage that was read makes of the first answer."""
        results = []
        for question, number, reading in self._read(questions):
            answered = self._rank(question, number, reading, top_k)
            first = answered.answers[0].text if answered.answers else ""
            candidates = explain(self.store, reading, number, first, self.settings.answers)
            results.append(Explained(answered, candidates))
        return results

    def retrieve(self, questions: Sequence[str], k: int) -> Tensor:
        """Rows of the best passages of each question, best first."""
        return self.search(questions, k).rows

    def search(self, questions: Sequence[str], k: int) -> Found:
        """The best passages of each question; rows are -1 where there are fewer than `k`.

        Scores are inner products: where BM25 takes part in the ranking they need not descend.
        """
        if not questions:
            return Found(torch.empty(0, k), torch.empty(0, k, dtype=torch.long))
        with evaluating(self.model.embedder):
            vectors = embed_questions(self.model, questions)
            rows = self.retriever.search(questions, vectors, k)
            return Found(retrieval_scores(self.snapshot, vectors, rows).cpu(), rows)

    def _read(self, questions: Sequence[str]) -> Iterator[tuple[str, int, Reading]]:
        """Every question, with its place in the batch that it was read in."""
        model, settings = self.model, self.settings
        if not questions:
            return
        # One search for all of them: each pass over the index takes about as long.
        with evaluating(model.embedder):
            vectors = embed_questions(model, questions)
            rows = self.retriever.search(questions, vectors, settings.reader_passages)
        for begin in range(0, len(questions), QUESTIONS_AT_ONCE):
            batch = slice(begin, begin + QUESTIONS_AT_ONCE)
            with evaluating(model.reader):
                reading = read_passages(
                    model, self.store, self.snapshot,
                    questions[batch], vectors[batch], rows[batch], settings,
                )  # fmt: skip
            yield from (
                (question, number, reading) for number, question in enumerate(questions[batch])
            )

    def _rank(self, question: str, number: int, reading: Reading, top_k: int) -> Answered:
        if not reading.joint[number].isfinite().any():  # an empty corpus, and no null passage
            return Answered(question, (), 1.0)
        probabilities = reading.joint[number].softmax(dim=-1)
        is_single = self.settings.answers == "single_span"
        best: dict[str, PointedSpan] = {}
        totals: dict[str, float] = {}
        spans = probabilities[:-1].view(reading.spans.shape[1:])
        for span in likeliest_spans(self.store, reading.rows[number].tolist(), spans):
            if key := span.key(self.settings.answers):
                best.setdefault(key, span)
                added = 0.0 if is_single and key in totals else span.probability
                totals[key] = totals.get(key, 0.0) + added
        beliefs = reading.beliefs(number)
        ranked = sorted(best, key=lambda key: -totals[key])[:top_k]
        chosen = (self._answer(best[key], totals[key], beliefs) for key in ranked)
        return Answered(question, tuple(chosen), float(probabilities[-1]))

    def _answer(self, span: PointedSpan, probability: float, beliefs: Tensor) -> Answer:
        passage = self.store.passage(span.row)
        source_start, source_end = self.store.source_span(span.row, span.start, span.end)
        evidence = EvidencePassage(
            passage.passage_id, passage.title, passage.text, span.start, span.end,
            float(beliefs[span.place]),
        )  # fmt: skip
        return Answer(
            span.text, probability, passage.document_id, source_start, source_end, evidence
        )


def open_answerer(
    checkpoint: Path,
    store: PassageStore,
    snapshot: Snapshot,
    *,
    settings: OpenQaSettings,
    retriever: Ranker,
    compute: ComputeSettings | None = None,
) -> Answerer:
    """Load a fine-tuned model beside the snapshot that it was fine-tuned with."""
    made_with = read_manifest(checkpoint).inputs.get("snapshot")
    if made_with is not None and made_with != snapshot.manifest.fingerprint:
        raise ArtifactError(
            f"{checkpoint} was fine-tuned with another snapshot than {snapshot.path}: "
            "run `realm finetune` again"
        )
    model = load_model(checkpoint)
    model.compute_with(model.choose_compute(compute or ComputeSettings(), "forward"))
    model.modules().eval()  # once, and not for each question
    return Answerer(model, store, snapshot, retriever, settings)
