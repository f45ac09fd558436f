"""How small is a model that others are to fetch?

Half as wide, each tensor once, and without what the pinned trunk holds: where words and the
retriever's trunk stayed at rest, a third of the tensors is left, a sixth of the bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file
from torch import Tensor

from realm.models.trunk import DEFAULT_TRUNK, WEIGHTS, find_trunk, locate_trunk


@dataclass
class Compact:
    """Tensors of a model by name, and where those are that were left out."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """In half precision, but for those that half precision cannot hold."""
    same_as: dict[str, str] = field(default_factory=dict)
    """Names of tensors that equal another one."""
    pinned: list[str] = field(default_factory=list)
    """Names of tensors that are as in the pinned trunk."""


def compact(weights: Mapping[str, Tensor]) -> Compact:
    """Leave out of a model's weights what can be found elsewhere, and halve the rest."""
    is_here = find_trunk(DEFAULT_TRUNK) is not None
    pinned = _pinned_weights() if is_here else {}
    made = Compact()
    first_of: dict[tuple[torch.Size, bytes], str] = {}
    for name, weight in weights.items():
        as_published = pinned.get(_name_in_trunk(name))
        if as_published is not None and torch.equal(weight, as_published):
            made.pinned.append(name)
            continue
        key = (weight.shape, weight.contiguous().numpy().tobytes())
        if key in first_of:
            made.same_as[name] = first_of[key]
            continue
        first_of[key] = name
        half = weight.half()
        made.tensors[name] = half if half.isfinite().all() else weight
    return made


def whole(stored: Compact) -> dict[str, Tensor]:
    """All tensors of a model that was made compact, some of them in half precision.

    Raises:
        ResourceError: the pinned trunk is needed and cannot be found; the message says how to get
            it.
        ArtifactError: it is another one.
    """
    tensors = dict(stored.tensors)
    tensors |= {name: tensors[other] for name, other in stored.same_as.items()}
    if stored.pinned:
        pinned = _pinned_weights()
        tensors |= {name: pinned[_name_in_trunk(name)] for name in stored.pinned}
    return tensors


def _pinned_weights() -> dict[str, Tensor]:
    return load_file(locate_trunk(DEFAULT_TRUNK) / WEIGHTS)


def _name_in_trunk(name: str) -> str:
    """`embeddings.word_embeddings.weight` for `reader.trunk.embeddings.word_embeddings.weight`."""
    return name.partition(".trunk.")[2]
