"""What must both halves know before they can teach each other (REALM, section 3.4)?

The retriever starts from the inverse cloze task: which passage was this sentence taken from?
The reader starts by reading: a masked sentence beside another passage that holds what is
hidden. A reader that cannot use a passage yet gives the retriever no signal; the paper's reader
started from BERT, and a trunk without a trained masked language model has to be taught.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.held_out import split_rows
from realm.examples.inverse_cloze import (
    InverseClozePair,
    inverse_cloze_pair,
    rows_for_inverse_cloze,
)
from realm.examples.packing import Packed
from realm.examples.stream import batch_at, generator_at
from realm.models.checkpoint import Model
from realm.models.embedder import Tower, TrainedPart, pool
from realm.models.marginal import divergence_from_teacher, inverse_cloze_loss
from realm.training.distributed import join_group


class InverseClozeSettings(Settings):
    """The batch of the inverse cloze task."""

    batch_size: int = 64
    """Pairs of each process; the negatives are the passages of all of them."""
    removal_rate: float = 0.9
    """How often the sentence is removed from its passage."""
    trains: TrainedPart = "all"
    """100 steps of inverse cloze through MiniLM's trunk cost 2 points of recall@5: there
    `projection` is the better choice."""
    teacher_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the loss that asks the projection to rank as the trunk's own vectors do."""
    token_budget: int = 4096


class InverseClozeObjective:
    """In-batch softmax: each sentence finds its own passage among those of all processes."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        settings: InverseClozeSettings,
        *,
        seed: int,
    ) -> None:
        self.model, self.settings = model, settings
        self._store, self._seed, self._group = store, seed, join_group()
        self._rows, _ = split_rows(rows_for_inverse_cloze(store), store)
        model.embedder.train_only(settings.trains)

    def trainable(self) -> nn.Module:
        """The embedder alone."""
        return nn.ModuleDict({"embedder": self.model.embedder})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the batch of a step, and the share of sentences that found home."""
        settings, embedder = self.settings, self.model.embedder
        pairs = self._pairs(step)
        query_vectors = self._pool(embedder.query_tower, [pair.query for pair in pairs])
        passage_vectors = self._pool(embedder.passage_tower, [pair.passage for pair in pairs])
        queries = embedder.query_tower.project(query_vectors)
        passages = self._group.gather(embedder.passage_tower.project(passage_vectors))
        scores, first = queries @ passages.T, self._group.rank * len(pairs)
        loss = inverse_cloze_loss(scores, first)
        own = first + torch.arange(len(pairs), device=scores.device)
        hits = scores.detach().argmax(dim=-1) == own
        scalars = {"cloze_loss": float(loss.detach()), "accuracy": float(hits.float().mean())}
        if settings.teacher_share:
            shown = self._group.gather(passage_vectors.detach())
            cosines = nn.functional.normalize(query_vectors.detach(), dim=-1) @ (
                nn.functional.normalize(shown, dim=-1).T
            )
            divergence = divergence_from_teacher(scores, embedder.settings.score_scale * cosines)
            scalars["divergence"] = float(divergence.detach())
            loss = (1 - settings.teacher_share) * loss + settings.teacher_share * divergence
        return loss, scalars

    def _pairs(self, step: int) -> list[InverseClozePair]:
        settings, group = self.settings, self._group
        if len(self._rows) == 0:
            raise SourceError(
                "no passage has two sentences, one to ask with and one to be found by: add longer "
                "documents, or set warm_start.embedder.loop.num_steps=0"
            )
        chosen = batch_at(
            len(self._rows), min(settings.batch_size, len(self._rows)),
            step=step, seed=self._seed, rank=group.rank, size=group.size,
        )  # fmt: skip
        packer, rate = self.model.packer, settings.removal_rate
        return [
            inverse_cloze_pair(
                self._store, packer, row, generator_at(step, self._seed, row), removal_rate=rate
            )
            for row in self._rows[chosen].tolist()
        ]

    def _pool(self, tower: Tower, packed: list[Packed]) -> Float[Tensor, "inputs hidden"]:
        return pool(tower, packed, self.model.packer, token_budget=self.settings.token_budget)
