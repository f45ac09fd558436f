"""What must both halves know before they can teach each other? (REALM, section 3.4)

The retriever starts from the inverse cloze task: which passage was this sentence taken from?
The reader starts by reading: a masked sentence beside another passage that holds what is
hidden. A reader that cannot use a passage yet gives the retriever no signal; the paper's reader
started from BERT, and a trunk without a trained masked language model has to be taught.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.examples.inverse_cloze import inverse_cloze_pair, rows_for_inverse_cloze
from realm.examples.stream import batch_at, generator_at
from realm.models.checkpoint import Model
from realm.models.embedder import embed
from realm.models.marginal import inverse_cloze_loss
from realm.training.distributed import ProcessGroup


class InverseClozeSettings(Settings):
    """The batch of the inverse cloze task."""

    batch_size: int = 64
    removal_rate: float = 0.9
    """How often the sentence is removed from its passage."""
    token_budget: int = 4096


class InverseClozeObjective:
    """In-batch softmax: each sentence finds its own passage among those of the batch."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        settings: InverseClozeSettings,
        *,
        seed: int,
        group: ProcessGroup = ProcessGroup(),
    ) -> None:
        self.model, self.settings = model, settings
        self._store, self._seed, self._group = store, seed, group
        self._rows = rows_for_inverse_cloze(store)

    def trainable(self) -> nn.Module:
        """The embedder alone."""
        return nn.ModuleDict({"embedder": self.model.embedder})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the batch of a step, and the share of sentences that found home."""
        settings, packer, embedder = self.settings, self.model.packer, self.model.embedder
        chosen = batch_at(
            len(self._rows), settings.batch_size,
            step=step, seed=self._seed, rank=self._group.rank, size=self._group.size,
        )  # fmt: skip
        pairs = [
            inverse_cloze_pair(
                self._store, packer, row, generator_at(step, self._seed, row),
                removal_rate=settings.removal_rate,
            )  # fmt: skip
            for row in self._rows[chosen].tolist()
        ]
        budget = settings.token_budget
        queries = embed(
            embedder.query_tower, [p.query for p in pairs], packer, token_budget=budget
        )
        passages = embed(
            embedder.passage_tower, [p.passage for p in pairs], packer, token_budget=budget
        )
        scores = queries @ passages.T
        hits = scores.detach().argmax(dim=-1) == torch.arange(len(pairs), device=scores.device)
        return inverse_cloze_loss(scores), {"accuracy": float(hits.float().mean())}
