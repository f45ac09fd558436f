"""Which numbers does this machine reach?

Matrix products and one layer of an encoder, in the shapes that a trunk really has: what
`models.precision` chooses by at the start of a training or an embedding, and what `rates` tells
a plan. All of it together takes about a second.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from realm.kernels import use_attention

Use = Literal["forward", "training"]
"""Embedding and answering run forward alone; training runs backward as well."""
PASSES: dict[Use, int] = {"forward": 1, "training": 3}
"""Operations of a use in units of a forward pass: backward takes twice as many."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SECONDS = 0.05  # for one measurement; what is slow is run twice whatever it takes
_LEAST_REPEATS, _MOST_REPEATS = 2, 20
_SHARE = 0.25  # of an accelerator's free memory, for what could as well lie elsewhere


@dataclass(frozen=True)
class Shape:
    """What the cost of one layer of an encoder depends on."""

    width: int
    heads: int
    inner: int

    def layer_flops(self, length: int) -> float:
        """Operations for one wordpiece of an input of that length, forward.

        Two for each weight of the four attention matrices and the two others, and two for each
        product of the wordpiece with all others, in scores and in sums.
        """
        weights = 4 * self.width**2 + 2 * self.width * self.inner
        return 2.0 * weights + 4.0 * length * self.width


def default_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def where_it_fits(tensor: Tensor) -> Tensor:
    """The tensor on the accelerator, where there is one with much more room, else as it is."""
    device = default_device()
    if device.type != "cuda" or tensor.nbytes > _SHARE * torch.cuda.mem_get_info()[0]:
        return tensor
    return tensor.to(device)


def best_seconds(work: Callable[[], object]) -> float:
    """Shortest time of several runs after a first one: a neighbour only ever makes it longer."""
    _finish(work)
    times: list[float] = []
    while len(times) < _LEAST_REPEATS or (sum(times) < _SECONDS and len(times) < _MOST_REPEATS):
        begin = time.perf_counter()
        _finish(work)
        times.append(time.perf_counter() - begin)
    return min(times)


def matrix_rate(shape: Shape, precision: str, *, num_tokens: int = 1024) -> float:
    """Operations a second of the widest product of a layer: wordpieces into its inner width."""
    device, dtype = default_device(), DTYPES[precision]
    inputs = torch.ones(num_tokens, shape.width, dtype=dtype, device=device)
    weights = torch.ones(shape.width, shape.inner, dtype=dtype, device=device)
    return 2.0 * num_tokens * weights.numel() / best_seconds(lambda: inputs @ weights)


def layer_rate(
    shape: Shape, precision: str, attention: str, use: Use, *, batch: int, length: int
) -> float:
    """Wordpieces a second through one layer of BERT with that attention kernel."""
    layer = _layer(shape, attention).to(default_device(), DTYPES[precision])
    inputs = _noise(batch, length, shape.width).to(default_device(), DTYPES[precision])
    # A padded batch, as batches are: some kernels are quicker where there is no mask at all.
    mask = torch.ones(batch, length, dtype=torch.long, device=inputs.device)
    mask[0, length - 1 :] = 0

    def forward() -> Tensor:
        output = layer(inputs_embeds=inputs, attention_mask=mask)
        return output.last_hidden_state  # type: ignore[no-any-return]

    def training() -> None:
        states = forward()
        states.backward(torch.ones_like(states))

    if use == "training":
        layer.train()
        inputs.requires_grad_()
        return batch * length / best_seconds(training)
    with torch.inference_mode():
        return batch * length / best_seconds(forward)


def layer_kept_bytes(shape: Shape, precision: str, attention: str, *, length: int) -> float:
    """Bytes that the backward pass of one layer needs of each wordpiece, weights left out."""
    layer = _layer(shape, attention).to(default_device(), DTYPES[precision])
    weights = {weight.untyped_storage().data_ptr() for weight in layer.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = _noise(2, length, shape.width).to(default_device(), DTYPES[precision])
    mask = torch.ones(2, length, dtype=torch.long, device=inputs.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # What it returns holds the graph, so that no storage goes and lends its place to another.
        _ = layer(inputs_embeds=inputs.requires_grad_(), attention_mask=mask)
    return sum(kept.values()) / (2 * length)


def thread_rates(shape: Shape, precision: str) -> dict[int, float]:
    """The rate of a product by number of threads: all, and less as long as fewer are better.

    More threads than the machine gives this process (containers, half cores) make it slower.
    """
    number = torch.get_num_threads()
    rates = {}
    while number >= 1:
        with using_threads(number):
            rates[number] = matrix_rate(shape, precision)
        if rates[number] < max(rates.values()):
            break
        number //= 2
    return rates


@contextmanager
def using_threads(number: int) -> Iterator[None]:
    """Compute with so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _layer(shape: Shape, attention: str) -> Any:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        "bert", hidden_size=shape.width, num_attention_heads=shape.heads, num_hidden_layers=1,
        intermediate_size=shape.inner, vocab_size=8,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():  # what follows draws the same numbers, measured or not
        layer = AutoModel.from_config(config)
    use_attention(layer, attention)
    return layer


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _finish(work: Callable[[], object]) -> None:
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
