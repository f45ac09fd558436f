"""How does a trunk learn from nothing but text?

Masked language modelling over the passages of the corpus, as BERT was trained (Devlin et al. 2019,
section 3.1), without its second task. What comes out has seen no question, no pair of texts that
somebody put together and no text but the user's: the fair start of a comparison.
"""

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.ahead import Ahead, workers_beside_the_device
from realm.examples.held_out import split_rows
from realm.examples.inverse_cloze import random_sentence
from realm.examples.masked_query import stack_targets
from realm.examples.masked_text import MaskedText, mask_packed
from realm.examples.masking import TOKEN_SHARE
from realm.examples.packing import Packed
from realm.examples.stream import generator_at
from realm.index.encode import pack_joint, pack_passage
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.models.reader import masked_log_probs, read
from realm.training.distributed import join_group


class MaskedLanguageSettings(Settings):
    """The batch of masked language modelling; an example is at most as long as a packed pair."""

    batch_size: int = Field(default=32, ge=1)
    """Passages of each process."""
    masked_share: float = Field(default=TOKEN_SHARE, gt=0.0, lt=1.0)
    """Share of the wordpieces of an example that are asked for."""
    pair_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of passages that are read behind a sentence of the passage before them, packed as the
    reader's pairs are; the others stand alone. Without pairs the places beyond a passage's length
    stay as random as they began, and the reader needs them."""
    token_budget: int = Field(default=4096, ge=1)
    """Padded wordpieces in one forward pass."""


class MaskedLanguageObjective:
    """Restore what was hidden of passages, with the reader's trunk and masked head alone."""

    def __init__(
        self, model: Model, store: PassageStore, settings: MaskedLanguageSettings, *, seed: int
    ) -> None:
        self.model, self.settings = model, settings
        self._store, self._seed, self._group = store, seed, join_group()
        self._rows, _ = split_rows(np.flatnonzero(store.num_tokens()), store)
        if len(self._rows) == 0:
            raise SourceError("no passage is left to learn from: add documents with text")
        self._texts = Ahead(self._batch, workers_beside_the_device())

    def trainable(self) -> nn.Module:
        """Trunk and masked head; the span head and the embedder wait for their own stages."""
        reader = self.model.reader
        parts = nn.ModuleDict({"trunk": reader.trunk, "masked_head": reader.masked_head})
        return nn.ModuleDict({"reader": parts})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of a hidden wordpiece, in nats."""
        texts = self._texts.at(step)
        total, count = _losses(self.model, texts, self.settings.token_budget)
        # Each wordpiece counts the same, not each passage: long ones teach more.
        return total / max(1, count), {}

    def _batch(self, step: int) -> list[MaskedText]:
        return [self._example(place, step) for place in self._chosen(step)]

    def _chosen(self, step: int) -> list[int]:
        """Places of the batch among the passages that train."""
        size = min(self.settings.batch_size, len(self._rows))
        chosen = self._group.batch_at(len(self._rows), size, step=step, seed=self._seed)
        places: list[int] = chosen.tolist()
        return places

    def _example(self, place: int, step: int) -> MaskedText:
        row = int(self._rows[place])
        generator = generator_at(step, self._seed, row)
        is_pair = generator.random() < self.settings.pair_share
        packer = self.model.packer
        packed = self._pair(place, generator) if is_pair else pack_passage(self._store, packer, row)
        return _mask(self.model, packed, generator, self.settings)

    def _pair(self, place: int, generator: np.random.Generator) -> Packed:
        """A passage behind a sentence of the one before it, which mostly is of its document."""
        before = int(self._rows[place - 1])
        sentence = random_sentence(self._store, self.model.packer, before, generator)
        query = sentence.ids[sentence.body_start : sentence.body_end]
        return pack_joint(self._store, self.model.packer, query, int(self._rows[place]))


def held_out_loss(
    model: Model, store: PassageStore, settings: MaskedLanguageSettings, number: int
) -> float:
    """Mean loss of a hidden wordpiece, in nats, over passages that no training sees, each alone.

    What is hidden in them is always the same, so that steps and trainings compare. Zero where no
    wordpiece is asked for.
    """
    _, rows = split_rows(np.flatnonzero(store.num_tokens()), store)
    texts = [
        _mask(model, pack_passage(store, model.packer, row), generator_at(0, 0, row), settings)
        for row in rows[:number].tolist()
    ]
    total, count = 0.0, 0
    with evaluating(model.reader):
        for begin in range(0, len(texts), settings.batch_size):
            batch = texts[begin : begin + settings.batch_size]
            loss, size = _losses(model, batch, settings.token_budget)
            total, count = total + float(loss), count + size
    return total / max(1, count)


def _mask(
    model: Model, packed: Packed, generator: np.random.Generator, settings: MaskedLanguageSettings
) -> MaskedText:
    size = len(model.reader.masked_head.bias)
    return mask_packed(
        packed, model.packer, generator, share=settings.masked_share, vocabulary_size=size
    )


def _losses(model: Model, texts: list[MaskedText], token_budget: int) -> tuple[Tensor, int]:
    """The sum of the losses of all hidden wordpieces, and how many they are."""
    targets, packed = stack_targets(texts), [text.packed for text in texts]
    groups = read(
        model.reader, packed,
        packer=model.packer, token_budget=token_budget, positions=targets.positions,
    )  # fmt: skip
    log_probs = masked_log_probs(
        model.reader, groups, targets.positions, targets.ids, targets.is_target
    )
    return -log_probs.sum(), int(targets.is_target.sum())
