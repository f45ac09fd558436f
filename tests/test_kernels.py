"""Do our attention and dropout compute what those of transformers and torch compute?"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from realm.kernels import Dropout, drop, use_attention, use_quick_dropout

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
INPUTS = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
DIRECTION = torch.randn(8, 32, generator=torch.Generator().manual_seed(2))


def small_encoder(kind: str = "bert", rate: float = 0.0) -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 8}
    rates = {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, **rates, intermediate_size=64)
    return AutoModel.from_config(config, attn_implementation="eager")  # type: ignore[no-any-return]


def states_of(encoder: nn.Module, inputs: Tensor) -> Tensor:
    """The hidden states of what is no padding."""
    output = encoder(inputs_embeds=inputs, attention_mask=MASK.to(inputs.device))
    return output.last_hidden_state[MASK.bool()]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-2)])
def test_attention_and_its_gradients_are_those_of_transformers(
    dtype: torch.dtype, most: float
) -> None:
    found = []
    for is_ours in (False, True):
        encoder = small_encoder().to(dtype)
        if is_ours:
            use_attention(encoder, "eager")
        inputs = INPUTS.to(dtype, copy=True).requires_grad_()
        states = states_of(encoder, inputs)
        states.backward(DIRECTION.to(dtype))
        assert inputs.grad is not None
        found.append((encoder.config._attn_implementation, states.detach(), inputs.grad))  # type: ignore[union-attr]
    (theirs, *expected), (ours, *got) = found
    assert (theirs, ours) == ("eager", "realm_eager")
    for value, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0.0, atol=most * float(wanted.abs().max()))


def test_kernels_are_exchanged_at_any_time() -> None:
    encoder = small_encoder()
    # The BERT of transformers 4.57 has no door for an attention of our own.
    eager = "realm_eager" if getattr(encoder, "_supports_attention_backend", False) else "eager"
    for name, used in (("eager", eager), ("sdpa", "sdpa"), ("eager", eager)):
        use_attention(encoder, name)
        assert encoder.config._attn_implementation == used  # type: ignore[union-attr]


def test_no_kernel_is_used_that_is_planned_for_every_shape() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    use_attention(small_encoder(), "sdpa")
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_scores_that_are_more_than_products_are_left_alone() -> None:
    encoder = small_encoder("mpnet")  # adds a bias by distance
    use_attention(encoder, "eager")
    assert encoder.config._attn_implementation == "eager"  # type: ignore[union-attr]
    assert states_of(encoder, INPUTS).isfinite().all()


def test_all_layers_drop_with_our_masks_and_none_while_answering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = small_encoder(rate=0.5)
    use_attention(encoder, "eager")
    use_quick_dropout(encoder)

    def forbidden(*facts: object, **named: object) -> None:
        pytest.fail("torch drew a mask")

    monkeypatch.setattr(nn.functional, "dropout", forbidden)
    encoder.train()
    assert not torch.equal(states_of(encoder, INPUTS), states_of(encoder, INPUTS))
    encoder.eval()
    assert torch.equal(states_of(encoder, INPUTS), states_of(encoder, INPUTS))


def test_the_weights_of_attention_are_dropped_too() -> None:
    encoder = small_encoder(rate=0.5)
    use_attention(encoder, "eager")
    encoder.train()
    for name, module in encoder.named_modules():
        # The rate of attention is read from its module; all others are off.
        if isinstance(module, nn.Dropout) and not name.endswith("attention.self.dropout"):
            module.p = 0.0
    assert not torch.equal(states_of(encoder, INPUTS), states_of(encoder, INPUTS))


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_share_that_is_dropped_is_the_rate(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    dropped = drop(torch.ones(1_000_003, dtype=dtype), rate)
    # Five standard deviations of a million draws.
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=2.5e-3)
    kept = dropped[dropped != 0]
    assert float(kept.double().mean()) == pytest.approx(1 / (1 - rate), rel=4e-3)


def test_neighbours_are_dropped_apart_from_each_other() -> None:
    """Four of them share a draw."""
    torch.manual_seed(3)
    kept = (drop(torch.ones(400_000), 0.5) != 0).view(-1, 4).float()
    correlations = torch.corrcoef(kept.T) - torch.eye(4)
    assert float(correlations.abs().max()) < 0.02


def test_the_gradient_passes_where_the_state_did() -> None:
    torch.manual_seed(3)
    states = torch.ones(7, 9, requires_grad=True)
    dropped = drop(states, 0.25)
    dropped.sum().backward()
    assert states.grad is not None
    torch.testing.assert_close(states.grad, dropped.detach())


@pytest.mark.parametrize("make", [lambda: drop(INPUTS, 0.0), lambda: Dropout(0.5).eval()(INPUTS)])
def test_nothing_is_dropped_at_rate_zero_and_after_training(make: Callable[[], Tensor]) -> None:
    assert torch.equal(make(), INPUTS)


def test_a_seed_draws_the_same_mask_again() -> None:
    def dropped() -> Tensor:
        torch.manual_seed(5)
        return drop(INPUTS, 0.3)

    assert torch.equal(dropped(), dropped())
