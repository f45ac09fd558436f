"""What did the corpus look like to the embedder at one moment?

A snapshot is an artifact: the embeddings of all passages and of the null passage in half
width, dated by the training step, with the fingerprints of the checkpoint and of the corpus
that it was made from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from realm.artifact import Manifest, create_artifact, open_artifact
from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index.approximate import ApproximateIndex, Cells, find_cells
from realm.index.encode import embed_corpus, embed_null_passage, project, write_rows
from realm.index.exact import ExactIndex, Index
from realm.index.trunk_vectors import TrunkVectors
from realm.machine import where_it_fits
from realm.models.checkpoint import Model

KIND = "snapshot"
_BLOCK = 8192  # rows projected at a time
_ROWS, _NULL, _CELLS = "embeddings.npy", "null.npy", "cells.safetensors"


class IndexSettings(Settings):
    """How snapshots are searched."""

    kind: Literal["exact", "approximate"] = "exact"
    probes: int = Field(default=128, ge=1)
    """Cells that an approximate search looks into, of four times the root of the passages: 128
    found 97% of the best 100 of 200,000 averages of word vectors, 64 found 93% in half the time."""


@dataclass(frozen=True)
class Snapshot:
    """The embeddings of one moment, memory-mapped."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path, store: PassageStore) -> "Snapshot":
        """Open a snapshot and make sure that it was made from this corpus."""
        manifest = open_artifact(path, KIND)
        if manifest.inputs["corpus"] != store.fingerprint:
            raise ArtifactError(f"{path} was made from another corpus: delete it")
        return cls(path, manifest)

    @property
    def step(self) -> int:
        """The training step of the embedder that made it."""
        return int(self.manifest.settings["step"])

    @property
    def checkpoint(self) -> str:
        """Fingerprint of the checkpoint that made it."""
        return self.manifest.inputs["checkpoint"]

    @cached_property
    def embeddings(self) -> Float[Tensor, "passages dim"]:
        """All passages, in the order of the corpus."""
        # Copy-on-write, since torch wants memory it may write to; nothing ever does.
        return torch.from_numpy(np.load(self.path / _ROWS, mmap_mode="c"))

    @cached_property
    def null_embedding(self) -> Float[Tensor, " dim"]:
        """The null passage."""
        return torch.from_numpy(np.load(self.path / _NULL)).float()

    def embeddings_of(self, rows: Tensor) -> Float[Tensor, "... dim"]:
        """Embeddings of chosen rows in single precision; row -1 is the null passage."""
        chosen = self.embeddings[rows.clamp(min=0)].float()
        return torch.where((rows < 0)[..., None], self.null_embedding, chosen)

    def index(self, settings: IndexSettings) -> Index:
        """A searchable form of these embeddings."""
        if settings.kind == "approximate":
            file = self.path / _CELLS
            cells = Cells.load(file) if file.is_file() else None
            return ApproximateIndex(self.embeddings, probes=settings.probes, cells=cells)
        return ExactIndex(self._searched)

    @cached_property
    def _searched(self) -> Float[Tensor, "passages dim"]:
        """The embeddings where all of them are looked at quickest: once for all indexes."""
        return where_it_fits(self.embeddings)


def keep_embeddings(
    path: Path,
    embeddings: Float[Tensor, "passages dim"],
    null: Float[Tensor, " dim"],
    store: PassageStore,
    *,
    checkpoint: str,
    dtype: type[np.floating[Any]] = np.float32,
    on_progress: Callable[[int], None] | None = None,
) -> Snapshot:
    """Write embeddings that somebody else made, one for each passage, as a rule in full width.

    The scores of a released model would differ in the second decimal from half-width ones.
    """
    settings = {"step": 0, "width": embeddings.shape[1]}
    inputs = {"corpus": store.fingerprint, "checkpoint": checkpoint}
    with create_artifact(path, KIND, settings=settings, inputs=inputs) as staging:
        blocks = (block.float() for block in embeddings.split(_BLOCK))
        write_rows(staging.path / _ROWS, blocks, len(store), dtype=dtype, on_progress=on_progress)
        np.save(staging.path / _NULL, null.numpy())
        staging.counts["num_passages"] = len(store)
    return Snapshot.open(path, store)


def write_snapshot(  # noqa: PLR0913 - of whom it is made, what of, and how it will be searched
    path: Path,
    model: Model,
    store: PassageStore,
    *,
    checkpoint: str,
    step: int,
    vectors: TrunkVectors | None = None,
    index: IndexSettings | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Snapshot:
    """Embed the corpus with a model and write the result; `on_progress` gets passages done.

    Where `vectors` of the model's own trunk are given, they are projected and the trunk rests. With
    the settings of an approximate `index` its cells are found here, not by those who search.
    """
    tower = model.embedder.passage_tower
    blocks = embed_corpus(model, store)
    if vectors is not None and vectors.fit(model):
        blocks = (project(tower, block) for block in vectors.vectors.split(_BLOCK))
    settings = {"step": step, "width": tower.width}
    inputs = {"corpus": store.fingerprint, "checkpoint": checkpoint}
    with create_artifact(path, KIND, settings=settings, inputs=inputs) as staging:
        write_rows(staging.path / _ROWS, blocks, len(store), on_progress=on_progress)
        if index is not None and index.kind == "approximate":
            rows = torch.from_numpy(np.load(staging.path / _ROWS, mmap_mode="c"))
            find_cells(rows).save(staging.path / _CELLS)
        np.save(staging.path / _NULL, embed_null_passage(model).numpy())
        staging.counts["num_passages"] = len(store)
    return Snapshot.open(path, store)
