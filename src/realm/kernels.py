"""With which code does a trunk attend, and drop, on this machine?

A training on a CPU spends a quarter of its time on the masks of dropout when the generator draws
one number for each weight of attention. Here one draw of 64 bits serves four of them, and the
scores become weights in one pass less. What is computed is what transformers computes.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

ATTENTIONS = ("eager", "sdpa")
"""`eager` writes the scores out, `sdpa` is the fused kernel of torch."""
_OURS = "realm_eager"
LIKE_BERT = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
"""Architectures whose layers have BERT's parts under BERT's names."""
# Those whose scores are products, a mask and nothing else, such as a bias by distance.
_PLAIN = LIKE_BERT | {"distilbert"}
_LEVELS = 2**16  # of a rate of dropout: a quarter of a draw


def default_attention() -> str:
    """The kernel of those who do not measure: eager on a CPU, where it is mostly the quicker."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def use_attention(trunk: nn.Module, attention: str) -> None:
    """Let a trunk compute with one of `ATTENTIONS`, if it has it."""
    # cuDNN plans its attention anew for every shape, and no two batches of ours are of one shape:
    # 250 of the 290 ms of a step on an H100, which computes for 13 of them.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if attention == "eager":
        trunk.set_attn_implementation(_written_out(trunk))  # type: ignore[operator]
    elif getattr(trunk, "_supports_sdpa", False):
        trunk.set_attn_implementation(attention)  # type: ignore[operator]


def use_quick_dropout(trunk: nn.Module) -> None:
    """Let all layers of a trunk draw their masks as `drop` does."""
    for module in list(trunk.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


class Dropout(nn.Dropout):
    """Dropout whose masks are quickly drawn."""

    def forward(self, states: Tensor) -> Tensor:
        """States of any shape, with some of them zero while training."""
        return drop(states, self.p) if self.training else states


def drop(states: Tensor, rate: float) -> Tensor:
    """Set a share of the states to zero and scale the others up, so that their mean stays.

    The rate is kept to 1/65536. Numbers come from torch's own generator, so that a seed, a
    resumed training and recomputed layers draw them again.
    """
    if states.device.type != "cpu":  # accelerators draw all numbers at once
        return nn.functional.dropout(states, rate)
    dropped = round(rate * _LEVELS)
    if dropped == 0:
        return states
    return states * _mask(states, dropped)


def _mask(states: Tensor, dropped: int) -> Tensor:
    """Zero for so many of 65536, and what makes up for them for the others; like the states."""
    draws = torch.empty(math.ceil(states.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.int16)[: states.numel()].view(states.shape)
    kept.ge_(dropped - _LEVELS // 2)  # one or zero
    scale = torch.tensor(_LEVELS / (_LEVELS - dropped), dtype=states.dtype)
    if states.element_size() == kept.element_size():  # a product with its bits is it or nothing
        return kept.mul_(int(scale.view(torch.int16))).view(states.dtype)
    return kept.to(states.dtype).mul_(scale)


def _written_out(trunk: Any) -> str:
    """The name under which transformers knows the kernel that writes the scores out."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    takes_ours = getattr(trunk, "_supports_attention_backend", False)
    if not takes_ours or trunk.config.model_type not in _PLAIN:
        return "eager"
    AttentionInterface.register(_OURS, attend)
    AttentionMaskInterface.register(_OURS, eager_mask)
    return _OURS


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scaled dot-product attention, as transformers' `AttentionInterface` wants it.

    Query, key and value are [batch, heads, length, width], the mask, which is added to the
    scores, [batch, 1, 1 or length, length]. Gives the sums, [batch, length, heads, width], and
    the weights, [batch, heads, length, length].
    """
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * factor, key.transpose(2, 3))
    if attention_mask is not None:
        scores += attention_mask
    # In place where no gradient wants the scores: new pages would take as long as the products.
    out = None if torch.is_grad_enabled() else scores
    weights = torch.softmax(scores, dim=-1, out=out)
    if module.training:
        weights = drop(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights
