"""Null first, never the own passage, each text once, exactly as many as asked for."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from realm.index.exact import ExactIndex, Found
from realm.retrieval.candidates import NULL_ROW, choose_candidates, find_candidates


def choose(
    found: list[list[int]], own: list[int], hashes: list[int], num_candidates: int
) -> list[list[int]]:
    own_hashes = [hashes[row] for row in own]
    content_hashes = np.array(hashes, dtype=np.uint64)
    chosen = choose_candidates(torch.tensor(found), own_hashes, content_hashes, num_candidates)
    rows: list[list[int]] = chosen.tolist()
    return rows


def test_by_hand() -> None:
    # Passages 1 and 4 are copies of each other.
    hashes = [10, 11, 12, 13, 11, 15]
    assert choose([[3, 1, 4, 0, 5]], [1], hashes, 3) == [[NULL_ROW, 3, 0]]
    assert choose([[3, 1, 4, 0, 5]], [4], hashes, 4) == [[NULL_ROW, 3, 0, 5]]
    assert choose([[3, 1, 4, 0, 5]], [2], hashes, 4) == [[NULL_ROW, 3, 1, 0]]
    # The null passage fills up what a tiny corpus lacks; a row that was not found is no passage.
    assert choose([[1, 4, 0]], [1], hashes, 4) == [[NULL_ROW, 0, NULL_ROW, NULL_ROW]]
    assert choose([[2, -1, -1]], [0], hashes, 3) == [[NULL_ROW, 2, NULL_ROW]]
    assert choose([[2, 3]], [0], hashes, 1) == [[NULL_ROW]]


def test_the_own_passage_is_known_by_its_content() -> None:
    # The greatest hash there is; a query from another corpus, or from none, has no copy here.
    hashes = np.array([2**64 - 1, 7, 2**64 - 1], dtype=np.uint64)
    found, own = torch.tensor([[0, 1, 2]] * 3), [2**64 - 1, 8, None]
    chosen = choose_candidates(found, own, hashes, 3)
    assert chosen.tolist() == [[NULL_ROW, 1, NULL_ROW], [NULL_ROW, 0, 1], [NULL_ROW, 0, 1]]


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 12))
def test_in_general(seed: int, num_candidates: int, num_found: int) -> None:
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 9, 12).tolist()
    found = [generator.permutation(12)[:num_found].tolist() for _ in range(4)]
    own = generator.integers(0, 12, 4).tolist()
    for query, chosen in enumerate(choose(found, own, hashes, num_candidates)):
        assert len(chosen) == num_candidates
        assert chosen[0] == NULL_ROW
        rows = [row for row in chosen[1:] if row != NULL_ROW]
        assert chosen[1 : 1 + len(rows)] == rows, "the null passage fills up the end"
        allowed: list[int] = []
        for row in found[query]:
            if hashes[row] not in [hashes[other] for other in (own[query], *allowed)]:
                allowed.append(row)
        assert rows == allowed[: num_candidates - 1]


class CountingIndex(ExactIndex):
    """Remembers how many queries it was asked for at a time, and how many rows."""

    def __init__(self, embeddings: torch.Tensor) -> None:
        super().__init__(embeddings)
        self.asked: list[tuple[int, int]] = []

    def search(self, queries: torch.Tensor, k: int) -> Found:
        self.asked.append((len(queries), k))
        return super().search(queries, k)


def test_what_lies_under_copies_is_found() -> None:
    """A query cut from boilerplate, one near it, and one that is far from it."""
    num_copies, num_others = 300, 6
    hashes = np.array([7] * num_copies + list(range(20, 20 + num_others)), dtype=np.uint64)
    embeddings = torch.zeros(len(hashes), 2)
    embeddings[:num_copies, 0] = 1.0
    embeddings[num_copies:, 1] = torch.arange(num_others, 0, -1).float()
    index = CountingIndex(embeddings)
    near, far = torch.tensor([9.0, 1.0]), torch.tensor([0.0, 1.0])
    rows = find_candidates(index, torch.stack((near, near, far)), [7, None, 21], hashes, 4)
    others = list(range(num_copies, num_copies + num_others))
    assert rows.tolist() == [
        [NULL_ROW, *others[:3]],
        [NULL_ROW, 0, *others[:2]],
        [NULL_ROW, others[0], *others[2:4]],
    ]
    # The far query found enough at once, and is not asked again.
    assert [number for number, _ in index.asked] == [3, 2, 2]


def test_a_search_that_found_everything_is_not_repeated() -> None:
    index = CountingIndex(torch.eye(3))
    hashes = np.array([5, 5, 5], dtype=np.uint64)
    rows = find_candidates(index, torch.eye(3), [5, None, 6], hashes, 4)
    assert rows.tolist() == [[NULL_ROW] * 4, [NULL_ROW, 1, -1, -1], [NULL_ROW, 2, -1, -1]]
    assert len(index.asked) == 1


def test_the_null_passage_alone_needs_no_search() -> None:
    index = CountingIndex(torch.eye(3))
    rows = find_candidates(index, torch.eye(3), [None] * 3, np.arange(3).astype(np.uint64), 1)
    assert rows.tolist() == [[NULL_ROW]] * 3
    assert not index.asked
