"""What does a trunk's last layer cost where only some of its states are looked at?

Every position is attended to, but the states themselves, and what the feed-forward part makes of
them, are computed at the wanted places alone: a twelfth of the layer's matrix products for each
of keys and values, and next to nothing for the other ten.
"""

from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from realm.kernels import LIKE_BERT, attend


def run_trunk(
    trunk: nn.Module,
    input_ids: Int[Tensor, "batch length"],
    attention_mask: Int[Tensor, "batch length"],
    segment_ids: Int[Tensor, "batch length"],
    places: Int[Tensor, "batch places"] | None = None,
) -> Any:
    """What a trunk says of its inputs, as transformers puts it.

    With `places` its `last_hidden_state` is [batch, places, hidden], that of those alone. They
    begin with the first position where the trunk's pooler is asked for, which looks there.
    """
    inputs = {
        "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": segment_ids
    }  # fmt: skip
    if places is None:
        return trunk(**inputs)
    if _can_be_narrowed(trunk):
        return _narrowed(trunk, attention_mask, places)(**inputs)
    output = trunk(**inputs)
    output.last_hidden_state = states_at(output.last_hidden_state, places)
    return output


def states_at(
    hidden: Float[Tensor, "batch length hidden"], places: Int[Tensor, "batch places"]
) -> Float[Tensor, "batch places hidden"]:
    """The states at some places of each input."""
    return hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))


def _can_be_narrowed(trunk: nn.Module) -> bool:
    config: Any = trunk.config
    if trunk._compiled_call_impl is not None:  # compiled in one piece
        return False
    positions = getattr(config, "position_embedding_type", "absolute")
    return config.model_type in LIKE_BERT and positions == "absolute" and not config.is_decoder


def _narrowed(trunk: Any, attention_mask: Tensor, places: Tensor) -> nn.Module:
    """The same trunk, with the same weights, of whose last layer only some places are computed."""
    *before, last = trunk.encoder.layer
    attention = _NarrowAttention(last.attention, attention_mask, places)
    layers = nn.ModuleList([*before, _with(last, attention=attention)])
    return _with(trunk, encoder=_with(trunk.encoder, layer=layers))


def _with(module: nn.Module, **parts: nn.Module) -> nn.Module:
    """A module like this one, of which some parts are others; nothing is copied."""
    changed = copy(module)
    changed._modules = {**module._modules, **parts}
    return changed


class _NarrowAttention(nn.Module):
    """What a layer's attention says at some places of each input."""

    def __init__(self, attention: Any, attention_mask: Tensor, places: Tensor) -> None:
        super().__init__()
        self.own, self.output = attention.self, attention.output
        self.places, self.is_padding = places, attention_mask[:, None, None] == 0

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Attended states, [batch, places, hidden]; the mask that a trunk makes is not needed."""
        asked = states_at(hidden, self.places)
        own = self.own
        query, key, value = (
            states.unflatten(-1, (-1, own.attention_head_size)).transpose(1, 2)
            for states in (own.query(asked), own.key(hidden), own.value(hidden))
        )
        mask = torch.zeros_like(self.is_padding, dtype=hidden.dtype)
        mask.masked_fill_(self.is_padding, torch.finfo(hidden.dtype).min)
        sums = attend(own, query, key, value, mask, dropout=own.dropout.p)[0]
        return self.output(sums.flatten(2), asked), None
