"""How does a packed text lose wordpieces for plain masked language modelling (BERT, section 3.1)?

Of the wordpieces asked for, 80% become [MASK], 10% another wordpiece and 10% stay as they are: an
encoder that is later shown whole text must not learn that only [MASK] is worth a thought.
"""

from dataclasses import dataclass, replace

import numpy as np

from realm.examples.masking import scatter
from realm.examples.packing import Packed, Packer

_MASKED, _MASKED_OR_OTHER = 0.8, 0.9


@dataclass(frozen=True)
class MaskedText:
    """A packed text with hidden wordpieces: where they stand in it, and what they were."""

    packed: Packed
    positions: np.ndarray
    targets: np.ndarray


def mask_packed(
    packed: Packed,
    packer: Packer,
    generator: np.random.Generator,
    *,
    share: float,
    vocabulary_size: int,
) -> MaskedText:
    """Hide a share of the wordpieces, whichever part they stand in; [CLS] and [SEP] stay."""
    is_word = (packed.ids != packer.cls_id) & (packed.ids != packer.sep_id)
    positions = scatter(np.flatnonzero(is_word), share, generator)
    targets = packed.ids[positions]
    fate = generator.random(len(positions))
    others = generator.integers(vocabulary_size, size=len(positions))
    ids = packed.ids.copy()
    ids[positions] = np.where(
        fate < _MASKED, packer.mask_id, np.where(fate < _MASKED_OR_OTHER, others, targets)
    )
    return MaskedText(replace(packed, ids=ids), positions, targets)
