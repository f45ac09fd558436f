"""What does fine-tuning minimise (REALM, section 3.3; Lee et al. 2019)?

Over the top passages of the frozen index, two marginal likelihoods: that the retriever ranks a
passage that holds an answer, and that the reader points at an occurrence of one,

    log sum over (z, s) of an answer  exp(reader(s, z) + f(q, z))  -  log sum over all (z, s)

The query side moves, the passages stay put. The null passage may be one more outcome: the right
one where no passage that was read holds an answer, so that the system can say "I do not know".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.examples.packing import Packed
from realm.examples.question import Question
from realm.examples.wordpieces import wordpieces
from realm.index.encode import pack_joint
from realm.index.snapshot import IndexSettings, Snapshot
from realm.models.checkpoint import Model
from realm.models.embedder import embed
from realm.models.marginal import positive_log_likelihood
from realm.models.reader import read, span_scores
from realm.openqa.labels import (
    AnswerRule,
    answer_token_spans,
    answer_wordpiece_spans,
    holds_answer,
    holds_raw_answer,
    holds_wordpieces,
)
from realm.retrieval.candidates import NULL_ROW
from realm.retrieval.retriever import Ranker, Retriever
from realm.training.distributed import join_group

_HOLDS = {
    "normalised": holds_answer,
    "raw": holds_raw_answer,
    "wordpieces": holds_wordpieces,
}
_SPANS_OF = {"normalised": answer_token_spans, "wordpieces": answer_wordpiece_spans}


class OpenQaSettings(Settings):
    """The batch of a fine-tuning step, and what is read."""

    batch_size: int = Field(default=8, ge=1)
    retriever_passages: int = Field(default=100, ge=1)
    """Best passages over which the retriever's loss runs (5000 in the paper)."""
    reader_passages: int = Field(default=5, ge=1)
    """Best passages that are read in a training step."""
    reader_evidence: Literal["retrieved", "ensured"] = "retrieved"
    """`ensured`: where none of these holds an answer, the last gives way to the best of the
    retriever's passages that does, so that few questions go by without a span to learn from."""
    retriever_positives: Literal["normalised", "raw", "wordpieces"] = "normalised"
    """When a passage holds an answer: its words as the metric compares them, in text or title; or,
    as released, its very letters in the text; or, as in transformers' port, its wordpieces."""
    reader_positives: Literal["normalised", "wordpieces"] = "normalised"
    """Where an answer stands: its words as the metric compares them; or, as released, its
    wordpieces."""
    null_passage: bool = True
    """Whether "no answer here" is an outcome."""
    selection_depth: int = Field(default=20, ge=1)
    """A question is learned from if an answer stands in one of that many best passages. Further
    down, more answers stand by chance in passages about something else."""
    unanswered_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Largest share of training questions of which no retrieved passage holds an answer."""
    retrieval_weight: float = Field(default=1.0, ge=0.0)
    """What a retrieval score counts beside the score of a span. 1 in the paper, whose inner
    products grow as they learn; embeddings of fixed length need more, since theirs cannot. 0 lets
    the reader alone decide, as beside BM25."""
    token_budget: int = Field(default=4096, ge=1)
    answers: AnswerRule = "summed"
    """How spans become answers."""


@dataclass(frozen=True)
class Reading:
    """What the reader says about the passages of a batch of questions.

    `joint` adds the retrieval scores, which count by their weight, to the span scores; the last
    outcome is the null passage. It is -inf where it is switched off, and so is its retrieval score.
    """

    rows: Int[Tensor, "batch passages"]
    retrieval_scores: Float[Tensor, "batch passages"]
    null_retrieval_scores: Float[Tensor, " batch"]
    spans: Float[Tensor, "batch passages body widths"]
    joint: Float[Tensor, "batch outcomes"]

    def beliefs(self, number: int) -> Float[Tensor, " candidates"]:
        """p(z|x) of the candidates of one question, as they enter `joint`; the null passage last.

        Where there is no candidate at all, nothing is believed in.
        """
        null = self.null_retrieval_scores[[number]]
        return torch.cat((self.retrieval_scores[number], null)).softmax(dim=-1).nan_to_num()


def embed_questions(
    model: Model, questions: Sequence[str], *, token_budget: int | None = None
) -> Float[Tensor, "batch dim"]:
    """Embeddings of questions by the query side."""
    packed = [model.packer.query(wordpieces(model.tokenizer, text)) for text in questions]
    return embed(model.embedder.query_tower, packed, model.packer, token_budget=token_budget)


def retrieval_scores(
    snapshot: Snapshot, vectors: Float[Tensor, "batch dim"], rows: Int[Tensor, "batch passages"]
) -> Float[Tensor, "batch passages"]:
    """Inner products f(x,z); -inf for a row of -1, a passage that does not exist.

    A corpus may be smaller than the beam, and an approximate index may find fewer passages than it
    was asked for.
    """
    embeddings = snapshot.embeddings_of(rows).to(vectors.device)
    scores = torch.einsum("bd,bcd->bc", vectors, embeddings)
    return scores.masked_fill((rows == NULL_ROW).to(scores.device), -torch.inf)


def read_passages(
    model: Model,
    store: PassageStore,
    snapshot: Snapshot,
    questions: Sequence[str],
    vectors: Float[Tensor, "batch dim"],
    rows: Int[Tensor, "batch passages"],
    settings: OpenQaSettings,
) -> Reading:
    """Read each question with its passages; training and answering share this function."""
    scores = _weighted(retrieval_scores(snapshot, vectors, rows), settings)
    joints: list[Packed] = []
    for question, chosen in zip(questions, rows.tolist(), strict=True):
        query = wordpieces(model.tokenizer, question)
        to_read = [*chosen, NULL_ROW] if settings.null_passage else chosen
        joints += [pack_joint(store, model.packer, query, row) for row in to_read]
    groups = read(model.reader, joints, packer=model.packer, token_budget=settings.token_budget)
    flat, silence = span_scores(model.reader, groups)
    batch, passages = rows.shape
    spans = flat.unflatten(0, (batch, -1))[:, :passages]
    if settings.null_passage:
        null_scores = _weighted(vectors @ snapshot.null_embedding.to(vectors.device), settings)
        null = silence.unflatten(0, (batch, -1))[:, -1] + null_scores
    else:
        null = null_scores = vectors.new_full((batch,), -torch.inf)
    joint = (spans + scores[:, :, None, None]).flatten(1)
    return Reading(rows, scores, null_scores, spans, torch.cat((joint, null[:, None]), dim=1))


def _weighted(scores: Tensor, settings: OpenQaSettings) -> Tensor:
    """Scores by their weight; what is not there stays so, also where scores count for nothing."""
    return torch.where(scores.isfinite(), settings.retrieval_weight * scores, scores)


def choose_reading(
    rows: Int[Tensor, "batch retrieved"],
    is_positive: Bool[Tensor, "batch retrieved"],
    settings: OpenQaSettings,
) -> Int[Tensor, "batch passages"]:
    """Which of the retrieved passages, best first, are read in a training step."""
    best = rows[:, : settings.reader_passages].clone()
    if settings.reader_evidence == "ensured":
        first = is_positive.int().argmax(dim=1)  # the first of equals
        is_missing = is_positive.any(dim=1) & (first >= best.shape[1])
        best[is_missing, -1] = rows[is_missing, first[is_missing]]
    return best


class OpenQaObjective:
    """Retriever and reader loss of questions with known answers."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        snapshot: Snapshot,
        questions: Sequence[Question],
        settings: OpenQaSettings,
        *,
        seed: int,
        retriever: Ranker | None = None,
    ) -> None:
        """Learn from what `retriever` finds; by default the snapshot is searched exactly."""
        self.model, self.settings = model, settings
        self._store, self._snapshot = store, snapshot
        self._questions, self._seed, self._group = list(questions), seed, join_group()
        self._retriever = retriever or Retriever(snapshot.index(IndexSettings()))
        self._holds = _HOLDS[settings.retriever_positives]
        self._spans_of = _SPANS_OF[settings.reader_positives]

    def trainable(self) -> nn.Module:
        """The query tower and the reader; the passages' tower is frozen with the index."""
        embedder = nn.ModuleDict({"query_tower": self.model.embedder.query_tower})
        return nn.ModuleDict({"embedder": embedder, "reader": self.model.reader})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Sum of the two losses of a step's batch, and how often the top passages hold answers."""
        settings, size = self.settings, self.settings.batch_size
        chosen = self._group.batch_at(len(self._questions), size, step=step, seed=self._seed)
        questions = [self._questions[i] for i in chosen]
        texts = [question.question for question in questions]
        vectors = embed_questions(self.model, texts, token_budget=settings.token_budget)
        rows = self._retriever.search(texts, vectors, settings.retriever_passages)
        retriever, is_positive = self._retriever_loss(vectors, questions, rows)
        to_read = choose_reading(rows, is_positive.cpu(), settings)
        reader, is_read = self._reader_loss(vectors, questions, to_read)
        scalars = {
            "retriever_loss": float(retriever.detach()),
            "reader_loss": float(reader.detach()),
            "answer_in_top_5": float(is_positive[:, :5].any(dim=-1).float().mean()),
            "answer_in_beam": float(is_positive.any(dim=-1).float().mean()),
            "read_correctly": is_read,
        }
        return retriever + reader, scalars

    def _retriever_loss(
        self, vectors: Tensor, questions: Sequence[Question], rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        scores = retrieval_scores(self._snapshot, vectors, rows)
        is_positive = self._positives(rows, questions).to(scores.device)
        return -positive_log_likelihood(scores, is_positive).mean(), is_positive

    def _reader_loss(
        self, vectors: Tensor, questions: Sequence[Question], rows: Tensor
    ) -> tuple[Tensor, float]:
        texts = [question.question for question in questions]
        reading = read_passages(
            self.model, self._store, self._snapshot, texts, vectors, rows, self.settings
        )
        gold = self._gold(reading, questions)
        log_likelihood = positive_log_likelihood(reading.joint, gold)
        predicted = reading.joint.detach().argmax(dim=-1, keepdim=True)
        read_correctly = gold.gather(-1, predicted).float().mean()
        return -log_likelihood.mean(), float(read_correctly)

    def _gold(self, reading: Reading, questions: Sequence[Question]) -> Tensor:
        gold = torch.zeros_like(reading.spans, dtype=torch.bool)
        longest = reading.spans.shape[-2]
        for number, question in enumerate(questions):
            for place, row in enumerate(reading.rows[number].tolist()):
                for first, last in self._spans_of(
                    self._store, row, question, max_answer_tokens=gold.shape[-1]
                ):
                    if last < longest:
                        gold[number, place, first, last - first] = True
        # Occurrences in what was cut off a long passage cannot be pointed at.
        gold &= reading.spans.isfinite()
        spans = gold.flatten(1)
        null = self._is_unanswered(reading.rows, questions).to(gold.device)
        null &= ~spans.any(dim=1)  # the two may look for answers in different ways
        return torch.cat((spans, (null & self.settings.null_passage)[:, None]), dim=1)

    def _is_unanswered(
        self, rows: Int[Tensor, "batch passages"], questions: Sequence[Question]
    ) -> Bool[Tensor, " batch"]:
        """Whether none of the passages holds an answer, be it one that cannot be pointed at."""
        return ~self._positives(rows, questions).any(dim=-1)

    def _positives(
        self, rows: Int[Tensor, "batch passages"], questions: Sequence[Question]
    ) -> Bool[Tensor, "batch passages"]:
        return torch.tensor(
            [
                [self._holds(self._store, row, question) for row in best]
                for question, best in zip(questions, rows.tolist(), strict=True)
            ]
        )
