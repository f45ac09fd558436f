"""Search by blocks, and by rounded vectors, finds what looking at every score finds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from realm.index import blocks, exact
from realm.index.blocks import BlockScores, contenders, longest, rounding_error, score_blocks
from realm.index.exact import ExactIndex, Found


def search(embeddings: Tensor, queries: Tensor, k: int, *, is_rounded: bool) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "is_quicker_rounded", lambda device: is_rounded)
        patch.setattr(exact, "_MANY_QUERIES", 1)
        return ExactIndex(embeddings).search(queries, k)


def test_contenders_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 2)
    # Blocks of two: (0.5, 0.1), (0.99, 1.0), (0.97, -1.0); a row for each score of one query.
    shown = torch.tensor([[0.5], [0.1], [0.99], [1.0], [0.97], [-1.0]])
    scored = BlockScores(shown, torch.tensor([[0.5, 1.0, 0.97]]))
    nothing, error = torch.tensor([-torch.inf]), torch.tensor([0.01])

    def rows_of(floor: Tensor, error: Tensor, k: int) -> list[int]:
        found = contenders(scored, floor, error, k)
        assert found is not None
        assert found.queries.tolist() == [0] * len(found.rows)
        assert found.scores.tolist() == shown[found.rows, 0].tolist()
        return found.rows.tolist()

    assert rows_of(nothing, torch.zeros(1), 1) == [3]
    # The best is 0.99 at least, and who shows 0.98 may be as good.
    assert rows_of(nothing, error, 1) == [2, 3]
    # Another row is known to have 1.005: who shows less than 0.995 is worse.
    assert rows_of(torch.tensor([1.005]), error, 1) == [3]
    # The two best are over 0.97 less twice the error, in two blocks: more than half of three.
    assert contenders(scored, nothing, error, 2) is None


@given(st.integers(0, 10_000), st.integers(1, 900), st.integers(1, 9), st.booleans())
def test_the_same_rows_in_the_same_order(
    seed: int, num_rows: int, k: int, is_chunked: bool
) -> None:
    # Small whole numbers: sums are exact in any order, and many scores are equal.
    random = np.random.default_rng(seed)
    embeddings = torch.from_numpy(random.integers(-2, 3, (num_rows, 4))).half()
    queries = torch.from_numpy(random.integers(-2, 3, (5, 4))).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_SCORES", len(queries) * (4 * 64 if is_chunked else 1_000_000))
        by_rounding = search(embeddings, queries, k, is_rounded=True)
        whole = search(embeddings, queries, k, is_rounded=False)
    assert torch.equal(by_rounding.rows, whole.rows)
    assert torch.equal(by_rounding.scores, whole.scores)


def test_scores_closer_than_rounding_can_tell_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(1, 32, generator=generator))
    noise = torch.randn(64 * 40, 32, generator=generator)
    embeddings = (direction + 2e-3 * noise).half()
    by_rounding = search(embeddings, direction, 10, is_rounded=True)
    scores = embeddings.double() @ direction.double().T
    best = scores[:, 0].sort(descending=True, stable=True)
    assert by_rounding.rows[0].tolist() == best.indices[:10].tolist()
    assert float(best.values[0] - best.values[9]) < 2.0**-8


def test_copies_without_end_are_ordered_by_row() -> None:
    copies, queries = torch.ones(64 * 40 + 7, 4).half(), torch.ones(2, 4)
    assert search(copies, queries, 3, is_rounded=True).rows.tolist() == [[0, 1, 2]] * 2


def test_numbers_that_are_not_finite_are_not_rounded() -> None:
    embeddings = torch.zeros(64 * 40, 2).half()
    embeddings[70, 0], embeddings[90, 0] = torch.inf, 1.0
    found = search(embeddings, torch.tensor([[1.0, 1.0]]), 2, is_rounded=True)
    assert found.rows.tolist() == [[70, 90]]


def test_the_end_of_the_last_block_is_nobody() -> None:
    scored = score_blocks(
        torch.tensor([[-1.0]]), torch.ones(65, 1).half(), torch.float32, torch.empty(0).long()
    )
    assert scored.scores.shape == (128, 1)
    assert scored.scores[64:66, 0].tolist() == [-1.0, -torch.inf]
    assert scored.maxima.tolist() == [[-1.0, -1.0]]


def test_the_longest_row() -> None:
    rows = torch.zeros(20_000, 2)
    rows[12_345] = torch.tensor([3.0, -4.0])
    assert blocks.longest(rows.half()) == 5.0


def test_other_devices_are_not_asked() -> None:
    assert not blocks.is_quicker_rounded(torch.device("cuda"))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("exact", ["queries", "rows", "neither"])
def test_rounding_is_off_by_no_more_than_its_bound(sign: int, exact: str) -> None:
    """All components just short of where bfloat16 would round up: the errors add up."""
    worst = torch.full((1, 128), 1 + 2.0**-8 - 2.0**-10)
    queries = torch.ones(1, 128) if exact == "queries" else worst
    rows = torch.ones(1, 128) if exact == "rows" else sign * worst
    true = queries @ rows.T
    rounded = queries.bfloat16().float() @ rows.bfloat16().float().T
    off, bound = float((true - rounded).abs()), float(rounding_error(queries, longest(rows)))
    assert 0.3 * bound < off <= bound
