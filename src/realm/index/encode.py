"""How do passages of a corpus become inputs, and a whole corpus embeddings?

With the very packing and towers that the trainer uses; passages are read from the memory map in
blocks, sorted by length inside a block, and come out in the order of the corpus.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.examples.packing import Packed, Packer
from realm.memory import keep_freed_tensors
from realm.models.checkpoint import Model
from realm.models.embedder import Tower, embed, evaluating, pool

BLOCK = 2048  # passages sorted by length together
_PIECE = 1 << 20  # bytes of zeros written at a time
_NOTHING = np.empty(0, dtype=np.int64)


def pack_passage(store: PassageStore, packer: Packer, row: int) -> Packed:
    """Pack one passage of the corpus; row -1 is the null passage."""
    if row < 0:
        return packer.passage(_NOTHING, _NOTHING)
    return packer.passage(store.title_token_ids(row), store.token_ids(row))


def pack_joint(store: PassageStore, packer: Packer, query: np.ndarray, row: int) -> Packed:
    """Pack a query with a passage of the corpus for the reader; row -1 is the null passage."""
    if row < 0:
        return packer.joint(query, _NOTHING, _NOTHING)
    return packer.joint(query, store.title_token_ids(row), store.token_ids(row))


def embed_corpus(model: Model, store: PassageStore) -> Iterator[Float[Tensor, "block dim"]]:
    """Embed every passage, block by block, in the order of the corpus."""
    tower = model.embedder.passage_tower
    for vectors in pool_corpus(model, store):
        yield project(tower, vectors)


def pool_corpus(model: Model, store: PassageStore) -> Iterator[Float[Tensor, "block hidden"]]:
    """The trunk's vector of every passage, block by block, in the order of the corpus."""
    keep_freed_tensors()
    with evaluating(model.embedder):
        for begin in range(0, len(store), BLOCK):
            rows = range(begin, min(begin + BLOCK, len(store)))
            packed = [pack_passage(store, model.packer, row) for row in rows]
            yield pool(model.embedder.passage_tower, packed, model.packer)


def project(tower: Tower, vectors: Float[Tensor, "block hidden"]) -> Float[Tensor, "block dim"]:
    """From the trunk's vectors to embeddings, without gradients, on the CPU."""
    with evaluating(tower):
        return tower.project(vectors.to(next(tower.parameters()).device)).cpu()


def embed_null_passage(model: Model) -> Float[Tensor, " dim"]:
    """The null passage has an ordinary embedding of its own."""
    with evaluating(model.embedder):
        packed = [model.packer.passage(_NOTHING, _NOTHING)]
        return embed(model.embedder.passage_tower, packed, model.packer)[0].cpu()


def write_rows(
    file: Path,
    blocks: Iterable[Float[Tensor, "block width"]],
    num_rows: int,
    *,
    dtype: type[np.floating[Any]] = np.float16,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write blocks of vectors as one array, in half width as a rule; `on_progress` gets rows."""
    rows: np.memmap[Any, np.dtype[Any]] | None = None
    done = 0
    for block in blocks:
        if rows is None:
            shape = (num_rows, block.shape[1])
            rows = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
            _take_space(file, rows.offset)
        rows[done : done + len(block)] = block.cpu().numpy()
        done += len(block)
        if on_progress is not None:
            on_progress(done)
    if rows is not None:
        rows.flush()


def _take_space(file: Path, header: int) -> None:
    """Make a full disk an error now, not a killed process in the middle of a mapped write."""
    size = file.stat().st_size
    with file.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        # Where there is no such call (macOS): zeros over the zeros that follow the header.
        for begin in range(header, size, _PIECE):
            stream.seek(begin)
            stream.write(bytes(min(_PIECE, size - begin)))


def sample_rows(store: PassageStore, size: int) -> np.ndarray:
    """The same random sample of passages every time, all of them where there are fewer."""
    return np.random.default_rng(0).permutation(len(store))[:size]


def pool_rows(model: Model, store: PassageStore, rows: np.ndarray) -> Float[Tensor, "rows hidden"]:
    """The trunk's own vectors of some passages."""
    with evaluating(model.embedder):
        packed = [pack_passage(store, model.packer, int(row)) for row in rows]
        return pool(model.embedder.passage_tower, packed, model.packer).cpu()
