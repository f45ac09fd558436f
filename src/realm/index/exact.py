"""Which passages have the greatest inner product with a query? Exactly, by looking at all."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
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

_CHUNK = 65_536  # rows whose scores are kept at a time, at least
_SCORES = 1 << 24  # scores kept at a time where queries are few: bounds memory at 64 MB
_PAIRS = 16_384  # scored one by one at a time
_MANY_QUERIES = 16  # from here on multiplying takes longer than reading the rows


@dataclass(frozen=True)
class Found:
    """The best rows of each query, best first; equal scores are ordered by row."""

    scores: Float[Tensor, "queries k"]
    rows: Int[Tensor, "queries k"]


class ExactIndex:
    """Brute-force maximum inner product search over embeddings kept in half width."""

    def __init__(self, embeddings: Float[Tensor, "passages dim"]) -> None:
        self.embeddings = embeddings

    def __len__(self) -> int:
        return int(self.embeddings.shape[0])

    def search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        """The `k` best rows, or all where there are fewer."""
        queries = queries.detach().float()
        parts, size = [], max(_CHUNK, _SCORES // max(1, len(queries)))
        floor = queries.new_full((len(queries),), -torch.inf)
        for begin in range(0, len(self), size):
            rows = self.embeddings[begin : begin + size]
            found = self._best(queries, rows, floor, min(k, len(rows)))
            parts.append(Found(found.scores, found.rows + begin))
            if found.scores.shape[1] == k:
                floor = torch.maximum(floor, found.scores[:, -1])
        return merge(parts, k)

    def _best(
        self,
        queries: Float[Tensor, "queries dim"],
        rows: Float[Tensor, "rows dim"],
        floor: Float[Tensor, " queries"],
        k: int,
    ) -> Found:
        """The best of some rows; what is below the floor may be left out, as -inf."""
        if len(rows) > k * BLOCK:
            error = self._rounding_error(queries, rows)
            dtype = torch.float32 if error is None else torch.bfloat16
            chosen = contenders(
                score_blocks(queries, rows, dtype), floor,
                torch.zeros_like(floor) if error is None else error, k,
            )  # fmt: skip
            if chosen is not None:
                scores = chosen.scores if error is None else _scores(queries, rows, chosen)
                return _best_of(chosen, scores, len(queries), k)
        blocks = score_blocks(queries, rows, torch.float32)
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


def merge(parts: list[Found], k: int) -> Found:
    """Join the results of shards by (score, row)."""
    scores = torch.cat([part.scores for part in parts], dim=-1)
    rows = torch.cat([part.rows for part in parts], dim=-1)
    by_row = rows.argsort(dim=-1, stable=True)
    scores, rows = scores.gather(-1, by_row), rows.gather(-1, by_row)
    by_score = scores.argsort(dim=-1, descending=True, stable=True)[:, :k]
    return Found(scores.gather(-1, by_score), rows.gather(-1, by_score))


def _scores(
    queries: Float[Tensor, "queries dim"], rows: Float[Tensor, "rows dim"], chosen: Contenders
) -> Float[Tensor, " pairs"]:
    """Inner products of chosen pairs in single precision."""
    pieces = zip(chosen.queries.split(_PAIRS), chosen.rows.split(_PAIRS), strict=True)
    return torch.cat([(queries[q] * rows[r].float()).sum(dim=-1) for q, r in pieces])


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
