"""What must both halves know before they can teach each other (REALM, section 3.4)?

The retriever starts from the inverse cloze task: which passage was this sentence taken from?
The reader starts by reading: a masked sentence beside another passage that holds what is
hidden. A reader that cannot use a passage yet gives the retriever no signal; the paper's reader
started from BERT, and a trunk without a trained masked language model has to be taught.
"""

from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.held_out import split_rows
from realm.examples.inverse_cloze import (
    InverseClozePair,
    inverse_cloze_pair,
    random_sentence,
    rows_for_inverse_cloze,
)
from realm.examples.packing import Packed
from realm.examples.stream import batch_at, generator_at
from realm.index.trunk_vectors import TrunkVectors
from realm.models.checkpoint import Model
from realm.models.embedder import Tower, TrainedPart, evaluating, pool
from realm.models.marginal import divergence_from_teacher, in_batch_softmax
from realm.training.distributed import join_group

_SHARPNESS = 2.0
"""Rankings are compared at twice the scale of the scores: what comes first matters most."""
TEACHER_SENTENCES = 16384
"""The trunk reads so many sentences once, from which the teacher's queries are drawn; and so many
passages say in which directions the corpus lies."""


class InverseClozeSettings(Settings):
    """The batch of the inverse cloze task."""

    batch_size: int = Field(default=64, ge=1)
    """Pairs of each process; the negatives are the passages of all of them."""
    removal_rate: float = Field(default=0.9, ge=0.0, le=1.0)
    """How often the sentence is removed from its passage."""
    corpus_passages: int = Field(default=0, ge=0)
    """Passages from all over the corpus that each sentence's own competes with beside those of the
    batch; needs a trunk at rest, whose vectors are kept. Among 64 passages hardly any competes."""
    trains: TrainedPart = "all"
    """100 steps of inverse cloze through MiniLM's trunk cost 2 points of recall@5: there
    `projection` is the better choice."""
    teacher_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the loss that asks the projection to rank as the trunk's own, half whitened vectors
    do; needs a trunk at rest."""
    teacher_queries: int = Field(default=512, ge=1)
    teacher_passages: int = Field(default=8192, ge=2)
    """Sentences that rank, and passages that are ranked, at each step for the teacher's share."""
    token_budget: int = Field(default=4096, ge=1)

    @model_validator(mode="after")
    def _what_needs_a_trunk_at_rest_has_it(self) -> Self:
        if self.trains == "projection":
            return self
        if self.teacher_share:
            raise ValueError('teacher_share needs trains = "projection": a teacher stays as it is')
        if self.corpus_passages:
            raise ValueError('corpus_passages needs trains = "projection": their vectors are kept')
        return self


class InverseClozeObjective:
    """In-batch softmax: each sentence finds its own passage among those of all processes.

    Given the trunk's vectors of the whole corpus, the sentences also rank a sample of it, and
    the projection learns to rank as the whole trunk does.
    """

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        settings: InverseClozeSettings,
        *,
        seed: int,
        vectors: TrunkVectors | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self._store, self._seed, self._group = store, seed, join_group()
        self._vectors = vectors
        self._rows, _ = split_rows(rows_for_inverse_cloze(store), store)
        self._batch_size = min(settings.batch_size, len(self._rows))  # of each process
        self._hashes = store.content_hashes()
        model.embedder.train_only(settings.trains)

    def trainable(self) -> nn.Module:
        """The embedder alone."""
        return nn.ModuleDict({"embedder": self.model.embedder})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the batch of a step, and the share of sentences that found home."""
        settings, embedder = self.settings, self.model.embedder
        size, first = self._batch_size, self._group.rank * self._batch_size
        of_all = self._rows_at(step)
        rows = of_all[first : first + size]
        pairs = self._pairs(rows, step)
        query_vectors = self._pool(embedder.query_tower, [pair.query for pair in pairs])
        passage_vectors = self._passage_vectors(pairs, rows).to(query_vectors)
        queries = embedder.query_tower.project(query_vectors)
        passages = self._group.gather(embedder.passage_tower.project(passage_vectors))
        # No rival is a copy of the right one, or itself again where an epoch ends in the batch.
        is_again = self._are_same(rows, of_all)
        is_again[torch.arange(size), first + torch.arange(size)] = False
        scores = (queries @ passages.T).masked_fill(is_again.to(queries.device), -torch.inf)
        if settings.corpus_passages:
            scores = torch.cat([scores, self._against_corpus(queries, rows, step)], dim=1)
        loss, accuracy = in_batch_softmax(scores, first)
        scalars = {"cloze_loss": float(loss.detach()), "accuracy": float(accuracy)}
        if settings.teacher_share:
            divergence = self._divergence(step)
            scalars["divergence"] = float(divergence.detach())
            loss = (1 - settings.teacher_share) * loss + settings.teacher_share * divergence
        return loss, scalars

    def _against_corpus(
        self, queries: Float[Tensor, "batch dim"], rows: np.ndarray, step: int
    ) -> Float[Tensor, "batch passages"]:
        """Scores of a sample of the corpus, -inf for a sentence's own passage."""
        draw = np.random.default_rng((self._seed, step, 53 + self._group.rank))
        vectors = self._kept_vectors()
        sample = _sample(draw, len(vectors), self.settings.corpus_passages)
        projected = self.model.embedder.passage_tower.project(vectors[sample].to(queries))
        is_own = self._are_same(rows, sample.numpy())
        return (queries @ projected.T).masked_fill(is_own.to(queries.device), -torch.inf)

    def _are_same(self, rows: np.ndarray, others: np.ndarray) -> Bool[Tensor, "rows others"]:
        """Which passages have the same title and text."""
        return torch.from_numpy(self._hashes[rows][:, None] == self._hashes[others])

    def _kept_vectors(self) -> Float[Tensor, "passages hidden"]:
        if self._vectors is None:
            raise RuntimeError("what ranks the corpus needs the trunk's vectors of it")
        return self._vectors.vectors

    def _divergence(self, step: int) -> Tensor:
        """How far the projection ranks from the trunk: sentences against a sample of passages."""
        settings, embedder = self.settings, self.model.embedder
        draw = np.random.default_rng((self._seed, step, 50 + self._group.rank))
        sentences, vectors = self._sentences, self._kept_vectors()
        queries = sentences[_sample(draw, len(sentences), settings.teacher_queries)]
        passages = vectors[_sample(draw, len(vectors), settings.teacher_passages)].to(queries)
        scores = embedder.query_tower.project(queries) @ embedder.passage_tower.project(passages).T
        cosines = nn.functional.normalize(queries @ self._whitening, dim=-1) @ (
            nn.functional.normalize(passages @ self._whitening, dim=-1).T
        )
        return divergence_from_teacher(
            _SHARPNESS * scores, _SHARPNESS * embedder.settings.score_scale * cosines
        )

    @cached_property
    def _whitening(self) -> Float[Tensor, "hidden hidden"]:
        """Halfway to equal variance in all directions of the passages' vectors.

        A few directions that all passages of a corpus share rule the trunk's inner products;
        softened, its own 384 dimensions find 2 points more of SQuAD's answers in five passages.
        """
        vectors = self._kept_vectors()
        draw = np.random.default_rng((self._seed, 52))
        sample = vectors[_sample(draw, len(vectors), TEACHER_SENTENCES)]
        return half_whitening(sample.float()).to(self._sentences.device)

    @cached_property
    def _sentences(self) -> Float[Tensor, "sentences hidden"]:
        """The trunk's vectors of sentences from all over the corpus, the same after a resume."""
        order = np.random.default_rng((self._seed, 51)).permutation(self._rows)
        count = min(TEACHER_SENTENCES, 4 * len(order))
        packed = []
        for number in range(count):
            row = int(order[number % len(order)])
            generator = generator_at(number, self._seed, row)
            packed.append(random_sentence(self._store, self.model.packer, row, generator))
        with evaluating(self.model.embedder):
            return pool(self.model.embedder.query_tower, packed, self.model.packer)

    def _rows_at(self, step: int) -> np.ndarray:
        """The passages of a step's batch, of all processes in the order of their ranks."""
        if len(self._rows) == 0:
            raise SourceError(
                "no passage has two sentences, one to ask with and one to be found by: add longer "
                "documents, or set warm_start.embedder.loop.num_steps=0"
            )
        size = self._batch_size * self._group.size
        rows: np.ndarray = self._rows[batch_at(len(self._rows), size, step=step, seed=self._seed)]
        return rows

    def _pairs(self, rows: np.ndarray, step: int) -> list[InverseClozePair]:
        packer, rate = self.model.packer, self.settings.removal_rate
        return [
            inverse_cloze_pair(
                self._store, packer, row, generator_at(step, self._seed, row), removal_rate=rate
            )
            for row in rows.tolist()
        ]

    def _passage_vectors(
        self, pairs: list[InverseClozePair], rows: np.ndarray
    ) -> Float[Tensor, "batch hidden"]:
        if self._vectors is not None and self.settings.removal_rate == 0:
            return self._vectors.vectors[torch.from_numpy(rows)]
        tower = self.model.embedder.passage_tower
        return self._pool(tower, [pair.passage for pair in pairs])

    def _pool(self, tower: Tower, packed: list[Packed]) -> Float[Tensor, "inputs hidden"]:
        return pool(tower, packed, self.model.packer, token_budget=self.settings.token_budget)


def half_whitening(vectors: Float[Tensor, "inputs hidden"]) -> Float[Tensor, "hidden hidden"]:
    """The inverse fourth root of the second moment of vectors that are brought to length one."""
    vectors = nn.functional.normalize(vectors, dim=-1).double()
    values, directions = torch.linalg.eigh(vectors.T @ vectors / len(vectors))
    # Directions in which next to nothing lies are not blown up.
    scales: Tensor = values.clamp_min(1e-3 * float(values.mean())).pow(-0.25)
    whitening: Tensor = (directions * scales) @ directions.T
    return whitening.float()


def _sample(draw: np.random.Generator, num_rows: int, size: int) -> Tensor:
    """Distinct rows, in order, so that a memory map is read forwards."""
    return torch.from_numpy(np.sort(draw.permutation(num_rows)[:size]))
