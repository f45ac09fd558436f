"""Which passages is a masked query read with?

The null passage first, then the best found ones without the passage that the query was cut
from, always exactly `num_candidates` (section 3.4). "The same passage" means the same title and
text: a copy of it elsewhere in the corpus would give the answer away just as well.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

NULL_ROW = -1


def choose_candidates(
    found: Int[Tensor, "queries found"],
    own_rows: Sequence[int],
    content_hashes: np.ndarray,
    num_candidates: int,
) -> Int[Tensor, "queries num_candidates"]:
    """Rows of the candidates of each query; the null passage has row -1.

    Where too few are left, which only happens in a tiny corpus, the null passage fills up.
    """
    chosen = torch.full((len(own_rows), num_candidates), NULL_ROW)
    for query, own in enumerate(own_rows):
        rows = found[query].numpy()
        rows = rows[(rows >= 0) & (content_hashes[rows] != content_hashes[own])]
        rows = rows[: num_candidates - 1]
        chosen[query, 1 : 1 + len(rows)] = torch.from_numpy(rows)
    return chosen
