"""Are batches that other processes make the ones that were asked for?"""

import os

import pytest

from realm.examples.ahead import Ahead, workers_beside_the_device


def made(step: int) -> tuple[int, int]:
    return step * step, os.getpid()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_step_gets_its_own_batch(num_workers: int) -> None:
    ahead = Ahead(made, num_workers)
    # In order, then from elsewhere, as after a resume, then in order again.
    steps = [*range(5, 12), 3, 4, 3]
    batches = [ahead.at(step) for step in steps]
    assert [batch for batch, _ in batches] == [step * step for step in steps]
    assert ({process for _, process in batches} == {os.getpid()}) is (num_workers == 0)


def test_an_error_of_a_batch_arrives() -> None:
    with pytest.raises(ZeroDivisionError):
        Ahead(lambda step: 1 // step, 1).at(0)


def test_a_cpu_makes_its_batches_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert workers_beside_the_device() == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert workers_beside_the_device() == 4
