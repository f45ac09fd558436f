"""How does a passage become a query x with hidden wordpieces y (REALM, sections 3.1 and 3.4)?

The query is one sentence alone. All hidden wordpieces become [MASK]; at most `max_masks` of
them are targets, further ones stay masked without a loss, as in the released code. Which
examples are used at all, `query_maker` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.examples.masking import Masking
from realm.examples.packing import Packer

SentenceCut = Literal["window", "beginning"]


@dataclass(frozen=True)
class MaskedQuery:
    """One masked sentence: its wordpieces, and where in the packed query which targets stand."""

    row: int
    ids: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


class HasTargets(Protocol):
    """An input with hidden wordpieces: the positions of those asked for, and what they were."""

    @property
    def positions(self) -> np.ndarray:
        """Places in the packed input."""

    @property
    def targets(self) -> np.ndarray:
        """The wordpieces that stood there."""


@dataclass(frozen=True)
class Targets:
    """The targets of several queries, padded to the one with the most."""

    positions: Int[Tensor, "batch masks"]
    ids: Int[Tensor, "batch masks"]
    is_target: Bool[Tensor, "batch masks"]


def mask_query(
    store: PassageStore,
    packer: Packer,
    row: int,
    masking: Masking,
    *,
    max_masks: int,
    cut: SentenceCut = "window",
) -> MaskedQuery:
    """Cut the sentence out of its passage and hide the chosen wordpieces.

    A sentence longer than a query is cut to a window around what is hidden, or to its beginning.
    """
    body = store.token_ids(row)
    if cut == "window":
        start, end = _window(masking, packer.max_query_body)
    else:
        start = masking.sentence_start
        end = min(masking.sentence_end, start + packer.max_query_body)
    ids = np.array(body[start:end], dtype=np.int64)
    hidden = masking.hidden[(masking.hidden >= start) & (masking.hidden < end)] - start
    targets = ids[hidden][:max_masks]
    ids[hidden] = packer.mask_id
    return MaskedQuery(row, ids, hidden[:max_masks] + 1, targets)  # + 1 for [CLS]


def stack_targets(queries: Sequence[HasTargets]) -> Targets:
    """Pad the targets of a batch to those of the input with the most."""
    shape = (len(queries), max(len(query.targets) for query in queries))
    positions, ids = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    is_target = np.zeros(shape, dtype=bool)
    for row, query in enumerate(queries):
        count = len(query.targets)
        positions[row, :count] = query.positions
        ids[row, :count] = query.targets
        is_target[row, :count] = True
    return Targets(*map(torch.from_numpy, (positions, ids, is_target)))


def _window(masking: Masking, limit: int) -> tuple[int, int]:
    start, end = masking.sentence_start, masking.sentence_end
    if end - start <= limit:
        return start, end
    # Around a hidden wordpiece, not between two that lie far apart: one at least is seen.
    centre = int(masking.hidden[len(masking.hidden) // 2])
    first = min(max(start, centre - limit // 2), end - limit)
    return first, first + limit
