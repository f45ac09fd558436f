"""Which masked queries make up a batch, and what is left out on the way?

An example that its rules refuse is counted and another passage takes its place, so that batches
stay full. All of it is a function of (seed, step, passage): a resumed training draws the same.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.masked_query import MaskedQuery, SentenceCut, mask_query
from realm.examples.masking import Masker, Masking, MaskingName
from realm.examples.packing import Packer
from realm.examples.stream import generator_at

SKIP_REASONS = ("too_many_masks", "hidden_beyond_query")
_MOST_SKIPPED_IN_A_ROW = 100


class MaskSettings(Settings):
    """What is hidden in a query, and what becomes of hidden spans that do not fit."""

    masking: MaskingName = "salient_span"
    max_masks: int = Field(default=10, ge=1)
    overflow: Literal["trim", "skip"] = "trim"
    """More hidden wordpieces than `max_masks`: the further ones stay masked without a loss
    (released code), or the example is skipped."""
    long_sentences: SentenceCut = "window"
    """Of a sentence longer than a query, keep a window around what is hidden, or its beginning,
    and skip the example where something hidden lies beyond (released code)."""


class QueryMaker:
    """Makes masked queries; `skipped` counts the examples left out, by reason."""

    def __init__(
        self,
        store: PassageStore,
        packer: Packer,
        masker: Masker,
        settings: MaskSettings,
        *,
        seed: int,
    ) -> None:
        self._store, self._packer, self._masker = store, packer, masker
        self._settings, self._seed = settings, seed
        self.skipped = Counter(dict.fromkeys(SKIP_REASONS, 0))

    def batch(self, rows: Sequence[int], step: int, substitutes: np.ndarray) -> list[MaskedQuery]:
        """One query for each row; passages of `substitutes` stand in for those skipped.

        Raises:
            SourceError: a hundred examples in a row had to be skipped.
        """
        queries = []
        for row in rows:
            generator = generator_at(step, self._seed, row)
            chosen, masking = row, self._masker.choose(row, generator)
            num_tries = 1
            while (reason := self.reason_to_skip(masking)) is not None:
                self.skipped[reason] += 1
                if num_tries == _MOST_SKIPPED_IN_A_ROW:
                    raise SourceError(
                        f"{num_tries} examples in a row were skipped ({reason}): raise "
                        "pretrain.objective.max_masks or packing.query_tokens, or set "
                        "pretrain.objective.overflow=trim and .long_sentences=window"
                    )
                chosen = int(substitutes[generator.integers(len(substitutes))])
                masking = self._masker.choose(chosen, generator)
                num_tries += 1
            queries.append(self._hide(chosen, masking))
        return queries

    def usable(self, rows: Sequence[int], step: int) -> list[MaskedQuery]:
        """Queries of those rows alone that are not skipped, for measuring; they are not counted."""
        maskings = [self._masker.choose(row, generator_at(step, self._seed, row)) for row in rows]
        return [
            self._hide(row, masking)
            for row, masking in zip(rows, maskings, strict=True)
            if self.reason_to_skip(masking) is None
        ]

    def reason_to_skip(self, masking: Masking) -> str | None:
        """Why this example cannot be used, one of `SKIP_REASONS`; None where it can."""
        settings = self._settings
        end = masking.sentence_start + self._packer.max_query_body
        if settings.long_sentences == "beginning" and masking.hidden[-1] >= end:
            return "hidden_beyond_query"
        if settings.overflow == "skip" and len(masking.hidden) > settings.max_masks:
            return "too_many_masks"
        return None

    def _hide(self, row: int, masking: Masking) -> MaskedQuery:
        settings = self._settings
        return mask_query(
            self._store, self._packer, row, masking,
            max_masks=settings.max_masks, cut=settings.long_sentences,
        )  # fmt: skip
