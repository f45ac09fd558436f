"""Are the numbers of a machine numbers of this machine?"""

import time

import pytest
import torch

from realm import machine
from realm.machine import (
    Shape,
    best_seconds,
    layer_rate,
    matrix_rate,
    thread_rates,
    where_it_fits,
)

TINY = Shape(width=32, heads=2, inner=64)


def test_operations_of_a_layer_by_hand() -> None:
    # Weights: four of 32 x 32 and two of 32 x 64, 8,192 in all, two operations each; and 10
    # products and 10 sums over 32 numbers, two operations each.
    assert TINY.layer_flops(10) == 2 * 8192 + 2 * (10 * 32 + 10 * 32)


def test_the_shortest_of_several_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock at the beginnings and ends of four runs: 0.015, 0.01, 0.02 and 0.025 s; the fourth
    # crosses the time that is spent on a measurement.
    clock = iter([0.0, 0.015, 1.0, 1.01, 2.0, 2.02, 3.0, 3.025])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    assert best_seconds(lambda: runs.append(1)) == pytest.approx(0.01)
    assert len(runs) == 5, "the first run is not timed"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rates_are_of_work_that_was_done(precision: str) -> None:
    assert matrix_rate(TINY, precision, num_tokens=8) > 0
    for use in ("forward", "training"):
        for attention in ("eager", "sdpa"):
            rate = layer_rate(TINY, precision, attention, use, batch=2, length=8)
            assert rate > 0


def test_measuring_draws_no_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    layer_rate(TINY, "fp32", "eager", "training", batch=1, length=4)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("rate_by_number", "looked_at"),
    [({8: 5.0, 4: 9.0, 2: 7.0, 1: 4.0}, [8, 4, 2]), ({8: 9.0, 4: 5.0}, [8, 4]), ({1: 3.0}, [1])],
    ids=["a container gives four", "all are used", "there is one"],
)
def test_threads_are_tried_as_long_as_fewer_are_better(
    monkeypatch: pytest.MonkeyPatch, rate_by_number: dict[int, float], looked_at: list[int]
) -> None:
    before, number = torch.get_num_threads(), [max(rate_by_number)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: number[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda wanted: number.__setitem__(0, wanted))
    monkeypatch.setattr(machine, "matrix_rate", lambda shape, name: rate_by_number[number[0]])
    assert list(thread_rates(TINY, "fp32")) == looked_at
    assert number[0] == max(rate_by_number), "the threads were not put back"
    monkeypatch.undo()
    assert torch.get_num_threads() == before


def test_what_is_large_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.ones(4, 8)
    assert where_it_fits(rows) is rows
    monkeypatch.setattr(machine, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (4 * rows.nbytes - 1, 0))
    assert where_it_fits(rows) is rows
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (4 * rows.nbytes, 0))
    moved: list[torch.device] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: moved.append(device))
    where_it_fits(rows)
    assert moved == [torch.device("cuda")]
