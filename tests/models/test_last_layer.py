"""Is a trunk that computes its last states at some places alone the trunk itself?"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from realm.examples.packing import Packed
from realm.kernels import LIKE_BERT, use_attention, use_quick_dropout
from realm.models.checkpoint import Model
from realm.models.last_layer import run_trunk, states_at
from realm.models.reader import masked_log_probs, read

LENGTH = 9
IDS = torch.randint(5, 60, (3, LENGTH), generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(LENGTH) < torch.tensor([[9], [4], [7]])).long()
INPUTS = (IDS, MASK, torch.zeros_like(IDS))
PLACES = torch.tensor([[0, 3], [0, 2], [0, 0]])
# MPNet and ALBERT, whose layers are others, are run whole.
KINDS = [*sorted(LIKE_BERT), "mpnet", "albert"]


def small_trunk(kind: str, rate: float = 0.0, attention: str = "eager") -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 60}
    rates = {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, **rates, intermediate_size=64, pad_token_id=0)
    trunk = AutoModel.from_config(config)
    use_attention(trunk, attention)
    use_quick_dropout(trunk)
    with torch.no_grad():
        for parameter in trunk.parameters():  # biases too, which begin at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    return trunk  # type: ignore[no-any-return]


def gradients_of(trunk: nn.Module, states: Tensor) -> dict[str, Tensor]:
    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
    states.backward(direction)
    found = {}
    for name, parameter in trunk.named_parameters():
        if parameter.grad is not None:
            found[name], parameter.grad = parameter.grad, None
    return found


def in_last_layer(trunk: nn.Module) -> list[int]:
    """How many places each feed-forward part of the last layer computed, in a list that fills."""
    seen: list[int] = []
    layer: Any = trunk.encoder.layer[-1]  # type: ignore[union-attr, index]
    layer.output.register_forward_hook(lambda *facts: seen.append(facts[2].shape[1]))
    return seen


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_the_whole_trunk(kind: str, attention: str) -> None:
    trunk = small_trunk(kind, attention=attention)
    whole = states_at(run_trunk(trunk, *INPUTS).last_hidden_state, PLACES)
    expected = gradients_of(trunk, whole)
    narrow = run_trunk(trunk, *INPUTS, PLACES).last_hidden_state
    assert narrow.shape == (3, 2, 32)
    torch.testing.assert_close(narrow, whole, atol=1e-5, rtol=0)
    found = gradients_of(trunk, narrow)
    # The key's bias moves all scores of a softmax alike: its gradient is rounding alone.
    names = {name for name in expected if not name.endswith("key.bias")}
    assert names == {name for name in found if not name.endswith("key.bias")}
    for name in names:
        most = 1e-5 * float(expected[name].abs().max())
        torch.testing.assert_close(found[name], expected[name], atol=most, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["bert", "mpnet", "albert"])
def test_the_pooler_sees_the_first_place(kind: str) -> None:
    trunk = small_trunk(kind).eval()
    whole, narrow = run_trunk(trunk, *INPUTS), run_trunk(trunk, *INPUTS, PLACES)
    torch.testing.assert_close(narrow.pooler_output, whole.pooler_output, atol=1e-5, rtol=0)


def test_the_last_layer_computes_the_wanted_places_alone() -> None:
    trunk = small_trunk("bert")
    seen = in_last_layer(trunk)
    run_trunk(trunk, *INPUTS, PLACES)
    run_trunk(trunk, *INPUTS)
    assert seen == [PLACES.shape[1], LENGTH]


def test_the_trunk_stays_what_it_was() -> None:
    trunk = small_trunk("bert")
    names = [*dict(trunk.named_modules())]
    run_trunk(trunk, *INPUTS, PLACES)
    assert [*dict(trunk.named_modules())] == names


@pytest.mark.parametrize("part", ["attention.self", "attention.output", "output"])
def test_every_part_of_the_last_layer_drops_while_training(part: str) -> None:
    trunk = small_trunk("bert", rate=0.5)
    last: Any = trunk.encoder.layer[-1]  # type: ignore[union-attr, index]
    for name, module in trunk.named_modules():
        if isinstance(module, nn.Dropout) and module is not last.get_submodule(f"{part}.dropout"):
            assert name
            module.p = 0.0

    def states() -> Tensor:
        return run_trunk(trunk, *INPUTS, PLACES).last_hidden_state.detach()  # type: ignore[no-any-return]

    trunk.train()
    assert not torch.equal(states(), states())
    trunk.eval()
    assert torch.equal(states(), states())


def test_a_compiled_trunk_is_not_cut() -> None:
    trunk = small_trunk("bert")
    seen = in_last_layer(trunk)
    trunk._compiled_call_impl = trunk._call_impl
    assert run_trunk(trunk, *INPUTS, PLACES).last_hidden_state.shape == (3, 2, 32)
    assert seen == [LENGTH]


def test_masked_words_are_read_as_from_all_states(small_model: Model) -> None:
    model = small_model
    model.modules().eval()
    words = torch.arange(20, 60).numpy()
    joints: list[Packed] = [
        model.packer.joint(words[: 5 + n], words[:0], words[10 : 12 + 9 * n]) for n in range(4)
    ]
    positions = torch.tensor([[1, 3], [2, 0], [1, 2], [4, 5]])
    targets = torch.tensor([[9, 8], [7, 0], [6, 5], [10, 11]])
    is_target = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    seen = in_last_layer(model.reader.trunk)
    found = []
    for asked in (None, positions):
        groups = read(model.reader, joints, packer=model.packer, token_budget=60, positions=asked)
        found.append(masked_log_probs(model.reader, groups, positions, targets, is_target))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)
    assert seen[-1] == positions.shape[1]
