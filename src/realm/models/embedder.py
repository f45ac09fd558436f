"""How do queries and passages become vectors whose inner product says how well they fit?

    f(x, z) = Embed_input(x) . Embed_doc(z)                              (REALM, section 3.2)

A tower is a trunk, a pooling and a projection. Query and passage share one tower (as in the
released code) or have one each (as in the paper, and after fine-tuning, which moves the query
side alone).
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.errors import SettingError
from realm.examples.packing import Packed, Packer, TokenBatch, length_batches, moved
from realm.models.last_layer import run_trunk
from realm.models.recompute import run
from realm.models.trunk import DEFAULT_TRUNK

TrainedPart = Literal["all", "projection"]
"""What of a tower learns. A trunk at rest makes a refresh a matter of seconds, since its vectors
are kept; and a trunk that was trained to compare texts loses more than a short training gives."""
# Padded wordpieces in one forward pass without gradient. On a CPU 8192 are 25% slower, since
# hidden states then leave the core's cache.
_CPU_TOKENS, _ACCELERATOR_TOKENS = 2048, 32_768


class EmbedderSettings(Settings):
    """Shape of the dual encoder."""

    trunk: str = DEFAULT_TRUNK
    pooling: Literal["cls", "pooler", "mean"] = "mean"
    """How hidden states become one vector; MiniLM was trained with the mean."""
    projection_width: int | None = Field(default=128, ge=1)
    """Width of the embedding; `None` keeps the width of the trunk."""
    projection_layer_norm: bool = False
    """LayerNorm after the projection, as in the released code."""
    normalise: bool = True
    """Whether embeddings are brought to length one, so that scores are cosines times a scale."""
    score_scale: float = Field(default=20.0, gt=0.0)
    """Factor on the inner product: the inverse temperature with which training starts."""
    shared_towers: bool = True
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    projection_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the embedding itself while training; 0.1 in the released code."""


class Tower(nn.Module):
    """Trunk, pooling, projection: inputs to embeddings."""

    def __init__(self, trunk: nn.Module, settings: EmbedderSettings) -> None:
        super().__init__()
        self.trunk = trunk
        self.settings = settings
        hidden = int(trunk.config.hidden_size)  # type: ignore[union-attr, arg-type]
        width = settings.projection_width
        self.projection = nn.Linear(hidden, width) if width else None
        eps = float(getattr(trunk.config, "layer_norm_eps", 1e-12))
        self.layer_norm = (
            nn.LayerNorm(width or hidden, eps=eps) if settings.projection_layer_norm else None
        )
        self.width = width or hidden
        self.recompute = False
        """Whether the trunk runs again in the backward pass instead of keeping what it needs."""

    def pool(self, batch: TokenBatch) -> Float[Tensor, "batch hidden"]:
        """The trunk's own vector of each input, before the projection."""
        inputs = (batch.input_ids, batch.attention_mask, batch.segment_ids)
        return run(self._pool, *inputs, recompute=self.recompute)

    def _pool(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor) -> Tensor:
        is_mean = self.settings.pooling == "mean"
        places = None if is_mean else torch.zeros_like(input_ids[:, :1])
        output = run_trunk(self.trunk, input_ids, attention_mask, segment_ids, places)
        hidden = output.last_hidden_state
        if is_mean:
            mask = attention_mask[..., None].to(hidden.dtype)
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        elif self.settings.pooling == "pooler":
            pooled = output.pooler_output
        else:
            pooled = hidden[:, 0]
        return pooled  # type: ignore[no-any-return]

    def forward(self, batch: TokenBatch) -> Float[Tensor, "batch dim"]:
        """Embeddings in single precision."""
        return self.project(self.pool(batch))

    def project(self, pooled: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch dim"]:
        """From the trunk's vectors to embeddings; the scale of the scores is folded in here."""
        embedding = pooled
        for layer in (self.projection, self.layer_norm):
            if layer is not None:
                embedding = layer(embedding.to(layer.weight.dtype))
        embedding = embedding.float()
        if self.settings.projection_dropout:
            rate = self.settings.projection_dropout
            embedding = nn.functional.dropout(embedding, rate, self.training)
        if self.settings.normalise:
            embedding = nn.functional.normalize(embedding, dim=-1)
        return embedding * math.sqrt(self.settings.score_scale)


class Embedder(nn.Module):
    """The two sides of the retriever."""

    def __init__(self, query_tower: Tower, passage_tower: Tower) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.passage_tower = passage_tower

    @property
    def settings(self) -> EmbedderSettings:
        """The settings that both towers were built from."""
        return self.query_tower.settings

    @property
    def has_shared_towers(self) -> bool:
        """Whether queries and passages go through the same weights."""
        return self.query_tower is self.passage_tower

    def train_only(self, part: TrainedPart) -> None:
        """Let gradients move both towers whole, or their projections alone."""
        for tower in (self.query_tower, self.passage_tower):
            tower.trunk.requires_grad_(part == "all")

    def with_own_query_tower(self) -> "Embedder":
        """The same embedder with a query tower that can move while the passages stay put."""
        return Embedder(copy.deepcopy(self.query_tower), self.passage_tower)


def quick_token_budget(device_type: str) -> int:
    """Padded wordpieces of a batch that are embedded quickest where there is no gradient."""
    return _CPU_TOKENS if device_type == "cpu" else _ACCELERATOR_TOKENS


def embed(
    tower: Tower, packed: Sequence[Packed], packer: Packer, *, token_budget: int | None = None
) -> Float[Tensor, "inputs dim"]:
    """Embed any number of inputs, in their order, in batches of like length.

    Without a `token_budget` the batches are those that are quickest where there is no gradient.
    """
    return tower.project(pool(tower, packed, packer, token_budget=token_budget))


def pool(
    tower: Tower, packed: Sequence[Packed], packer: Packer, *, token_budget: int | None = None
) -> Float[Tensor, "inputs hidden"]:
    """The trunk's own vectors, before the projection, in the order of the inputs."""
    device = next(tower.parameters()).device
    budget = token_budget or quick_token_budget(device.type)
    groups = length_batches([len(item) for item in packed], budget, device.type)
    parts = [tower.pool(packer.pad([packed[i] for i in group]).to(device)) for group in groups]
    order = torch.cat([torch.from_numpy(group) for group in groups])
    return torch.cat(parts).float()[moved(torch.argsort(order), device)]


@torch.no_grad()
def start_projection_from_principal_components(
    tower: Tower,
    pooled: Float[Tensor, "inputs hidden"],
    whitening: Float[Tensor, "hidden hidden"] | None = None,
) -> float:
    """Let the projection keep the directions in which these vectors lie; return the kept share.

    `whitening` is a linear map that all vectors go through first.

    A random projection to 128 dimensions costs MiniLM 16 points of recall@5 on SQuAD questions,
    principal components with normalised results cost 3. The components are not centred: inner
    products, not distances, matter.
    """
    if tower.projection is None:
        return 1.0
    if tower.projection.out_features > tower.projection.in_features:
        raise SettingError(
            f"embedder.projection_width is over the trunk's {tower.projection.in_features}: set it "
            "lower, or warm_start.embedder.principal_components_sample=0"
        )
    if whitening is not None:
        pooled = pooled @ whitening
    pooled = nn.functional.normalize(pooled, dim=-1)
    values, vectors = torch.linalg.eigh(pooled.double().T @ pooled.double())
    width = tower.projection.out_features
    weight = vectors[:, -width:].T
    if whitening is not None:  # rows of length one on average, as without: a rate means the same
        weight = weight @ whitening.double()
        weight *= width**0.5 / weight.norm()
    tower.projection.weight.copy_(weight)
    tower.projection.bias.zero_()
    return float(values[-width:].sum() / values.sum())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off and no gradients inside the block; the training mode comes back after it."""
    was_training = module.training
    # Turning every part of a model over takes a millisecond: an answer does without.
    is_to_turn = any(part.training for part in module.modules())
    if is_to_turn:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if is_to_turn:
            module.train(was_training)
