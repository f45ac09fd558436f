"""Each example once an epoch, whoever takes which share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realm.examples.stream import batch_at, generator_at


def positions(
    num_examples: int, batch_size: int, num_steps: int, *, seed: int = 0, size: int = 1
) -> list[int]:
    """What a group of processes sees in a number of steps, in order."""
    return [
        int(example)
        for step in range(num_steps)
        for rank in range(size)
        for example in batch_at(
            num_examples, batch_size, step=step, seed=seed, rank=rank, size=size
        )
    ]


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4), st.integers(0, 3))
def test_each_example_once_an_epoch(
    num_examples: int, batch_size: int, size: int, seed: int
) -> None:
    num_steps = -(-3 * num_examples // (batch_size * size))
    seen = positions(num_examples, batch_size, num_steps, seed=seed, size=size)
    for epoch in range(3):
        part = seen[epoch * num_examples : (epoch + 1) * num_examples]
        assert sorted(part) == list(range(num_examples))


@given(st.integers(1, 30), st.integers(1, 5), st.integers(2, 4))
def test_sharded_is_whole(num_examples: int, batch_size: int, size: int) -> None:
    whole = positions(num_examples, batch_size * size, 5)
    assert positions(num_examples, batch_size, 5, size=size) == whole


def test_epochs_and_seeds_differ() -> None:
    one = positions(50, 10, 10)
    assert one[:50] != one[50:]
    assert one != positions(50, 10, 10, seed=1)
    assert one == positions(50, 10, 10)


def test_a_step_needs_no_step_before_it() -> None:
    in_order = [batch_at(20, 3, step=step, seed=4).tolist() for step in range(30)]
    for step in (29, 3, 17):
        assert batch_at(20, 3, step=step, seed=4).tolist() == in_order[step]


def test_randomness_belongs_to_seed_step_and_example() -> None:
    def draw(step: int, seed: int, example: int) -> float:
        return float(generator_at(step, seed, example).random())

    draws = [draw(*key) for key in np.ndindex(3, 3, 3)]
    assert len(set(draws)) == 27
    assert draw(1, 2, 0) == draw(1, 2, 0)
