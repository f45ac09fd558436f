"""What does the trunk alone make of the corpus, before any projection?

As long as a training leaves the trunk as it is, a new snapshot needs no trunk: the vectors are
computed once, kept as an artifact, and projected in seconds. The artifact names the very
weights that made it, so that it is never used for a trunk that has moved.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from realm.artifact import create_artifact, open_artifact
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index.encode import pool_corpus, write_rows
from realm.models.checkpoint import Model

KIND = "trunk-vectors"
_ROWS = "vectors.npy"
_NAMES = ("trunk", "trunk in half precision")


@dataclass(frozen=True)
class TrunkVectors:
    """One vector a passage, memory-mapped, and the names of the trunk that made them."""

    path: Path
    vectors: Float[Tensor, "passages hidden"]
    trunks: frozenset[str]

    @classmethod
    def open(cls, path: Path, store: PassageStore) -> "TrunkVectors":
        """Open them and make sure that they are of this corpus."""
        manifest = open_artifact(path, KIND)
        if manifest.inputs["corpus"] != store.fingerprint:
            raise ArtifactError(f"{path} was made from another corpus: delete it")
        rows = torch.from_numpy(np.load(path / _ROWS, mmap_mode="c"))
        names = (manifest.inputs.get(name) for name in _NAMES)
        return cls(path, rows, frozenset(name for name in names if name))

    def fit(self, model: Model) -> bool:
        """Whether the model's passage side still has the trunk that made these vectors."""
        return _fingerprint(model.embedder.passage_tower.trunk) in self.trunks


def write_trunk_vectors(
    path: Path,
    model: Model,
    store: PassageStore,
    *,
    names: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> TrunkVectors:
    """Run the trunk over the corpus once; `on_progress` gets passages done.

    `names` are those that `names_of` gave the trunk before it was cast to compute, if it was.
    """
    names = names or names_of(model.embedder.passage_tower.trunk)
    inputs = {"corpus": store.fingerprint, **names}
    with create_artifact(path, KIND, settings={}, inputs=inputs) as staging:
        blocks = pool_corpus(model, store)
        write_rows(staging.path / _ROWS, blocks, len(store), on_progress=on_progress)
        staging.counts["num_passages"] = len(store)
    return TrunkVectors.open(path, store)


def names_of(trunk: nn.Module) -> dict[str, str]:
    """Names for a trunk's weights in single precision, by which it is known in others as well.

    One for itself and bfloat16; rounded by way of half precision, some weights are others.
    """
    return dict(zip(_NAMES, (_fingerprint(trunk), _fingerprint(trunk, torch.float16)), strict=True))


def _fingerprint(trunk: nn.Module, by_way_of: torch.dtype | None = None) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(trunk.state_dict().items()):
        rounded = weight.detach().to(by_way_of or weight.dtype).to(torch.bfloat16)
        digest.update(name.encode())
        digest.update(rounded.contiguous().cpu().view(torch.int16).numpy())
    return digest.hexdigest()[:16]
