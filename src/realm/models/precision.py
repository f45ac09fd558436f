"""What does a model compute with: which number format, attention kernel and number of threads?

Measured, not assumed: machines with matrix units for bfloat16 gain four times from it, others
lose; of the attention kernels the fused one wins forward on some machines and loses backward on
others by a factor of two. A training writes what was chosen into its journal, so that a resumed
run computes alike.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from realm import machine
from realm.config import Settings
from realm.errors import SettingError
from realm.kernels import ATTENTIONS, default_attention
from realm.machine import DTYPES, Shape, Use

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Attention = Literal["auto", "eager", "sdpa"]
# Half of the digits are given up only for a gain that is worth it; fp16, whose range is small as
# well, only where bf16 is not quick.
_LEAST_GAIN = 1.3
# Some processors have no fp16 and do it step by step, a hundred times slower than fp32: a product
# of a few wordpieces shows it, where a whole one would take most of a second.
_HOPELESS, _FEW_TOKENS = 0.1, 16
_TOKENS = 1280  # of the batch that a layer is measured with


class ComputeSettings(Settings):
    """What to compute with; `auto` and 0 are measured when work begins."""

    precision: Precision = "auto"
    """`fp16` embeds and answers; it does not train, for want of range."""
    attention: Attention = "auto"
    num_threads: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Compute:
    """What was chosen."""

    precision: str
    attention: str
    num_threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The number format of weights and hidden states."""
        return DTYPES[self.precision]


def shape_of(trunk: nn.Module) -> Shape:
    """What the cost of a trunk's layers depends on."""
    return shape_of_config(trunk.config)


def shape_of_config(config: Any) -> Shape:
    """The same, told by a configuration alone; what it does not name is guessed as in BERT."""
    width = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", max(1, width // 64)))
    return Shape(width, heads, int(getattr(config, "intermediate_size", 4 * width)))


def choose_compute(settings: ComputeSettings, shape: Shape, use: Use, length: int) -> Compute:
    """Take what is set, and measure the rest for inputs of that length in wordpieces.

    Raises:
        SettingError: the format cannot train.
    """
    if use == "training" and settings.precision == "fp16":
        raise SettingError("precision fp16 does not train: choose auto, bf16 or fp32")
    precision = str(settings.precision)
    if precision == "auto":
        precision = quickest_precision(shape, use)
    number = settings.num_threads or best_num_threads(shape, precision)
    attention = str(settings.attention)
    if attention == "auto":
        with machine.using_threads(number):
            attention = quickest_attention(shape, precision, use, length)
    return Compute(precision, attention, number)


def facts_to_keep(training: Compute, embedding: Compute) -> dict[str, Any]:
    """What a training's journal keeps, for itself and for those who embed with its checkpoints."""
    facts = asdict(training)
    return {
        "chosen": facts.pop("precision"), **facts, "embedding_attention": embedding.attention,
    }  # fmt: skip


def kept_for_training(facts: Mapping[str, Any]) -> Compute:
    """What a journal kept for the training; the first ones had the number format alone."""
    number = int(facts.get("num_threads", torch.get_num_threads()))
    return Compute(facts["chosen"], facts.get("attention", default_attention()), number)


def kept_for_embedding(facts: Mapping[str, Any]) -> Compute:
    """What a journal kept for embedding; the threads are this process's own affair."""
    attention = facts.get("embedding_attention", default_attention())
    return Compute(facts["chosen"], attention, torch.get_num_threads())


@cache
def quickest_precision(shape: Shape, use: Use) -> str:
    """The number format with the quickest products, of those that the use can do with."""
    rates = {"fp32": machine.matrix_rate(shape, "fp32")}
    names = ("bf16",) if use == "training" else ("bf16", "fp16")
    best = "fp32"
    least = _HOPELESS * machine.matrix_rate(shape, "fp32", num_tokens=_FEW_TOKENS)
    for name in names:
        if machine.matrix_rate(shape, name, num_tokens=_FEW_TOKENS) < least:
            continue
        rates[name] = machine.matrix_rate(shape, name)
        if rates[name] > _LEAST_GAIN * rates[best]:
            best = name
    return best


@cache
def quickest_attention(shape: Shape, precision: str, use: Use, length: int) -> str:
    """The attention kernel with which a layer is quickest."""
    batch = max(1, _TOKENS // length)
    rates = {
        name: machine.layer_rate(shape, precision, name, use, batch=batch, length=length)
        for name in ATTENTIONS
    }
    return max(rates, key=lambda name: rates[name])


@cache
def best_num_threads(shape: Shape, precision: str) -> int:
    """All threads, or fewer where fewer are much quicker.

    A neighbour that is busy just now makes all threads slower than they will be once it is gone.
    """
    rates = machine.thread_rates(shape, precision)
    every, quickest = max(rates), max(rates, key=lambda number: rates[number])
    return quickest if rates[quickest] > _LEAST_GAIN * rates[every] else every
