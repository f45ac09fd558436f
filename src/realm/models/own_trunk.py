"""How does a trunk begin that nobody trained, and how is it kept when it is trained?

Both are folders that `models.trunk` reads like any other: a BERT of a chosen shape, with the
vocabulary of another trunk, since a list of wordpieces alone is no pre-training. Untrained it has a
configuration and a tokenizer; trained, the weights of encoder and masked head come along, under
the names that transformers gives them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from realm.artifact import create_artifact
from realm.config import Settings
from realm.examples.packing import Packer, PackingSettings
from realm.models.reader import Reader
from realm.models.trunk import MASKED_HEAD, WEIGHTS, write_configuration, write_tokenizer

KIND = "trunk"
UNTRAINED = "untrained-trunk"


class TrunkShape(Settings):
    """The shape of a BERT."""

    num_layers: int = Field(default=4, ge=1)
    width: int = Field(default=256, ge=1)
    num_heads: int = Field(default=4, ge=1)
    inner_width: int = Field(default=1024, ge=1)
    """Width between the two matrices of a layer's feed-forward part."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest input in wordpieces; those places that no training reaches stay random."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(
                f"{self.num_heads} heads cannot share a width of {self.width}: choose a number of "
                "heads that divides it"
            )
        return self


def write_untrained_trunk(
    path: Path, shape: TrunkShape, tokenizer: Tokenizer, *, settings: Mapping[str, Any]
) -> None:
    """Write a trunk without weights; whoever loads it gets random ones."""
    with create_artifact(path, UNTRAINED, settings=settings, inputs={}) as staging:
        _write_description(staging.path, shape, tokenizer)


def write_own_trunk(
    path: Path,
    shape: TrunkShape,
    tokenizer: Tokenizer,
    reader: Reader,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """Write a reader's trunk and masked head; the pooler, which nothing trained, stays out."""
    tensors = _named_as_in_transformers(reader)
    with create_artifact(path, KIND, settings=settings, inputs=inputs) as staging:
        staging.counts["num_weights"] = sum(tensor.numel() for tensor in tensors.values())
        _write_description(staging.path, shape, tokenizer)
        # transformers refuses safetensors that do not say for which library they were written.
        save_file(tensors, staging.path / WEIGHTS, metadata={"format": "pt"})


def _named_as_in_transformers(reader: Reader) -> dict[str, Tensor]:
    """The weights by the names of BertForMaskedLM; its decoder is the word embeddings."""
    tensors = {
        f"bert.{name}": tensor
        for name, tensor in reader.trunk.state_dict().items()
        if not name.startswith("pooler.")
    }
    weights = reader.masked_head.state_dict()
    # Two spellings are read; the first of them is today's.
    theirs = {ours: name for name, ours in reversed(MASKED_HEAD.items())}
    tensors |= {f"cls.{theirs[name]}": tensor for name, tensor in weights.items()}
    return {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}


def _write_description(folder: Path, shape: TrunkShape, tokenizer: Tokenizer) -> None:
    configuration = {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "vocab_size": 1 + max(tokenizer.get_vocab().values()),
        "hidden_size": shape.width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.inner_width,
        "max_position_embeddings": shape.max_tokens,
        "type_vocab_size": 2,
        "pad_token_id": Packer(tokenizer, PackingSettings()).pad_id,
    }
    write_configuration(folder, configuration)
    write_tokenizer(folder, tokenizer)
