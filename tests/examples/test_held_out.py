"""Do all trainings leave the same passages alone?"""

import numpy as np
import pytest

from realm.corpus.store import PassageStore
from realm.examples.held_out import split_rows


class Corpus:
    """Documents of equal length."""

    def __init__(self, num_documents: int, passages_each: int) -> None:
        self.num_documents = num_documents
        self._rows = np.repeat(np.arange(num_documents), passages_each)

    def document_rows(self) -> np.ndarray:
        return self._rows


@pytest.mark.parametrize("num_documents", [1, 20, 500])
def test_whoever_asks_the_same_passages_are_held_out(num_documents: int) -> None:
    store = Corpus(num_documents, 100)
    everything = np.arange(100 * num_documents)
    some = everything[everything % 3 != 1]  # those with a span, or of two sentences
    held_out = []
    for rows in (everything, some):
        train, held = split_rows(rows, store)  # type: ignore[arg-type]
        assert sorted([*train, *held]) == rows.tolist()
        assert 0 < len(held) < 0.05 * len(rows) + 2
        held_out.append(set(held.tolist()))
    assert held_out[1] == held_out[0] & set(some.tolist())


def test_of_few_passages_one_is_held_out(small_store: PassageStore) -> None:
    rows = np.array([3, 5, 7])
    train, held = split_rows(rows, small_store)
    assert (train.tolist(), held.tolist()) == ([5, 7], [3])
