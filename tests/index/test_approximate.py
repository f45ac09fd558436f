"""Approximate search misses little, and what it finds is scored exactly."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from realm.errors import ResourceError
from realm.index.approximate import ApproximateIndex, Cells, find_cells
from realm.index.exact import ExactIndex


def clustered(count: int, width: int = 16, clusters: int = 40) -> torch.Tensor:
    """Vectors of length one that lie in groups, as those of passages do."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(clusters, width))
    vectors = centres[generator.integers(clusters, size=count)]
    vectors = vectors + 0.4 * generator.normal(size=(count, width))
    return torch.nn.functional.normalize(torch.from_numpy(vectors).float(), dim=-1)


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    return clustered(6000)


def recall(index: ApproximateIndex, exact: ExactIndex, queries: torch.Tensor, k: int) -> float:
    wanted, found = exact.search(queries, k).rows, index.search(queries, k).rows
    hits = [len(np.intersect1d(w, f)) for w, f in zip(wanted.numpy(), found.numpy(), strict=True)]
    return float(np.mean(hits)) / k


def test_recall_against_exact_search(vectors: torch.Tensor) -> None:
    queries = vectors[::60] + 0.05 * torch.randn(100, 16, generator=torch.manual_seed(0))
    exact = ExactIndex(vectors)
    few, many = (ApproximateIndex(vectors, probes=probes) for probes in (1, 16))
    assert len(few) == 6000
    assert recall(many, exact, queries, 10) > 0.97
    assert recall(many, exact, queries, 10) >= recall(few, exact, queries, 10) > 0.5


def test_all_cells_are_exact_search(vectors: torch.Tensor) -> None:
    queries = vectors[:20]
    approximate = ApproximateIndex(vectors.half(), probes=10_000).search(queries, 5)
    exact = ExactIndex(vectors.half()).search(queries, 5)
    assert torch.equal(approximate.rows, exact.rows)
    torch.testing.assert_close(approximate.scores, exact.scores)


def test_what_is_not_found_has_no_row(vectors: torch.Tensor) -> None:
    # One cell of some ninety is looked at: it does not hold 6000 passages.
    found = ApproximateIndex(vectors, probes=1).search(vectors[:2], 7000)
    assert found.rows.shape == (2, 6000)
    is_missing = found.rows == -1
    assert is_missing.any()
    assert (found.scores[is_missing] == -torch.inf).all()
    assert found.scores[~is_missing].isfinite().all()


def test_faiss_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ResourceError, match=r"faiss-cpu.*index\.kind=exact"):
        ApproximateIndex(torch.eye(3))


def test_hidden_rows_are_never_found() -> None:
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(300, 8, generator=generator).half()
    queries = torch.randn(4, 8, generator=generator)
    index = ApproximateIndex(embeddings, probes=1_000)  # all cells: the best are found
    hidden = np.unique(index.search(queries, 3).rows.numpy())
    kept = np.delete(np.arange(300), hidden)
    found = index.without(hidden).search(queries, 10)
    expected = ExactIndex(embeddings[torch.from_numpy(kept)]).search(queries, 10)
    assert torch.equal(found.rows, torch.from_numpy(kept)[expected.rows])
    assert len(index.without(hidden)) == len(kept)
    # The index that was there finds what it found before.
    assert np.isin(hidden, index.search(queries, 3).rows.numpy()).all()


def test_where_all_rows_are_hidden_nothing_is_found(vectors: torch.Tensor) -> None:
    index = ApproximateIndex(vectors.half()).without(np.arange(len(vectors)))
    found = index.search(vectors[:2], 5)
    assert found.rows.shape == found.scores.shape == (2, 0)


def test_cells_come_back_as_they_were_found(vectors: torch.Tensor, tmp_path: Path) -> None:
    cells = find_cells(vectors.half())
    cells.save(tmp_path / "cells")
    again = Cells.load(tmp_path / "cells")
    assert torch.equal(again.middles, cells.middles)
    # Each row is in the cell whose middle is nearest to it.
    scores = vectors.half().float() @ again.middles.T
    nearest = scores.gather(1, again.cell_by_row[:, None])[:, 0]
    torch.testing.assert_close(nearest, scores.max(dim=1).values)


def test_scores_are_those_of_the_rows_as_they_are_stored(vectors: torch.Tensor) -> None:
    for stored in (vectors, vectors.half()):
        found = ApproximateIndex(stored, probes=4).search(vectors[:9], 5)
        scores = torch.einsum("qd,qkd->qk", vectors[:9], stored[found.rows].float())
        torch.testing.assert_close(found.scores, scores)
