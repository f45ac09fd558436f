"""Exact search against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from realm.index import exact
from realm.index.exact import ExactIndex, Found, merge


def by_numpy(embeddings: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Best first, equal scores by row."""
    scores = queries.astype(np.float32) @ embeddings.astype(np.float32).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


# Small whole numbers: sums are exact in any order, and many scores are equal.
def some_vectors(seed: int, count: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2, 3, (count, width)).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 100), st.integers(1, 90))
def test_the_best_rows_are_those_of_numpy(seed: int, count: int, k: int, chunk: int) -> None:
    embeddings, queries = some_vectors(seed, count), some_vectors(seed + 1, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_SCORES", 2 * chunk)
        patch.setattr(exact, "_QUERIES", 2)  # of three
        found = ExactIndex(torch.from_numpy(embeddings)).search(torch.from_numpy(queries), k)
    scores, rows = by_numpy(embeddings, queries, k)
    assert found.rows.tolist() == rows.tolist()
    assert found.scores.tolist() == scores.tolist()


@pytest.mark.parametrize("rows", [64 * 30, 64 * 30 + 1])
def test_the_best_are_found_by_blocks_too(rows: int) -> None:
    embeddings, queries = some_vectors(2, rows), some_vectors(3, 4)
    found = ExactIndex(torch.from_numpy(embeddings)).search(torch.from_numpy(queries), 20)
    scores, best = by_numpy(embeddings, queries, 20)
    assert found.rows.tolist() == best.tolist()
    assert found.scores.tolist() == scores.tolist()


def test_half_width_embeddings_are_scored_in_single_precision() -> None:
    embeddings = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)).half()
    queries = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    found = ExactIndex(embeddings).search(queries, 10)
    scores, rows = by_numpy(embeddings.numpy(), queries.numpy(), 10)
    assert found.rows.tolist() == rows.tolist()
    torch.testing.assert_close(found.scores, torch.from_numpy(scores))


def test_equal_scores_are_ordered_by_row() -> None:
    embeddings = torch.tensor([[1.0], [2.0], [1.0], [2.0], [1.0]]).repeat(200, 1)
    found = ExactIndex(embeddings).search(torch.tensor([[1.0], [-1.0]]), 5)
    assert found.rows.tolist() == [[1, 3, 6, 8, 11], [0, 2, 4, 5, 7]]


def test_sharded_equals_whole() -> None:
    embeddings, queries = some_vectors(0, 100), torch.from_numpy(some_vectors(1, 7))
    whole = ExactIndex(torch.from_numpy(embeddings)).search(queries, 12)
    parts = []
    for rows in np.array_split(np.arange(100), 3):
        part = ExactIndex(torch.from_numpy(embeddings[rows])).search(queries, 12)
        parts.append(Found(part.scores, part.rows + int(rows[0])))
    for order in (parts, parts[::-1]):
        merged = merge(order, 12)
        assert torch.equal(merged.rows, whole.rows)
        assert torch.equal(merged.scores, whole.scores)


def test_fewer_passages_than_asked_for() -> None:
    found = ExactIndex(torch.eye(3)).search(torch.eye(3)[:1], 10)
    assert found.rows.tolist() == [[0, 1, 2]]


def test_queries_with_a_graph_give_results_without_one() -> None:
    queries = torch.eye(3, requires_grad=True)
    assert not ExactIndex(torch.eye(3)).search(queries, 1).scores.requires_grad


def test_rows_and_scores_have_one_shape() -> None:
    with pytest.raises(TypeCheckError):
        Found(torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.int64))


def test_hidden_rows_take_no_place() -> None:
    """As if they had never been there; the chunk is small, so that they stand in several."""
    generator = torch.Generator().manual_seed(1)
    # Small whole numbers: sums are exact, and equal scores are common.
    embeddings = torch.randint(-2, 3, (40, 4), generator=generator).half()
    queries = torch.randint(-2, 3, (5, 4), generator=generator).float()
    hidden = np.array([0, 3, 4, 5, 6, 7, 8, 21, 39])
    kept = np.delete(np.arange(40), hidden)
    index = ExactIndex(embeddings).without(hidden)
    expected = ExactIndex(embeddings[torch.from_numpy(kept)])
    assert len(index) == len(expected) == 31
    for k in (1, 4, 31, 40):
        ours, theirs = index.search(queries, k), expected.search(queries, k)
        assert torch.equal(ours.scores, theirs.scores)
        assert torch.equal(ours.rows, torch.from_numpy(kept)[theirs.rows])


def test_all_rows_can_be_hidden() -> None:
    index = ExactIndex(torch.ones(3, 2).half()).without(np.arange(3))
    assert index.search(torch.ones(1, 2), 5).rows.shape == (1, 0)


@pytest.mark.parametrize("num_queries", [4, 20])  # few are scanned, many multiplied
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_found_early_does_not_hide_what_comes_later(
    monkeypatch: pytest.MonkeyPatch, num_queries: int, dtype: torch.dtype
) -> None:
    """Several parts of many blocks each, and rows that are never found in all of them."""
    embeddings, queries = some_vectors(5, 64 * 90, width=6), some_vectors(6, num_queries, width=6)
    monkeypatch.setattr(exact, "_SCORES", num_queries * 64 * 30)
    edges = [end + place for end in (64 * 30, 64 * 60, 64 * 90) for place in (-1, -2)]
    embeddings[edges] = 3 * np.sign(queries[0])  # nothing would be better for the first query
    hidden = np.unique([*range(0, 64 * 90, 7), *edges])
    index = ExactIndex(torch.from_numpy(embeddings).to(dtype)).without(hidden)
    found = index.search(torch.from_numpy(queries), 10)
    left = np.setdiff1d(np.arange(len(embeddings)), hidden)
    scores, best = by_numpy(embeddings[left], queries, 10)
    assert found.scores.tolist() == scores.tolist()
    assert found.rows.tolist() == left[best].tolist()
