"""What is the answer to a question, and where does it stand?

The one object that answers: command line, evaluation and server all call it. A question's
answers are the spans that the reader points at, summed over passages where the same words
stand in several, ranked by probability, each with the passage that supports it best.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from realm.artifact import read_manifest
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index.snapshot import IndexSettings, Snapshot
from realm.models.checkpoint import Model, load_model
from realm.models.embedder import evaluating
from realm.models.precision import ComputeSettings
from realm.openqa.labels import normalise_answer
from realm.openqa.objective import (
    OpenQaSettings,
    Reading,
    embed_questions,
    question_ids,
    read_passages,
)
from realm.retrieval.lexical import LexicalIndex
from realm.retrieval.retriever import Retriever

_SPANS_LOOKED_AT = 200  # most probable spans of a question that are grouped into answers
_QUESTIONS_AT_ONCE = 16


class Ranker(Protocol):
    """Chooses the passages that are read: a `Retriever`, or anything that ranks."""

    def search(self, questions: Sequence[str], vectors: Tensor, k: int) -> Tensor:
        """Rows [questions, k] of passages, best first; -1 where there is none."""


@dataclass(frozen=True)
class EvidencePassage:
    """A passage that was read, and where in it the answer stands (characters of its text)."""

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
        answers = []
        for answer in self.answers:
            passage = vars_of(answer.passage)
            answers.append({**vars_of(answer), "passage": passage})
        return {
            "question": self.question,
            "answers": answers,
            "null_probability": self.null_probability,
        }


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

    def answer(self, questions: Sequence[str], *, top_k: int = 5) -> list[Answered]:
        """Answer questions in their order, each with at most `top_k` answers."""
        results: list[Answered] = []
        for begin in range(0, len(questions), _QUESTIONS_AT_ONCE):
            results += self._answer_batch(questions[begin : begin + _QUESTIONS_AT_ONCE], top_k)
        return results

    def retrieve(self, questions: Sequence[str], k: int) -> Tensor:
        """Rows of the best passages of each question, best first."""
        with evaluating(self.model.embedder):
            ids = [question_ids(self.model, question) for question in questions]
            return self.retriever.search(questions, embed_questions(self.model, ids), k)

    def _answer_batch(self, questions: Sequence[str], top_k: int) -> list[Answered]:
        model, settings = self.model, self.settings
        with evaluating(model.embedder), evaluating(model.reader):
            ids = [question_ids(model, question) for question in questions]
            vectors = embed_questions(model, ids)
            rows = self.retriever.search(questions, vectors, settings.reader_passages)
            reading = read_passages(model, self.store, self.snapshot, ids, vectors, rows, settings)
        return [
            self._rank(question, number, reading, top_k)
            for number, question in enumerate(questions)
        ]

    def _rank(self, question: str, number: int, reading: Reading, top_k: int) -> Answered:
        probabilities = reading.joint[number].softmax(dim=-1)
        is_single = self.settings.answers == "single_span"
        best: dict[str, _Span] = {}
        totals: dict[str, float] = {}
        for span in self._likeliest(number, reading, probabilities[:-1]):
            if not is_single and span.splits_word:
                continue
            key = span.text.lower() if is_single else normalise_answer(span.text)
            if key:
                best.setdefault(key, span)
                added = 0.0 if is_single and key in totals else span.probability
                totals[key] = totals.get(key, 0.0) + added
        beliefs = reading.retrieval_scores[number].softmax(dim=-1)
        ranked = sorted(best, key=lambda key: -totals[key])[:top_k]
        chosen = (self._answer(best[key], totals[key], beliefs) for key in ranked)
        return Answered(question, tuple(chosen), float(probabilities[-1]))

    def _likeliest(self, number: int, reading: Reading, spans: Tensor) -> Iterator["_Span"]:
        """The most probable spans of a question, with their characters."""
        _, body, widths = reading.spans[number].shape
        rows = reading.rows[number].tolist()
        read = {row: (self.store.text(row), self.store.token_spans(row)) for row in {*rows} - {-1}}
        best, places = spans.topk(min(_SPANS_LOOKED_AT, len(spans)))
        for probability, place in zip(best.tolist(), places.tolist(), strict=True):
            if probability == 0.0:
                break
            passage, first, offset = np.unravel_index(place, (len(rows), body, widths))
            text, tokens = read[rows[passage]]
            start, end = int(tokens[first][0]), int(tokens[first + offset][1])
            yield _Span(int(passage), rows[passage], text, start, end, probability)

    def _answer(self, span: "_Span", probability: float, beliefs: Tensor) -> Answer:
        passage = self.store.passage(span.row)
        source_start, source_end = self.store.source_span(span.row, span.start, span.end)
        evidence = EvidencePassage(
            passage.passage_id, passage.title, passage.text, span.start, span.end,
            float(beliefs[span.place]),
        )  # fmt: skip
        return Answer(
            span.text, probability, passage.document_id, source_start, source_end, evidence
        )


class _Span(NamedTuple):
    """Characters of a passage that the reader points at; `place` is the passage's rank."""

    place: int
    row: int
    passage: str
    start: int
    end: int
    probability: float

    @property
    def text(self) -> str:
        return self.passage[self.start : self.end]

    @property
    def splits_word(self) -> bool:
        """Whether it begins or ends inside a word: wordpieces do, answers do not."""
        text, start, end = self.passage, self.start, self.end
        begins_inside = start > 0 and text[start - 1 : start + 1].isalnum()
        return begins_inside or (end < len(text) and text[end - 1 : end + 1].isalnum())


def open_answerer(
    checkpoint: Path,
    store: PassageStore,
    snapshot: Snapshot,
    *,
    settings: OpenQaSettings,
    index_settings: IndexSettings,
    lexical: LexicalIndex | None = None,
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
    return Answerer(
        model, store, snapshot, Retriever(snapshot.index(index_settings), lexical), settings
    )


def vars_of(record: Any) -> dict[str, Any]:
    """The fields of a frozen record, one level deep."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
