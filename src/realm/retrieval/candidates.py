"""Which passages is a masked query read with?

The null passage first, then the best found ones without the passage that the query was cut
from, always exactly `num_candidates` (section 3.4). "The same passage" means the same title and
text: a copy of it elsewhere, even in another corpus, would give the answer away just as well.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

NULL_ROW = -1


def choose_candidates(
    found: Int[Tensor, "queries found"],
    own_hashes: Sequence[int | None],
    content_hashes: np.ndarray,
    num_candidates: int,
) -> Int[Tensor, "queries num_candidates"]:
    """Rows of the candidates of each query; the null passage has row -1.

    `own_hashes` are the content hashes of the passages that the queries were cut from, None for a
    query that comes from none. Where too few passages are left, which only happens in a tiny
    corpus, the null passage fills up.
    """
    chosen = torch.full((len(own_hashes), num_candidates), NULL_ROW)
    for query, own in enumerate(own_hashes):
        rows = found[query].numpy()
        rows = rows[rows >= 0]
        if own is not None:
            rows = rows[content_hashes[rows] != own]
        rows = rows[: num_candidates - 1]
        chosen[query, 1 : 1 + len(rows)] = torch.from_numpy(rows)
    return chosen
