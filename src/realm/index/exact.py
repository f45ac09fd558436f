"""Which passages have the greatest inner product with a query? Exactly, by looking at all."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from realm.index.blocks import (
    BLOCK,
    Contenders,
    contenders,
    is_quicker_rounded,
    longest,
    rounding_error,
    score_blocks,
)
from realm.index.scan import kernel, scan_for_best, summing_error

_QUERIES = 64  # searched together: more leave fewer rows at a time, and more of them to be scored
_SCORES = 1 << 23  # kept at a time: up to 32 MB the C library gives them the same memory again
_PAIRS = 1_024  # scored one by one at a time: they stay in a core's cache
_MANY_QUERIES = 16  # from here on multiplying takes longer than reading the rows


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
        self._hidden = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return int(self.embeddings.shape[0]) - len(self._hidden)

    def without(self, rows: np.ndarray) -> "ExactIndex":
        """The same index in which these rows, in ascending order, are never found."""
        _ = self._longest  # looked for once, for this index and all that are made of it
        index = copy.copy(self)
        index._hidden = rows.astype(np.int64)
        return index

    def search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        """The `k` best rows, or all where there are fewer, on the device of the queries.

        The search itself runs where the embeddings are.
        """
        moved = queries.detach().float().to(self.embeddings.device)
        groups = [self._search(group, k) for group in moved.split(_QUERIES)]
        scores = torch.cat([group.scores for group in groups])
        rows = torch.cat([group.rows for group in groups])
        return Found(scores.to(queries.device), rows.to(queries.device))

    def _search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        few = best_of_few(queries, [self], min(k, len(self)))
        if few is not None:
            return few
        parts, size = [], max(1, _SCORES // max(1, len(queries)))
        floor = queries.new_full((len(queries),), -torch.inf)
        for begin in range(0, len(self.embeddings), size):
            rows = self.embeddings[begin : begin + size]
            found = self._best(
                queries, rows, self._hidden_from(begin, size), floor, min(k, len(rows))
            )
            parts.append(Found(found.scores, found.rows + begin))
            if found.scores.shape[1] == k:
                floor = torch.maximum(floor, found.scores[:, -1])
        return merge(parts, min(k, len(self)))

    def _hidden_from(self, begin: int, size: int) -> Int[Tensor, " hidden"]:
        """Which of so many rows are never found, counted from `begin`."""
        first, last = np.searchsorted(self._hidden, [begin, begin + size])
        hidden = torch.from_numpy(self._hidden[first:last] - begin)
        return hidden.to(self.embeddings.device)

    def _best(
        self,
        queries: Float[Tensor, "queries dim"],
        rows: Float[Tensor, "rows dim"],
        hidden: Int[Tensor, " hidden"],
        floor: Float[Tensor, " queries"],
        k: int,
    ) -> Found:
        """The best of some rows; what is below the floor may be left out, as -inf."""
        if len(rows) > k * BLOCK:
            error = self._rounding_error(queries, rows)
            dtype = torch.float32 if error is None else torch.bfloat16
            chosen = contenders(
                score_blocks(queries, rows, dtype, hidden), floor,
                torch.zeros_like(floor) if error is None else error, k,
            )  # fmt: skip
            if chosen is not None:
                scores = chosen.scores
                if error is not None:
                    scores = _scores(queries, rows, chosen.queries, chosen.rows)
                return _best_of(chosen, scores, len(queries), k)
        blocks = score_blocks(queries, rows, torch.float32, hidden)
        return _first_of_the_best(blocks.scores[: len(rows)].T.contiguous(), k)

    def _rounding_error(self, queries: Tensor, rows: Tensor) -> Float[Tensor, " queries"] | None:
        """How far rounded scores may be off, where it pays to round before choosing."""
        is_half, is_worth_it = rows.dtype == torch.float16, len(queries) >= _MANY_QUERIES
        if not (is_half and is_worth_it and is_quicker_rounded(rows.device)):
            return None
        error = rounding_error(queries, self._longest)
        return error if error.isfinite().all() else None

    @cached_property
    def _longest(self) -> float:
        return longest(self.embeddings)


def best_of_few(
    queries: Float[Tensor, "queries dim"], parts: Sequence[ExactIndex], k: int
) -> Found | None:
    """The best rows of a few queries, where there is a kernel for them; there are `k` at least.

    The rows of several indexes count on from one to the next. All of them are scanned before any
    row is chosen: to choose takes as long as to scan thousands of rows.
    """
    rows = [part.embeddings for part in parts]
    is_fit = all(
        each.dtype == torch.float16 and each.device.type == "cpu" and each.is_contiguous()
        for each in rows
    )
    num_rows = sum(map(len, rows))
    is_worth_it = 0 < len(queries) < _MANY_QUERIES and num_rows > k * BLOCK > 0
    if not (is_fit and is_worth_it and kernel()):
        return None
    error = summing_error(queries, max(part._longest for part in parts))
    if not error.isfinite().all():
        return None
    begins = np.cumsum([0, *map(len, rows)]).tolist()
    hidden = [part._hidden + begin for part, begin in zip(parts, begins, strict=False)]
    numbers = scan_for_best(queries, rows, np.concatenate(hidden), error, k)
    if numbers is None:
        return None
    scores = _scores_in_parts(queries, rows, numbers)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # of equal scores the first rows win
    return Found(
        torch.from_numpy(np.take_along_axis(scores, best, axis=1)),
        torch.from_numpy(np.take_along_axis(numbers, best, axis=1)),
    )


def merge(parts: list[Found], k: int) -> Found:
    """Join the results of shards by (score, row)."""
    scores = torch.cat([part.scores for part in parts], dim=-1)
    rows = torch.cat([part.rows for part in parts], dim=-1)
    by_row = rows.argsort(dim=-1, stable=True)
    scores, rows = scores.gather(-1, by_row), rows.gather(-1, by_row)
    by_score = scores.argsort(dim=-1, descending=True, stable=True)[:, :k]
    return Found(scores.gather(-1, by_score), rows.gather(-1, by_score))


def _scores_in_parts(
    queries: Float[Tensor, "queries dim"],
    parts: Sequence[Float[Tensor, "_ dim"]],
    numbers: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Inner products with rows [queries, found] that count on from part to part; -inf for -1."""
    rows, begin = numbers.ravel(), 0
    scores = np.full(len(rows), -np.inf, dtype=np.float32)
    for part in parts:
        here = np.flatnonzero((begin <= rows) & (rows < begin + len(part)))
        query, row = here // numbers.shape[1], rows[here] - begin
        scores[here] = _scores(queries, part, torch.from_numpy(query), torch.from_numpy(row))
        begin += len(part)
    return scores.reshape(numbers.shape)


def _scores(
    queries: Float[Tensor, "queries dim"],
    rows: Float[Tensor, "rows dim"],
    query: Int[Tensor, " pairs"],
    row: Int[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """Inner products of chosen pairs in single precision."""
    # `index_select` copies rows ten times as quickly as indexing does.
    scores = [
        (queries.index_select(0, q) * rows.index_select(0, r).float()).sum(dim=-1)
        for q, r in zip(query.split(_PAIRS), row.split(_PAIRS), strict=True)
    ]
    return torch.cat(scores)


def _best_of(
    chosen: Contenders, scores: Float[Tensor, " pairs"], num_queries: int, k: int
) -> Found:
    """The `k` best of chosen pairs, -inf where a query has fewer."""
    query = chosen.queries
    counts = query.bincount(minlength=num_queries)
    place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
    shape = (num_queries, max(k, int(counts.max())))
    padded = scores.new_full(shape, -torch.inf).index_put((query, place), scores)
    rows = query.new_zeros(shape).index_put((query, place), chosen.rows)
    best = _first_of_the_best(padded, k)
    return Found(best.scores, rows.gather(1, best.rows))


def _first_of_the_best(scores: Float[Tensor, "queries rows"], k: int) -> Found:
    """Like `topk`, which takes any of equal scores at the edge; here the first rows win.

    Copies of a passage have equal scores, so ties are common in real corpora.
    """
    values, rows = scores.topk(k, dim=-1)
    is_contested = (scores >= values[:, -1:]).sum(dim=-1) > k
    if is_contested.any():
        best = scores[is_contested].sort(dim=-1, descending=True, stable=True)
        values[is_contested], rows[is_contested] = best.values[:, :k], best.indices[:, :k]
    return Found(values, rows)
