"""What are our tensors called in a released checkpoint?

Import renames one way, export the other. Heads that the REALM classes carry without using them
are filled from the reader's masked head, so that nothing in an exported folder is random.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from realm.models.embedder import Tower
from realm.models.reader import Reader

# Beginnings of names: ours, theirs.
TOWER_NAMES = {"trunk.": "realm.", "projection.": "cls.dense.", "layer_norm.": "cls.LayerNorm."}
TRUNK_NAMES = {"trunk.": "realm."}
MASKED_HEAD_NAMES = {
    "masked_head.dense.": "cls.predictions.transform.dense.",
    "masked_head.layer_norm.": "cls.predictions.transform.LayerNorm.",
    "masked_head.bias": "cls.predictions.bias",
}
SPAN_HEAD_NAMES = {
    "span_head.output.": "qa_outputs.dense_output.",
    "span_head.layer_norm.": "qa_outputs.layer_normalization.",
}
SPAN_ENDS = "qa_outputs.dense_intermediate."
"""One layer there, whose halves are the projections of a span's first and last wordpiece."""


def renamed(module: nn.Module, names: Mapping[str, str]) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters whose names begin as ours, under their released names."""
    for name, parameter in module.named_parameters():
        for ours, theirs in names.items():
            if name.startswith(ours):
                yield theirs + name.removeprefix(ours), parameter


def tower_tensors(tower: Tower, reader: Reader) -> dict[str, Tensor]:
    """A tower under its released names, with the masked head that its class carries."""
    words = tower.trunk.get_input_embeddings().weight  # type: ignore[operator]
    return {**dict(renamed(tower, TOWER_NAMES)), **_masked_head(reader, words)}


def encoder_tensors(reader: Reader) -> dict[str, Tensor]:
    """The knowledge-augmented encoder under its released names."""
    trunk = dict(renamed(reader, TRUNK_NAMES))
    return {**trunk, **_masked_head(reader, reader.output_embeddings())}


def reader_tensors(reader: Reader) -> dict[str, Tensor]:
    """The reader with its span head under its released names."""
    head = reader.span_head
    ends = {
        f"{SPAN_ENDS}weight": torch.cat([head.start.weight, head.end.weight]),
        f"{SPAN_ENDS}bias": torch.cat([head.start.bias, torch.zeros_like(head.start.bias)]),
    }
    return {**encoder_tensors(reader), **dict(renamed(reader, SPAN_HEAD_NAMES)), **ends}


def _masked_head(reader: Reader, words: Tensor) -> dict[str, Tensor]:
    head: dict[str, Tensor] = dict(renamed(reader, MASKED_HEAD_NAMES))
    decoder = {"weight": words, "bias": reader.masked_head.bias}
    head |= {f"cls.predictions.decoder.{name}": tensor for name, tensor in decoder.items()}
    # What is shared in memory may stand in a file but once: each holder gets a copy.
    return {name: tensor.detach().clone() for name, tensor in head.items()}
