"""Which examples make up the batch of a step?

A function of (seed, step) alone: the epoch's permutation, cut into batches, of which each
process takes its share. So a data position is the number of a step, and resuming needs no more.
"""

from functools import lru_cache

import numpy as np


def batch_at(
    num_examples: int, batch_size: int, *, step: int, seed: int, rank: int = 0, size: int = 1
) -> np.ndarray:
    """Indices of this process's examples at a step; every epoch sees each example once."""
    first = (step * size + rank) * batch_size
    positions = np.arange(first, first + batch_size)
    return np.array(
        [
            _permutation(num_examples, seed, int(p // num_examples))[p % num_examples]
            for p in positions
        ]
    )


def generator_at(step: int, seed: int, example: int) -> np.random.Generator:
    """The randomness of one example at one step."""
    return np.random.default_rng((seed, step, example))


@lru_cache(maxsize=4)
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, num_examples)).permutation(num_examples)
