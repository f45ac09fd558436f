"""How is an embedder taught by questions alone (Karpukhin et al. 2020)?

Each training question finds its own passage among those of the batch and their hard negatives:
passages that BM25 ranks high although they hold no answer. It is what a retriever that was
pre-trained without any question is compared with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.question import Question
from realm.index.encode import pack_passage
from realm.index.trunk_vectors import TrunkVectors
from realm.models.checkpoint import Model
from realm.models.embedder import embed, pool
from realm.models.marginal import in_batch_softmax
from realm.openqa.labels import holds_answer
from realm.openqa.objective import embed_questions
from realm.pretraining.warm_start import InverseClozeSettings
from realm.retrieval.candidates import NULL_ROW
from realm.retrieval.lexical import WordSearch
from realm.training.distributed import join_group

_AT_ONCE = 64


class QuestionPairSettings(Settings):
    """Where the passages of a question come from."""

    depth: int = Field(default=100, ge=2)
    """How far down BM25's ranking they are looked for."""


class QuestionPair(NamedTuple):
    """A question, the row of a passage that answers it, and that of one which only looks so."""

    question: Question
    positive: int
    negative: int


def mine_question_pairs(
    store: PassageStore,
    lexical: WordSearch,
    questions: Sequence[Question],
    settings: QuestionPairSettings,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[QuestionPair]:
    """Find both passages of each question; one that BM25 finds no answer to is left out.

    Each is the best of its kind. The document that a question may name is not looked at: like the
    other rows of a table, this learns from questions and answers alone. Where all passages hold an
    answer the null passage is the negative.

    Raises:
        SourceError: no question has a passage that answers it.
    """
    pairs: list[QuestionPair] = []
    for begin in range(0, len(questions), _AT_ONCE):
        batch = questions[begin : begin + _AT_ONCE]
        found, _ = lexical.search([question.question for question in batch], settings.depth)
        for question, rows in zip(batch, found.tolist(), strict=True):
            pair = _pair(store, question, [row for row in rows if row >= 0])
            if pair is not None:
                pairs.append(pair)
        if on_progress is not None:
            on_progress(begin + len(batch))
    if not pairs:
        raise SourceError(
            "no passage that BM25 finds holds an answer to any training question: give questions "
            "that the documents answer"
        )
    return pairs


class QuestionPairObjective:
    """In-batch softmax: each question finds its passage among all others and hard negatives."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        pairs: Sequence[QuestionPair],
        settings: InverseClozeSettings,
        *,
        seed: int,
        vectors: TrunkVectors | None = None,
    ) -> None:
        """Train what the inverse cloze task would train, in batches of its size.

        `vectors` are those of a trunk at rest, which then does not run over passages.
        """
        self.model, self.settings = model, settings
        self._store, self._pairs = store, pairs
        self._seed, self._group, self._vectors = seed, join_group(), vectors
        model.embedder.train_only(settings.trains)

    def trainable(self) -> nn.Module:
        """The embedder alone."""
        return nn.ModuleDict({"embedder": self.model.embedder})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the batch of a step, and the share of questions that found theirs."""
        group, budget = self._group, self.settings.token_budget
        size = min(self.settings.batch_size, len(self._pairs))
        chosen = group.batch_at(len(self._pairs), size, step=step, seed=self._seed)
        pairs = [self._pairs[i] for i in chosen]
        texts = [pair.question.question for pair in pairs]
        questions = embed_questions(self.model, texts, token_budget=budget)
        positives = group.gather(self._embed([pair.positive for pair in pairs], questions))
        negatives = group.gather(self._embed([pair.negative for pair in pairs], questions))
        scores, first = questions @ torch.cat((positives, negatives)).T, group.rank * len(pairs)
        loss, accuracy = in_batch_softmax(scores, first)
        return loss, {"accuracy": float(accuracy)}

    def _embed(self, rows: Sequence[int], like: Tensor) -> Tensor:
        packer, tower = self.model.packer, self.model.embedder.passage_tower
        if self._vectors is None:
            packed = [pack_passage(self._store, packer, row) for row in rows]
            return embed(tower, packed, packer, token_budget=self.settings.token_budget)
        chosen = torch.tensor(rows)
        kept = self._vectors.vectors[chosen.clamp(min=0)].to(like)
        if NULL_ROW in rows:
            null = pool(tower, [pack_passage(self._store, packer, NULL_ROW)], packer)
            kept[chosen.to(like.device) == NULL_ROW] = null.to(kept)
        return tower.project(kept)


def _pair(store: PassageStore, question: Question, rows: Sequence[int]) -> QuestionPair | None:
    answering = [row for row in rows if holds_answer(store, row, question)]
    if not answering:
        return None
    others = (row for row in rows if row not in answering)
    return QuestionPair(question, answering[0], next(others, NULL_ROW))
