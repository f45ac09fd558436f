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
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

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


def scan_for_best(
    queries: Float[Tensor, "queries dim"],
    parts: Sequence[Float[Tensor, "_ dim"]],
    hidden: NDArray[np.int64],
    error: Float[Tensor, " queries"],
    k: int,
) -> NDArray[np.int64] | None:
    """Rows among which are the `k` best of each query, ascending: [queries, found].

    -1, which comes first, stands for hidden rows and where there are fewer. Rows count on from part
    to part, and so do the hidden ones, which ascend.
    `error` is what the kernel's scores may differ by from ours. None where so many are equally
    good that not all of them were found.
    """
    found, num_rows, is_crowded = None, sum(map(len, parts)), True
    if len(hidden) * _MOST_HIDDEN <= num_rows:
        found, is_crowded = _find(queries, parts, hidden, None, error, k)
    if is_crowded and len(hidden):
        # Too few of the best can be found: each row is asked, which takes a tenth longer.
        is_found = np.ones(num_rows, dtype=bool)
        is_found[hidden] = False
        found, _ = _find(queries, parts, hidden, is_found, error, k)
    return found


def _find(
    queries: Float[Tensor, "queries dim"],
    parts: Sequence[Float[Tensor, "_ dim"]],
    hidden: NDArray[np.int64],
    is_found: NDArray[np.bool_] | None,
    error: Float[Tensor, " queries"],
    k: int,
) -> tuple[NDArray[np.int64] | None, bool]:
    """The same, with hidden rows left out of what was found, or (`is_found`) never looked at.

    And whether it may be for the hidden rows that there is nothing, not for equally good ones.
    """
    num_rows = sum(map(len, parts))
    num_threads = min(torch.get_num_threads(), 1 + num_rows // _ROWS_OF_A_THREAD)
    pieces = [piece for rows in parts for piece in rows.split(-(-num_rows // num_threads))]
    begins = np.cumsum([0, *map(len, pieces[:-1])]).tolist()
    scan = partial(_scan, queries.contiguous(), k=k + _SPARE)
    shares = [None] * len(pieces) if is_found is None else np.split(is_found, begins[1:])
    if num_threads == 1:  # on a busy machine a new thread waits for its turn
        scanned = list(map(scan, pieces, begins, shares))
    else:
        with ThreadPoolExecutor(num_threads) as threads:
            scanned = list(threads.map(scan, pieces, begins, shares))
    # A hundred numbers a query: torch would spend more time on beginning than on computing.
    scores, numbers = (np.concatenate(both, axis=1) for both in zip(*scanned, strict=True))
    is_hidden = _is_among(numbers, hidden)
    best = np.where(is_hidden, -np.inf, scores)
    least = np.partition(best, -k, axis=1)[:, -k, None] - 2 * error.numpy()[:, None]
    # What a part left out is no better than the worst that it kept; -inf where it kept all.
    if any((part[:, -1:] >= least).any() for part, _ in scanned):
        return None, int(is_hidden.sum(axis=1).max()) > _SPARE // 2
    return np.sort(np.where(is_hidden, -1, numbers), axis=1), False


def _is_among(numbers: NDArray[np.int64], hidden: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each number [queries, found] is one of these, which ascend."""
    if not len(hidden):
        return np.zeros_like(numbers, dtype=bool)
    place = np.searchsorted(hidden, numbers).clip(max=len(hidden) - 1)
    return np.asarray(hidden[place] == numbers)


def summing_error(
    queries: Float[Tensor, "queries dim"], longest_row: float
) -> Float[Tensor, " queries"]:
    """How far two sums of the same products in single precision may lie apart."""
    lengths: Tensor = queries.norm(dim=-1)
    return 2 * queries.shape[1] * 2.0**-24 * longest_row * lengths


def _scan(
    queries: Float[Tensor, "queries dim"],
    rows: Float[Tensor, "rows dim"],
    begin: int,
    is_found: NDArray[np.bool_] | None,
    *,
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and numbers of the best of these rows, counted from `begin` on, best first.

    Both are [queries, k]; -inf and -1 where there are fewer.
    """
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
        bits = np.packbits(is_found, bitorder="little")
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
    # faiss would share out the queries among threads, and there is one of them as a rule.
    num_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    scores, numbers = index.search(queries.numpy(), k, params=parameters)
    faiss.omp_set_num_threads(num_threads)
    is_missing = numbers < 0
    return np.where(is_missing, -np.inf, scores), np.where(is_missing, -1, numbers + begin)
