"""Which rows can be among the best at all, judged by the greatest score of each block of rows?

The k best rows stand in blocks whose greatest score is at least the k-th greatest of all blocks, so
most scores are never sorted. Scores of vectors rounded to bfloat16, which some processors multiply
several times as fast, do as well: their error is bounded, and who may be among the best is known
for certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64  # rows of which only the greatest score is looked at first
_WIDENED = 4_096  # rows converted at a time: they stay in a core's cache
# A number is rounded by 2**-8 of its size at most; a little more, for the sums of the products.
_ERROR = 1.1 * 2.0**-8
_MOST_SHARE = 1 / 2  # of all blocks; where more are nearly equal, nothing is gained


@dataclass(frozen=True)
class BlockScores:
    """Scores of all rows, -inf to the end of the last block, and the greatest of each block."""

    scores: Float[Tensor, "rows queries"]
    maxima: Float[Tensor, "queries blocks"]


@dataclass(frozen=True)
class Contenders:
    """Pairs that may be among the best of their query, in the order of queries and rows."""

    queries: Int[Tensor, " pairs"]
    rows: Int[Tensor, " pairs"]
    scores: Float[Tensor, " pairs"]


def score_blocks(
    queries: Float[Tensor, "queries dim"],
    rows: Float[Tensor, "rows dim"],
    dtype: torch.dtype,
    hidden: Int[Tensor, " hidden"],
) -> BlockScores:
    """Inner products in a number format to which the rows are converted a few at a time.

    Converted all at once they would go to memory and back, which takes longer than to multiply.
    The scores of hidden rows, given in ascending order, are -inf.
    """
    queries = queries.to(dtype)
    num_blocks = -(-len(rows) // BLOCK)
    scores = queries.new_empty(num_blocks * BLOCK, len(queries))
    scores[len(rows) :] = -torch.inf
    maxima = queries.new_empty(num_blocks, len(queries))
    hidden_by_part = _by_part(hidden, len(rows))
    for begin in range(0, len(rows), _WIDENED):
        # By way of single precision, since torch has no quick conversion between the halves.
        part = rows[begin : begin + _WIDENED].float().to(dtype)
        torch.mm(part, queries.T, out=scores[begin : begin + len(part)])
        scores.index_fill_(0, hidden_by_part[begin // _WIDENED], -torch.inf)
        blocks = slice(begin // BLOCK, (begin + _WIDENED) // BLOCK)
        by_block = scores[begin : begin + _WIDENED].unflatten(0, (-1, BLOCK))
        torch.amax(by_block, dim=1, out=maxima[blocks])
    return BlockScores(scores, maxima.T.float().contiguous())


def _by_part(hidden: Int[Tensor, " hidden"], num_rows: int) -> Sequence[Tensor]:
    """The hidden rows among those that are converted together."""
    ends = _WIDENED * torch.arange(1, -(-num_rows // _WIDENED), device=hidden.device)
    return hidden.tensor_split(torch.searchsorted(hidden, ends).cpu())


def contenders(
    blocks: BlockScores, floor: Float[Tensor, " queries"], error: Float[Tensor, " queries"], k: int
) -> Contenders | None:
    """Every pair that may be among the `k` best of its query; there are more blocks than `k`.

    `floor` is a score that `k` other rows are known to have, `error` what scores may be wrong by
    before they are rounded themselves. None where so many are equally good that nothing is gained.
    """

    def lowered(scores: Tensor) -> Tensor:
        own_rounding = torch.finfo(blocks.scores.dtype).eps / 2 * scores.abs()
        return scores - error - own_rounding.nan_to_num(posinf=0)

    # In k blocks some row shows at least this, so k rows have it truly, but for the error; and
    # whoever is as good shows it, but for the error.
    own_floor = lowered(blocks.maxima.topk(k, dim=-1).values[:, -1])
    least = lowered(torch.maximum(own_floor, floor))
    query, block = (blocks.maxima >= least[:, None]).nonzero(as_tuple=True)
    if len(query) > _MOST_SHARE * blocks.maxima.numel():
        return None
    scores = blocks.scores.unflatten(0, (-1, BLOCK))[block, :, query].float()
    pair, place = (scores >= least[query, None]).nonzero(as_tuple=True)
    return Contenders(query[pair], block[pair] * BLOCK + place, scores[pair, place])


def rounding_error(
    queries: Float[Tensor, "queries dim"], longest_row: float
) -> Float[Tensor, " queries"]:
    """How far products of vectors rounded to bfloat16 may be from the true ones."""
    rounded = queries.bfloat16().float()
    of_queries: Tensor = (queries - rounded).norm(dim=-1)
    of_rows: Tensor = _ERROR * rounded.norm(dim=-1)
    return longest_row * (of_queries + of_rows)


def longest(rows: Float[Tensor, "rows dim"]) -> float:
    """Length of the longest row."""
    return max(float(part.float().norm(dim=-1).max()) for part in rows.split(8 * _WIDENED))


def is_quicker_rounded(device: torch.device) -> bool:
    """Whether this processor has units for bfloat16: the same on every run, unlike a stopwatch."""
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
