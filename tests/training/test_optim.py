"""The optimiser against torch's own, and its schedule by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from realm.training.distributed import ProcessGroup
from realm.training.optim import (
    Optimizer,
    OptimSettings,
    bert_rate_factor,
    rate_factor,
    scheduled_factor,
)

ALONE = ProcessGroup()


def make_module() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "embedder": nn.Linear(4, 3),
            "reader": nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)),
        }
    )


def run_step(module: nn.ModuleDict, step: int) -> None:
    """Leave the gradients of a step's loss."""
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
    dtype = next(module.parameters()).dtype
    module["reader"](module["embedder"](inputs.to(dtype))).square().mean().backward()


def values_of(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def assert_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_steps_are_those_of_adamw() -> None:
    ours, theirs = make_module(), make_module()
    settings = OptimSettings(learning_rate=0.1, weight_decay=0.1, clip_norm=0.01)
    optimizer = Optimizer(ours, settings)
    decayed = [p for n, p in theirs.named_parameters() if not n.endswith("bias")]
    others = [p for n, p in theirs.named_parameters() if n.endswith("bias")]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=0.1, eps=1e-6,
    )  # fmt: skip
    for step, factor in enumerate((0.5, 1.0, 0.25)):
        run_step(ours, step)
        run_step(theirs, step)
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.01)
        for group in adam.param_groups:
            group["lr"] = 0.1 * factor
        adam.step()
        adam.zero_grad()
        assert optimizer.step(factor, ALONE) == pytest.approx(norm.item())
    for one, other in zip(values_of(ours), values_of(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_used_once() -> None:
    module = make_module()
    optimizer = Optimizer(module, OptimSettings())
    run_step(module, 0)
    optimizer.step(1.0, ALONE)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_retriever_may_have_a_rate_of_its_own() -> None:
    module = make_module()
    settings = OptimSettings(learning_rate=0.1, embedder_learning_rate=0.0, weight_decay=0.0)
    optimizer = Optimizer(module, settings)
    embedder, reader = values_of(module["embedder"]), values_of(module["reader"])
    run_step(module, 0)
    optimizer.step(1.0, ALONE)
    assert_equal(values_of(module["embedder"]), embedder)
    for before, after in zip(reader, values_of(module["reader"]), strict=True):
        # Adam's first step is the rate times the sign.
        torch.testing.assert_close((after - before).abs(), torch.full_like(before, 0.1))


def test_biases_and_norms_do_not_decay() -> None:
    module = nn.ModuleDict({"dense": nn.Linear(2, 2), "layer_norm": nn.LayerNorm(2)})
    optimizer = Optimizer(module, OptimSettings(learning_rate=0.1, weight_decay=0.5))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0, ALONE)
    for name, value in module.state_dict().items():
        factor = 0.95 if name == "dense.weight" else 1.0
        torch.testing.assert_close(value, before[name] * factor)


def test_two_steps_of_berts_optimiser_by_hand() -> None:
    weight, bias = 2.0, 1.0
    dense = nn.Linear(1, 1)
    nn.init.constant_(dense.weight, weight)
    nn.init.constant_(dense.bias, bias)
    module = nn.ModuleDict({"dense": dense})
    settings = OptimSettings(
        learning_rate=0.1, weight_decay=0.01, clip_norm=100.0, bias_correction=False
    )
    optimizer = Optimizer(module, settings)
    first, second = {"w": 0.0, "b": 0.0}, {"w": 0.0, "b": 0.0}
    for factor, slopes in ((1.0, {"w": 3.0, "b": -2.0}), (0.5, {"w": 1.0, "b": 4.0})):
        dense.weight.grad = torch.tensor([[slopes["w"]]])
        dense.bias.grad = torch.tensor([slopes["b"]])
        optimizer.step(factor, ALONE)
        for name, slope in slopes.items():
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
        rate = 0.1 * factor
        weight -= rate * (first["w"] / (second["w"] ** 0.5 + 1e-6) + 0.01 * weight)
        bias -= rate * first["b"] / (second["b"] ** 0.5 + 1e-6)  # biases do not decay
        assert dense.weight.item() == pytest.approx(weight, abs=1e-6)
        assert dense.bias.item() == pytest.approx(bias, abs=1e-6)
    # Without correction the first step is 0.1 / sqrt(0.001) = 3.16 times the rate.
    assert weight < 2.0 - 0.1 * 3.163 - 0.1 * 0.01 * 2


def test_norms_and_biases_are_excluded_whatever_a_trunk_calls_them() -> None:
    names = ("layer_norm", "LayerNorm", "attn_norm")  # the last is ModernBERT's
    module = nn.ModuleDict({name: nn.LayerNorm(2) for name in names})
    module["dense"] = nn.Linear(2, 2)
    module["relative_attention_bias"] = nn.Embedding(4, 2)  # MPNet's
    optimizer = Optimizer(module, OptimSettings(weight_decay=0.5, bias_correction=False))
    decayed = [
        weight
        for group in optimizer._adam.param_groups
        if group["weight_decay"]
        for weight in group["params"]
    ]
    assert len(decayed) == 1
    assert decayed[0] is optimizer.masters["dense.weight"]


def test_gradients_are_clipped_only_where_that_is_asked_for() -> None:
    moved = {}
    for clip_norm in (1e-8, None):
        dense = nn.Linear(2, 2)
        module = nn.ModuleDict({"dense": dense})
        # Beside a large epsilon AdamW's step is in proportion to the gradient.
        settings = OptimSettings(learning_rate=1.0, epsilon=1e3, clip_norm=clip_norm)
        optimizer = Optimizer(module, settings)
        before = dense.bias.detach().clone()
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        norm = optimizer.step(1.0, ALONE)
        assert norm.item() == pytest.approx(6**0.5)
        moved[clip_norm] = (dense.bias.detach() - before).abs().max().item()
    assert moved[None] == pytest.approx(1e-3, rel=0.01)
    assert moved[1e-8] < 1e-8


def test_frozen_and_unused_parameters_stay() -> None:
    frozen, used, unused = nn.Linear(1, 3), nn.Linear(3, 1), nn.Linear(3, 1)
    module = nn.ModuleDict({"frozen": frozen, "used": used, "unused": unused})
    frozen.requires_grad_(False)
    optimizer = Optimizer(module, OptimSettings(learning_rate=0.1, weight_decay=0.5))
    before = {name: values_of(part) for name, part in module.items()}
    used(frozen(torch.ones(1, 1))).sum().backward()
    optimizer.step(1.0, ALONE)
    assert_equal(values_of(frozen), before["frozen"])
    assert_equal(values_of(unused), before["unused"])
    assert not torch.equal(values_of(used)[0], before["used"][0])


def test_what_is_named_rests_and_the_others_move() -> None:
    module = make_module()
    resting = {name for name, _ in module.named_parameters() if "bias" in name}
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimizer = Optimizer(module, OptimSettings(learning_rate=0.1, rests=("bias",)))
    run_step(module, 0)
    optimizer.step(1.0, ALONE)
    assert 0 < len(resting) < len(before)
    for name, value in module.named_parameters():
        assert torch.equal(value, before[name]) is (name in resting), name


def test_updates_below_the_last_bit_of_bfloat16_are_not_lost() -> None:
    module = nn.ModuleDict({"reader": nn.Linear(1, 1, bias=False)}).to(torch.bfloat16)
    weight = next(module.parameters())
    nn.init.ones_(weight)
    optimizer = Optimizer(module, OptimSettings(learning_rate=1e-4, weight_decay=0.0))
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        optimizer.step(1.0, ALONE)
    # 100 steps of 1e-4: a bfloat16 near one moves by 2 ** -8 at the least, 39 times as much.
    assert optimizer.masters["reader.weight"].item() == pytest.approx(0.99, abs=1e-4)
    assert weight.dtype == torch.bfloat16
    assert weight.item() == pytest.approx(0.99, abs=2**-9)


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resumed_equals_uninterrupted(
    dtype: torch.dtype, bias_correction: bool, tmp_path: Path
) -> None:
    settings = OptimSettings(learning_rate=0.01, bias_correction=bias_correction)
    whole = make_module().to(dtype)
    optimizer = Optimizer(whole, settings)
    for step in range(6):
        run_step(whole, step)
        optimizer.step(1.0, ALONE)
        if step == 2:
            save_file(optimizer.state(), tmp_path / "state")
            save_file(optimizer.masters, tmp_path / "weights")
    resumed = make_module().to(dtype)
    second = Optimizer(resumed, settings)
    second.restore(load_file(tmp_path / "weights"), load_file(tmp_path / "state"))
    for step in range(3, 6):
        run_step(resumed, step)
        second.step(1.0, ALONE)
    assert_equal(values_of(resumed), values_of(whole))
    assert_equal(list(second.masters.values()), list(optimizer.masters.values()))
    assert second.state().keys() == optimizer.state().keys()


def test_the_rate_rises_and_falls() -> None:
    # Ten steps, two of warm-up, then eight down to zero, which step 10 would have.
    factors = [rate_factor(step, 10, 0.2) for step in range(11)]
    assert factors == pytest.approx(
        [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0]
    )


def test_berts_schedule() -> None:
    # 2,000 steps: 200 of warm-up from zero; the decay has been counted from step 0 all along.
    settings = OptimSettings(schedule="bert")
    factors = [scheduled_factor(s, 2000, settings) for s in (0, 100, 199, 200, 1000, 2000)]
    assert factors == pytest.approx([0.0, 0.5, 0.995, 0.9, 0.5, 0.0])
    # At least 100 steps of warm-up, at most 10,000.
    assert bert_rate_factor(50, 300) == 0.5
    assert bert_rate_factor(5_000, 200_000) == 0.5
    assert bert_rate_factor(10_000, 200_000) == 0.95
    assert scheduled_factor(0, 10, OptimSettings(warmup_share=0.2)) == 0.5


def test_the_rate_of_a_short_training() -> None:
    assert [rate_factor(step, 1, 0.1) for step in range(2)] == [1.0, 0.0]
    assert [rate_factor(step, 3, 0.0) for step in range(3)] == pytest.approx([1.0, 1.0, 0.5])
    assert [rate_factor(step, 4, 1.0) for step in range(5)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 0.0]
    )
