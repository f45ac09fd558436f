"""Which passages have the greatest inner product with a query? Exactly, by looking at all."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_CHUNK = 65_536  # rows widened to single precision at a time: bounds memory whatever the corpus


@dataclass(frozen=True)
class Found:
    """The best rows of each query, best first; equal scores are ordered by row."""

    scores: Float[Tensor, "queries k"]
    rows: Int[Tensor, "queries k"]


class Index(Protocol):
    """Finds the passages nearest to a query: by looking at all, at some, or in several parts."""

    def __len__(self) -> int:
        """How many rows can be found."""

    def search(self, queries: Tensor, k: int) -> Found:
        """The best rows of each query [queries, dim]; at most `k`."""


class ExactIndex:
    """Brute-force maximum inner product search over embeddings kept in half width."""

    def __init__(self, embeddings: Float[Tensor, "passages dim"]) -> None:
        self.embeddings = embeddings
        self._num_found = int(embeddings.shape[0])
        self._hidden_by_chunk: list[Tensor] = []

    def __len__(self) -> int:
        return self._num_found

    def without(self, rows: np.ndarray) -> "ExactIndex":
        """The same index in which these rows, in ascending order, are never found."""
        index = ExactIndex(self.embeddings)
        begins = np.arange(0, len(self.embeddings), _CHUNK)
        pieces = np.split(rows, np.searchsorted(rows, begins[1:]))
        index._hidden_by_chunk = [
            torch.from_numpy(piece - begin) for piece, begin in zip(pieces, begins, strict=False)
        ]
        index._num_found -= len(rows)
        return index

    def search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        """The `k` best rows, or all where there are fewer."""
        queries = queries.detach().float()
        parts = []
        for number, begin in enumerate(range(0, len(self.embeddings), _CHUNK)):
            chunk = self.embeddings[begin : begin + _CHUNK].float()
            scores = queries @ chunk.T
            if self._hidden_by_chunk:
                # Hidden rows fall behind all others, so that none takes a place among the best.
                scores.index_fill_(1, self._hidden_by_chunk[number], -torch.inf)
            scores, rows = _first_of_the_best(scores, min(k, len(chunk)))
            parts.append(Found(scores, rows + begin))
        return merge(parts, min(k, len(self)))


def merge(parts: list[Found], k: int) -> Found:
    """Join the results of shards by (score, row)."""
    scores = torch.cat([part.scores for part in parts], dim=-1)
    rows = torch.cat([part.rows for part in parts], dim=-1)
    by_row = rows.argsort(dim=-1, stable=True)
    scores, rows = scores.gather(-1, by_row), rows.gather(-1, by_row)
    by_score = scores.argsort(dim=-1, descending=True, stable=True)[:, :k]
    return Found(scores.gather(-1, by_score), rows.gather(-1, by_score))


def _first_of_the_best(
    scores: Float[Tensor, "queries rows"], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Like `topk`, which takes any of equal scores at the edge; here the first rows win.

    Copies of a passage have equal scores, so ties are common in real corpora.
    """
    values, rows = scores.topk(k, dim=-1)
    is_contested = (scores >= values[:, -1:]).sum(dim=-1) > k
    if is_contested.any():
        best = scores[is_contested].sort(dim=-1, descending=True, stable=True)
        values[is_contested], rows[is_contested] = best.values[:, :k], best.indices[:, :k]
    return values, rows
