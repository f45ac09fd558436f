"""What does the trunk alone make of the corpus, before any projection?

As long as a training leaves the trunk as it is, a new snapshot needs no trunk: the vectors are
computed once, kept as an artifact, and projected in seconds. The artifact names the very
weights that made it, so that it is never used for a trunk that has moved.
"""

import hashlib
from collections.abc import Callable
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


@dataclass(frozen=True)
class TrunkVectors:
    """One vector a passage, memory-mapped, and the fingerprint of the trunk that made them."""

    path: Path
    vectors: Float[Tensor, "passages hidden"]
    trunk: str

    @classmethod
    def open(cls, path: Path, store: PassageStore) -> "TrunkVectors":
        """Open them and make sure that they are of this corpus."""
        manifest = open_artifact(path, KIND)
        if manifest.inputs["corpus"] != store.fingerprint:
            raise ArtifactError(f"{path} was made from another corpus: delete it")
        rows = torch.from_numpy(np.load(path / _ROWS, mmap_mode="c"))
        return cls(path, rows, manifest.inputs["trunk"])

    def fit(self, model: Model) -> bool:
        """Whether the model's passage side still has the trunk that made these vectors."""
        return trunk_fingerprint(model.embedder.passage_tower.trunk) == self.trunk


def write_trunk_vectors(
    path: Path,
    model: Model,
    store: PassageStore,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> TrunkVectors:
    """Run the trunk over the corpus once; `on_progress` gets passages done."""
    trunk = trunk_fingerprint(model.embedder.passage_tower.trunk)
    inputs = {"corpus": store.fingerprint, "trunk": trunk}
    with create_artifact(path, KIND, settings={}, inputs=inputs) as staging:
        blocks = pool_corpus(model, store)
        write_rows(staging.path / _ROWS, blocks, len(store), on_progress=on_progress)
        staging.counts["num_passages"] = len(store)
    return TrunkVectors.open(path, store)


def trunk_fingerprint(trunk: nn.Module) -> str:
    """A name for a trunk's weights, the same in every precision that it is cast to from fp32."""
    digest = hashlib.sha256()
    for name, weight in sorted(trunk.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            weight.detach().to(torch.bfloat16).contiguous().cpu().view(torch.int16).numpy()
        )
    return digest.hexdigest()[:16]
