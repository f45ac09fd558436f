"""Is what a model computes with what was set, measured or kept?"""

import pytest
import torch

from realm import machine
from realm.errors import SettingError
from realm.kernels import default_attention
from realm.machine import Shape
from realm.models import precision
from realm.models.checkpoint import Model
from realm.models.precision import (
    Compute,
    ComputeSettings,
    best_num_threads,
    choose_compute,
    facts_to_keep,
    kept_for_embedding,
    kept_for_training,
    quickest_attention,
    quickest_precision,
    shape_of,
)

SHAPE = Shape(width=48, heads=4, inner=96)


@pytest.fixture(autouse=True)
def _measured_anew() -> None:
    quickest_precision.cache_clear()
    quickest_attention.cache_clear()
    best_num_threads.cache_clear()


@pytest.mark.parametrize(
    ("rates", "use", "expected"),
    [
        ({"fp32": 1.0, "bf16": 4.0, "fp16": 4.2}, "forward", "bf16"),
        ({"fp32": 1.0, "bf16": 0.5, "fp16": 4.0}, "forward", "fp16"),
        ({"fp32": 1.0, "bf16": 0.5, "fp16": 4.0}, "training", "fp32"),
        ({"fp32": 1.0, "bf16": 1.2, "fp16": 1.2}, "forward", "fp32"),
        ({"fp32": 1.0, "bf16": 1.4, "fp16": 0.1}, "training", "bf16"),
    ],
    ids=["matrix unit", "old GPU", "old GPU trains", "not worth it", "worth it"],
)
def test_half_the_digits_are_given_up_for_a_gain(
    monkeypatch: pytest.MonkeyPatch, rates: dict[str, float], use: machine.Use, expected: str
) -> None:
    monkeypatch.setattr(machine, "matrix_rate", lambda shape, name, num_tokens=1024: rates[name])
    assert quickest_precision(SHAPE, use) == expected


def test_a_format_that_the_processor_lacks_is_not_measured_at_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates, measured = {"fp32": 1.0, "bf16": 0.9, "fp16": 0.02}, []

    def rate(shape: Shape, name: str, *, num_tokens: int = 1024) -> float:
        measured.append((name, num_tokens))
        return rates[name]

    monkeypatch.setattr(machine, "matrix_rate", rate)
    assert quickest_precision(SHAPE, "forward") == "fp32"
    assert [name for name, num_tokens in measured if num_tokens == 1024] == ["fp32", "bf16"]


def test_each_use_has_the_kernel_that_is_quickest_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {("eager", "forward"): 3.0, ("sdpa", "forward"): 4.0,
             ("eager", "training"): 2.0, ("sdpa", "training"): 1.0}  # fmt: skip

    def rate(
        shape: Shape, name: str, attention: str, use: str, *, batch: int, length: int
    ) -> float:
        assert batch * length >= 1280 - length
        return rates[attention, use]

    monkeypatch.setattr(machine, "layer_rate", rate)
    assert quickest_attention(SHAPE, "bf16", "forward", 160) == "sdpa"
    assert quickest_attention(SHAPE, "bf16", "training", 160) == "eager"


@pytest.mark.parametrize(
    ("rates", "number"),
    [
        ({4: 3.0, 2: 2.0}, 4),
        ({4: 1.0, 2: 1.2, 1: 1.1}, 4),  # a neighbour for a moment, as like as not
        ({4: 1.0, 2: 2.0, 1: 1.5}, 2),
    ],
)
def test_threads_are_given_up_only_where_that_is_much_quicker(
    rates: dict[int, float], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "thread_rates", lambda shape, precision: rates)
    assert best_num_threads(SHAPE, "bf16") == number


def test_what_is_set_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("quickest_precision", "quickest_attention", "best_num_threads"):
        monkeypatch.setattr(precision, name, lambda *facts: pytest.fail("it was measured"))
    settings = ComputeSettings(precision="fp16", attention="sdpa", num_threads=3)
    assert choose_compute(settings, SHAPE, "forward", 64) == Compute("fp16", "sdpa", 3)
    with pytest.raises(SettingError, match="fp16 does not train: choose auto, bf16 or fp32"):
        choose_compute(settings, SHAPE, "training", 64)


def test_a_model_computes_with_what_was_chosen(small_model: Model) -> None:
    before = torch.get_num_threads()
    small_model.compute_with(Compute("bf16", "sdpa", 1))
    trunk = small_model.reader.trunk
    assert trunk.config._attn_implementation == "sdpa"  # type: ignore[union-attr]
    assert next(trunk.parameters()).dtype == torch.bfloat16
    assert torch.get_num_threads() == 1
    small_model.compute_with(Compute("fp32", "eager", before))
    for tower in (small_model.embedder.query_tower, small_model.embedder.passage_tower):
        used = tower.trunk.config._attn_implementation  # type: ignore[union-attr]
        assert used == "realm_eager"


def test_the_shape_is_the_trunks(small_model: Model) -> None:
    assert shape_of(small_model.reader.trunk) == Shape(width=32, heads=2, inner=64)


def test_both_kernels_are_kept() -> None:
    facts = facts_to_keep(Compute("bf16", "eager", 2), Compute("bf16", "sdpa", 2))
    assert kept_for_training(facts) == Compute("bf16", "eager", 2)
    # A refresh process has a number of threads of its own.
    assert kept_for_embedding(facts) == Compute("bf16", "sdpa", torch.get_num_threads())


def test_journals_from_before_kept_the_format_alone() -> None:
    expected = Compute("fp32", default_attention(), torch.get_num_threads())
    assert kept_for_training({"chosen": "fp32"}) == kept_for_embedding({"chosen": "fp32"})
    assert kept_for_training({"chosen": "fp32"}) == expected


def test_compiled_trunks_keep_their_names(
    small_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **facts: wanted.append((self, facts))
    )
    small_model.compile_trunks()
    # Both towers share one trunk; lengths differ from batch to batch.
    assert {id(trunk) for trunk, _ in wanted} == {
        id(small_model.embedder.query_tower.trunk), id(small_model.reader.trunk)
    }  # fmt: skip
    assert [facts for _, facts in wanted] == [{"dynamic": True}] * 2
