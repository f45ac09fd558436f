"""Which rows may be among the best of a few queries, by faiss's kernel for half-width rows?

One query takes longer to read the rows than to multiply them, and torch would have to widen them
in memory first. The kernel widens them on the way; it is shown them where they lie, so that
nothing is copied. Its scores differ from ours by the order of a sum: with a bound on that, who
may be among the best is known for certain.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from realm.index.blocks import Contenders

_SPARE = 64  # rows found beyond those asked for: one of them has to be certainly worse
# Fewer are not worth a thread: the workers of torch still wait for more work on the other cores.
_ROWS_OF_A_THREAD = 1 << 20
_MOST_HIDDEN = 4  # one row in so many: where more are hidden, too few others are found beside them


@cache
def kernel() -> Any:
    """The module faiss; None where it is not installed, or too old to be shown rows."""
    try:
        faiss = import_module("faiss")
    except ImportError:
        return None
    return faiss if hasattr(faiss, "MaybeOwnedVectorUInt8") else None


def scan_contenders(
    queries: Float[Tensor, "queries dim"],
    parts: Sequence[Float[Tensor, "_ dim"]],
    hidden: Int[Tensor, " hidden"],
    error: Float[Tensor, " queries"],
    k: int,
) -> Contenders | None:
    """Every pair that may be among the `k` best of its query, in the order of queries and rows.

    Rows count on from part to part, and so do the hidden ones, which ascend.
    `error` is what the kernel's scores may differ by from ours. None where so many are equally
    good that not all of them were found.
    """
    found, num_rows, is_crowded = None, sum(map(len, parts)), True
    if len(hidden) * _MOST_HIDDEN <= num_rows:
        found, is_crowded = _contenders(queries, parts, hidden, None, error, k)
    if is_crowded and len(hidden):
        # Too few of the best can be found: each row is asked, which takes a tenth longer.
        is_found = torch.ones(num_rows, dtype=torch.bool).index_fill_(0, hidden, False)
        found, _ = _contenders(queries, parts, hidden, is_found, error, k)
    return found


def _contenders(
    queries: Float[Tensor, "queries dim"],
    parts: Sequence[Float[Tensor, "_ dim"]],
    hidden: Int[Tensor, " hidden"],
    is_found: Tensor | None,
    error: Float[Tensor, " queries"],
    k: int,
) -> tuple[Contenders | None, bool]:
    """The same, with hidden rows left out of what was found, or (`is_found`) never looked at.

    And whether it may be for the hidden rows that there is nothing, not for equally good ones.
    """
    num_rows = sum(map(len, parts))
    num_threads = min(torch.get_num_threads(), 1 + num_rows // _ROWS_OF_A_THREAD)
    pieces = [piece for rows in parts for piece in rows.split(-(-num_rows // num_threads))]
    lengths = [len(piece) for piece in pieces]
    scan = partial(_scan, queries.contiguous(), k=k + _SPARE)
    shares = [None] * len(pieces) if is_found is None else is_found.split(lengths)
    if num_threads == 1:  # on a busy machine a new thread waits for its turn
        scanned = list(map(scan, pieces, shares))
    else:
        with ThreadPoolExecutor(num_threads) as threads:
            scanned = list(threads.map(scan, pieces, shares))
    scores = torch.cat([part[0] for part in scanned], dim=1)
    begins = np.cumsum([0, *lengths[:-1]]).tolist()
    numbers = torch.cat(
        [_counted_on(part[1], begin) for part, begin in zip(scanned, begins, strict=True)], dim=1
    )
    can_be_found = (numbers >= 0) & ~_is_among(numbers, hidden)
    best = scores.where(can_be_found, -torch.inf).topk(k, dim=1).values
    least = best[:, -1:] - 2 * error[:, None]
    # What a part left out is no better than the worst that it kept, if it kept all it was to.
    if any(((part[0][:, -1:] >= least) & (part[1][:, -1:] >= 0)).any() for part in scanned):
        num_hidden = ((numbers >= 0) & ~can_be_found).sum(dim=1)
        return None, int(num_hidden.max()) > _SPARE // 2
    numbers, order = numbers.sort(dim=1)
    scores, can_be_found = scores.gather(1, order), can_be_found.gather(1, order)
    query, place = ((scores >= least) & can_be_found).nonzero(as_tuple=True)
    return Contenders(query, numbers[query, place], scores[query, place]), False


def _is_among(
    numbers: Int[Tensor, "queries found"], hidden: Int[Tensor, " hidden"]
) -> Bool[Tensor, "queries found"]:
    """Whether each number is one of these, which ascend."""
    if not len(hidden):
        return torch.zeros_like(numbers, dtype=torch.bool)
    place = torch.searchsorted(hidden, numbers.contiguous()).clamp(max=len(hidden) - 1)
    return hidden[place] == numbers


def summing_error(
    queries: Float[Tensor, "queries dim"], longest_row: float
) -> Float[Tensor, " queries"]:
    """How far two sums of the same products in single precision may lie apart."""
    lengths: Tensor = queries.norm(dim=-1)
    return 2 * queries.shape[1] * 2.0**-24 * longest_row * lengths


def _scan(
    queries: Float[Tensor, "queries dim"],
    rows: Float[Tensor, "rows dim"],
    is_found: Tensor | None,
    *,
    k: int,
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Scores and numbers of the best of these rows, best first; -1 where there are fewer."""
    faiss = kernel()
    index = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    codes: NDArray[np.uint8] = rows.numpy().view(np.uint8).reshape(-1)
    nobody = faiss.MaybeOwnedVectorUInt8().owner  # the rows stay ours
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(codes), len(codes), nobody)
    index.ntotal = len(rows)
    index.is_trained = True
    parameters = None
    if is_found is not None:
        bits = np.packbits(is_found.numpy(), bitorder="little")
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
    # faiss would share out the queries among threads, and there is one of them as a rule.
    num_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    scores, numbers = index.search(queries.numpy(), k, params=parameters)
    faiss.omp_set_num_threads(num_threads)
    found = torch.from_numpy(scores), torch.from_numpy(numbers)
    return found[0].masked_fill(found[1] < 0, -torch.inf), found[1]


def _counted_on(numbers: Int[Tensor, "queries k"], begin: int) -> Int[Tensor, "queries k"]:
    """Numbers among all rows, of rows that were numbered among those from `begin` on."""
    return torch.where(numbers < 0, numbers, numbers + begin)
