"""Several indexes searched as one find what one index of all rows finds."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from realm.index.exact import ExactIndex
from realm.living.view import JointIndex


# Small whole numbers: sums are exact in any order, and many scores are equal.
def some_vectors(seed: int, count: int) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(-2, 3, (count, 4))
    return torch.from_numpy(values.astype(np.float16))


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    k=st.sampled_from([1, 2, 4, 30]),  # few of many are looked for by the kernel for that
    num_queries=st.sampled_from([1, 3, 20]),
    share_hidden=st.sampled_from([0.0, 0.2]),
)
def test_parts_find_what_the_whole_finds(
    seed: int, sizes: list[int], k: int, num_queries: int, share_hidden: float
) -> None:
    parts = [some_vectors(seed + number, size) for number, size in enumerate(sizes)]
    queries = some_vectors(seed + 100, num_queries).float()
    draw = np.random.default_rng(seed)
    hidden = [np.flatnonzero(draw.random(size) < share_hidden) for size in sizes]
    begins = np.cumsum([0, *sizes])
    everything = np.concatenate([rows + begin for rows, begin in zip(hidden, begins, strict=False)])
    indexes = [ExactIndex(p).without(h) for p, h in zip(parts, hidden, strict=True)]
    joint = JointIndex(indexes, begins[:-1].tolist())
    whole = ExactIndex(torch.cat(parts)).without(everything)
    found, expected = joint.search(queries, k), whole.search(queries, k)
    assert len(joint) == len(whole)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.rows, expected.rows)
