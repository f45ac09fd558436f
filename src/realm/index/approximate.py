"""The same search at a fraction of the cost, where missing a passage now and then is fine.

Cells of similar embeddings (inverted file, faiss); only the cells nearest to the query are
looked at, and what they hold is scored exactly. Finding the cells takes seconds, filling them does
not: whoever writes embeddings finds their cells, whoever searches fills them.
"""

import copy
import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from realm.errors import ResourceError
from realm.index.exact import Found

_TRAINING_ROWS_PER_CELL = 64
_ADDED = 1 << 16  # rows widened at a time


@dataclass(frozen=True)
class Cells:
    """Groups of similar rows: the middle of each, and the group of every row."""

    middles: Float[Tensor, "cells dim"]
    cell_by_row: Int[Tensor, " passages"]

    def save(self, file: Path) -> None:
        """Write them beside the embeddings that they are of."""
        save_file({"middles": self.middles, "cell_by_row": self.cell_by_row}, file)

    @classmethod
    def load(cls, file: Path) -> "Cells":
        """Read what was saved."""
        return cls(**load_file(file))


class ApproximateIndex:
    """Inverted-file maximum inner product search; same results type as `ExactIndex`."""

    def __init__(
        self,
        embeddings: Float[Tensor, "passages dim"],
        *,
        probes: int = 128,
        cells: Cells | None = None,
    ) -> None:
        """Fill the cells, which are found first where they are not given."""
        self._index = _inverted_file(embeddings, cells or find_cells(embeddings))
        self.probes = probes
        """Cells that a search looks into."""
        self._num_found = len(embeddings)
        self._selector: Any = None

    def __len__(self) -> int:
        return self._num_found

    @property
    def num_cells(self) -> int:
        """How many cells there are to look into."""
        return int(self._index.nlist)

    def without(self, rows: np.ndarray) -> "ApproximateIndex":
        """The same index in which these rows are never found."""
        faiss = _faiss()
        is_found = np.ones(self._index.ntotal, dtype=bool)
        is_found[rows] = False
        index = copy.copy(self)
        index._num_found = int(is_found.sum())
        index._selector = faiss.IDSelectorBitmap(np.packbits(is_found, bitorder="little"))
        return index

    def search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        """The `k` best rows that were found; a missing one has row -1 and score -inf."""
        if not min(k, len(self)):
            nothing = torch.empty(len(queries), 0)
            return Found(nothing, nothing.long())
        vectors = np.ascontiguousarray(queries.detach().float().cpu().numpy())
        faiss = _faiss()
        parameters = faiss.SearchParametersIVF(
            sel=self._selector, nprobe=min(self.probes, self.num_cells)
        )
        scores, rows = self._index.search(vectors, min(k, len(self)), params=parameters)
        found = torch.from_numpy(scores), torch.from_numpy(rows)
        return Found(found[0].masked_fill(found[1] < 0, -torch.inf), found[1])


def find_cells(embeddings: Float[Tensor, "passages dim"]) -> Cells:
    """Learn the cells from a sample of the embeddings, and look up that of every row.

    Raises:
        ResourceError: faiss is not installed.
    """
    faiss = _faiss()
    number, width = embeddings.shape
    num_cells = max(1, min(int(4 * math.sqrt(number)), number // _TRAINING_ROWS_PER_CELL))
    quantiser = faiss.IndexFlatIP(width)
    trained = faiss.IndexIVFFlat(quantiser, width, num_cells, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(number)[: num_cells * _TRAINING_ROWS_PER_CELL]
    trained.train(embeddings[torch.from_numpy(np.sort(sample))].float().numpy())
    cells = [quantiser.search(rows.float().numpy(), 1)[1] for rows in embeddings.split(_ADDED)]
    middles = quantiser.reconstruct_n(0, num_cells)
    return Cells(torch.from_numpy(middles), torch.from_numpy(np.concatenate(cells)[:, 0]))


def _inverted_file(embeddings: Float[Tensor, "passages dim"], cells: Cells) -> Any:
    """All rows in their cells, as wide as they are given."""
    faiss = _faiss()
    num_cells, width = cells.middles.shape
    quantiser, metric = faiss.IndexFlatIP(width), faiss.METRIC_INNER_PRODUCT
    quantiser.add(cells.middles.numpy())
    if embeddings.dtype == torch.float16:
        kind = faiss.ScalarQuantizer.QT_fp16
        # The rows themselves, not what is left of them less the middle of their cell.
        index = faiss.IndexIVFScalarQuantizer(quantiser, width, num_cells, kind, metric, False)
    else:
        index = faiss.IndexIVFFlat(quantiser, width, num_cells, metric)
    index.is_trained = True
    parts = zip(embeddings.split(_ADDED), cells.cell_by_row.split(_ADDED), strict=True)
    for rows, cell in parts:
        wide, cell_of_each = rows.float().numpy(), cell.numpy()
        index.add_core(len(wide), faiss.swig_ptr(wide), None, faiss.swig_ptr(cell_of_each))
    return index


def _faiss() -> Any:  # its wrappers take more than their stubs say
    try:
        return import_module("faiss")
    except ImportError as error:
        message = "approximate search needs faiss: pip install faiss-cpu, or set index.kind=exact"
        raise ResourceError(message) from error
