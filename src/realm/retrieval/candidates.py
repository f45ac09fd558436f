"""Which passages is a masked query read with?

The null passage first, then the best found ones without the passage that the query was cut
from, always exactly `num_candidates` (section 3.4), each text once. "The same passage" means the
same title and text: a copy of it elsewhere, even in another corpus, would give the answer away
just as well, and copies of a candidate would fill the places of others.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from realm.index.exact import Index

NULL_ROW = -1
_SPARE = 8  # found beyond what is needed, since the own passage and copies are dropped
# Times as deep for a query that lacks candidates, and how deep at most. Boilerplate may stand in a
# corpus a thousand times; what lies under more copies than that is not worth the search.
_DEEPER, _DEEPEST = 8, 4096


def find_candidates(
    index: Index,
    vectors: Float[Tensor, "queries dim"],
    own_hashes: Sequence[int | None],
    content_hashes: np.ndarray,
    num_candidates: int,
) -> Int[Tensor, "queries num_candidates"]:
    """Search for the candidates of each query, deeper where copies stand before others.

    `own_hashes` are the content hashes of the passages that the queries were cut from, None for a
    query that comes from none. The null passage has row -1; it also fills up where a corpus has
    too few other texts, or too many copies of one.
    """
    chosen = torch.full((len(own_hashes), num_candidates), NULL_ROW)
    lacking = torch.arange(len(own_hashes) if num_candidates > 1 else 0)
    depth = num_candidates + _SPARE
    while len(lacking):
        found = index.search(vectors[lacking], depth).rows
        own = [own_hashes[query] for query in lacking.tolist()]
        chosen[lacking] = choose_candidates(found, own, content_hashes, num_candidates)
        if found.shape[1] < depth or depth >= _DEEPEST:  # that was all
            break
        may_find_more = (chosen[lacking, -1] == NULL_ROW) & (found[:, -1] >= 0)
        lacking, depth = lacking[may_find_more], _DEEPER * depth
    return chosen


def choose_candidates(
    found: Int[Tensor, "queries found"],
    own_hashes: Sequence[int | None],
    content_hashes: np.ndarray,
    num_candidates: int,
) -> Int[Tensor, "queries num_candidates"]:
    """Rows of the candidates of each query among those that were found, best first."""
    chosen = torch.full((len(own_hashes), num_candidates), NULL_ROW)
    for query, own in enumerate(own_hashes):
        rows = found[query].numpy()
        rows = rows[rows >= 0]
        _, firsts = np.unique(content_hashes[rows], return_index=True)
        rows = rows[np.sort(firsts)]
        if own is not None:
            rows = rows[content_hashes[rows] != own]
        rows = rows[: num_candidates - 1]
        chosen[query, 1 : 1 + len(rows)] = torch.from_numpy(rows)
    return chosen
