"""Search by faiss's kernel finds what looking at every score finds, in the same order."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from realm.index import exact, scan
from realm.index.blocks import BLOCK
from realm.index.exact import ExactIndex, Found
from realm.index.scan import scan_contenders, summing_error

NONE_HIDDEN = torch.empty(0, dtype=torch.int64)


def search(
    embeddings: Tensor, queries: Tensor, k: int, *, is_scanned: bool, hidden: np.ndarray
) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        if not is_scanned:
            patch.setattr(exact, "kernel", lambda: None)
        return ExactIndex(embeddings).without(hidden).search(queries, k)


@given(
    st.integers(0, 10_000), st.integers(1, 600), st.integers(1, 5),
    st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([1, 3]),
)  # fmt: skip
def test_the_same_rows_in_the_same_order(
    seed: int, num_more: int, k: int, hidden_share: float, num_threads: int
) -> None:
    num_rows = BLOCK * k + num_more  # fewer are not scanned
    # Small whole numbers: sums are exact in any order, and many scores are equal.
    random = np.random.default_rng(seed)
    embeddings = torch.from_numpy(random.integers(-9, 10, (num_rows, 6))).half()
    queries = torch.from_numpy(random.integers(-9, 10, (3, 6))).float()
    hidden = np.flatnonzero(random.random(num_rows) < hidden_share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: num_threads)
        patch.setattr(scan, "_ROWS_OF_A_THREAD", 100)
        scanned = search(embeddings, queries, k, is_scanned=True, hidden=hidden)
        whole = search(embeddings, queries, k, is_scanned=False, hidden=hidden)
    assert torch.equal(scanned.rows, whole.rows)
    assert torch.equal(scanned.scores, whole.scores)


def test_contenders_by_hand() -> None:
    rows = torch.arange(200.0)[:, None].half()
    queries = torch.tensor([[1.0], [-1.0]])
    error = torch.tensor([0.5, 1.0])
    found = scan_contenders(queries, [rows], torch.tensor([199]), error, 2)
    assert found is not None
    # 198 and 197 are the best, 196 shows what is twice the error less; 0 and -1, down to -3.
    assert found.queries.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert found.rows.tolist() == [196, 197, 198, 0, 1, 2, 3]
    assert found.scores.tolist() == [196, 197, 198, 0, -1, -2, -3]


def test_hidden_rows_that_crowd_the_top_are_looked_past() -> None:
    rows = torch.arange(1_000.0)[:, None].half()
    queries, error, best = torch.ones(1, 1), torch.zeros(1), torch.arange(900, 1_000)
    found = scan_contenders(queries, [rows], best, error, 2)
    assert found is not None
    assert found.rows.tolist() == [898, 899]


def test_more_copies_than_are_looked_for_are_left_to_others() -> None:
    rows, queries = torch.ones(300, 4).half(), torch.ones(1, 4)
    error = summing_error(queries, 2.0)
    assert scan_contenders(queries, [rows], NONE_HIDDEN, error, 3) is None
    # As many as are looked for, and nothing but these: all of them are known.
    few = scan_contenders(queries, [rows[: 3 + scan._SPARE - 1]], NONE_HIDDEN, error, 3)
    assert few is not None
    assert len(few.rows) == 3 + scan._SPARE - 1
    found = search(rows, queries, 3, is_scanned=True, hidden=np.empty(0, dtype=np.int64))
    assert found.rows.tolist() == [[0, 1, 2]]


def test_copies_are_scanned_once_though_some_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    original = scan._scan

    def counted(*arguments: Any, **named: Any) -> Any:
        scans.append(arguments)
        return original(*arguments, **named)

    monkeypatch.setattr(scan, "_scan", counted)
    rows, queries = torch.ones(400, 4).half(), torch.ones(1, 4)
    error, few = summing_error(queries, 2.0), torch.arange(5)
    assert scan_contenders(queries, [rows], few, error, 3) is None
    assert len(scans) == 1
    # Here the hidden ones may be what stands in the way.
    assert scan_contenders(queries, [rows], torch.arange(60), error, 3) is None
    assert len(scans) == 3


def test_sums_differ_by_less_than_their_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20_000, 128, generator=generator).half()
    queries = torch.randn(4, 128, generator=generator)
    bound = summing_error(queries, float(rows.float().norm(dim=-1).max()))
    true = queries.double() @ rows.double().T
    found = scan_contenders(queries, [rows], NONE_HIDDEN, bound, 50)
    assert found is not None
    off = (found.scores - true[found.queries, found.rows]).abs()
    assert (off <= bound[found.queries]).all()
    assert float(bound.max()) < 0.02


def test_numbers_that_are_not_finite_are_left_to_others() -> None:
    embeddings = torch.zeros(300, 2).half()
    embeddings[70, 0], embeddings[90, 0] = torch.inf, 1.0
    queries, nothing = torch.tensor([[1.0, 1.0]]), np.empty(0, dtype=np.int64)
    found = search(embeddings, queries, 2, is_scanned=True, hidden=nothing)
    assert found.rows.tolist() == [[70, 90]]


def test_an_old_faiss_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "import_module", lambda name: object())
    assert scan.kernel.__wrapped__() is None
