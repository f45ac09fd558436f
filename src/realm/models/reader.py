"""What does a query say when it is read together with a passage?

The knowledge-augmented encoder has two heads on one trunk (REALM, section 3.2):

    masked   p(y_j|z,x) from the hidden state at each [MASK], by a BERT head with tied embeddings
    span     p(y|z,x) of each short span of the passage: MLP of its first and last hidden state

Logits are computed only where they are asked for: at the masks, and inside the passage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from realm.config import Settings
from realm.examples.packing import Packed, Packer, TokenBatch, length_batches, moved
from realm.models.last_layer import run_trunk
from realm.models.recompute import run
from realm.models.trunk import DEFAULT_TRUNK


class ReaderSettings(Settings):
    """Shape of the knowledge-augmented encoder."""

    trunk: str = DEFAULT_TRUNK
    num_layers: int | None = Field(default=None, ge=1)
    """Of the trunk, from the first; None reads with all. Half of them take half the time."""
    span_width: int = Field(default=256, ge=1)
    """Width of the span head's hidden layer."""
    max_answer_tokens: int = Field(default=10, ge=1)
    """Longest answer in wordpieces."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class MaskedHead(nn.Module):
    """BERT's masked language modelling head; the output embeddings are the trunk's own."""

    def __init__(
        self, hidden: int, embeddings: Float[Tensor, "vocab width"], eps: float, activation: str
    ) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        vocab, width = embeddings.shape  # ELECTRA and ALBERT have embeddings narrower than states
        self.dense = nn.Linear(hidden, width)
        self.activation = ACT2FN[activation]
        self.layer_norm = nn.LayerNorm(width, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocab))

    def forward(
        self, hidden: Float[Tensor, "targets hidden"], embeddings: Float[Tensor, "vocab width"]
    ) -> Float[Tensor, "targets vocab"]:
        """Logits over the vocabulary, in single precision."""
        hidden = self.layer_norm(self.activation(self.dense(hidden)))
        return nn.functional.linear(hidden, embeddings, self.bias).float()


class SpanHead(nn.Module):
    """Scores every span of up to `max_answer_tokens` wordpieces: MLP([h_start; h_end])."""

    def __init__(self, hidden: int, width: int, max_answer_tokens: int) -> None:
        super().__init__()
        self.start = nn.Linear(hidden, width)
        self.end = nn.Linear(hidden, width, bias=False)
        self.layer_norm = nn.LayerNorm(width, eps=1e-3)
        self.output = nn.Linear(width, 1)
        self.max_answer_tokens = max_answer_tokens

    def forward(
        self, hidden: Float[Tensor, "joints body hidden"]
    ) -> Float[Tensor, "joints body widths"]:
        """Logit of the span that starts at each position and is 1, 2, ... wordpieces wide."""
        start, end = self.start(hidden), self.end(hidden)
        columns = []
        for width in range(self.max_answer_tokens):
            # The end lies `width` positions to the right; what runs over the edge is cut later.
            joined = torch.relu(start + end.roll(-width, dims=1))
            columns.append(self.output(self.layer_norm(joined)))
        return torch.cat(columns, dim=-1).float()


class Reader(nn.Module):
    """The knowledge-augmented encoder."""

    def __init__(self, trunk: nn.Module, settings: ReaderSettings) -> None:
        super().__init__()
        self.trunk = trunk
        self.settings = settings
        config = trunk.config
        hidden, eps = int(config.hidden_size), float(getattr(config, "layer_norm_eps", 1e-12))  # type: ignore[union-attr, arg-type]
        activation = str(getattr(config, "hidden_act", "gelu"))  # gelu_new in the released ones
        self.masked_head = MaskedHead(hidden, self.output_embeddings(), eps, activation)
        self.span_head = SpanHead(hidden, settings.span_width, settings.max_answer_tokens)
        self.recompute = False
        """Whether trunk and heads run again in the backward pass instead of keeping what it
        needs."""

    def forward(
        self, batch: TokenBatch, positions: Int[Tensor, "batch masks"] | None = None
    ) -> Float[Tensor, "batch states hidden"]:
        """Hidden states of packed pairs: all, or those at some positions of each."""
        inputs = [batch.input_ids, batch.attention_mask, batch.segment_ids]
        inputs += [] if positions is None else [positions]
        return run(self._read, *inputs, recompute=self.recompute)

    def _read(self, *inputs: Tensor) -> Tensor:
        return run_trunk(self.trunk, *inputs).last_hidden_state  # type: ignore[no-any-return]

    def output_embeddings(self) -> Float[Tensor, "vocab width"]:
        """The word embeddings, which the masked head shares."""
        return self.trunk.get_input_embeddings().weight  # type: ignore[operator, no-any-return]


@dataclass(frozen=True)
class ReadGroup:
    """Pairs that were read together: their places among all, on the CPU, and hidden states."""

    places: Int[Tensor, " group"]
    items: list[Packed]
    hidden: Float[Tensor, "group states hidden"]
    positions: Int[Tensor, "group states"] | None = None
    """Where the states are, if not everywhere."""


def read(
    reader: Reader,
    joints: Sequence[Packed],
    *,
    packer: Packer,
    token_budget: int,
    positions: Int[Tensor, "joints masks"] | None = None,
) -> list[ReadGroup]:
    """Run the trunk over packed pairs, in batches of like length; the heads take it from here.

    With `positions` there are hidden states at those of each pair alone, for the masked head.
    """
    device = next(reader.parameters()).device
    groups = []
    for places in length_batches([len(item) for item in joints], token_budget, device.type):
        items = [joints[i] for i in places]
        asked = None if positions is None else moved(positions[places], device)
        hidden = reader(packer.pad(items).to(device), asked)
        groups.append(ReadGroup(torch.from_numpy(places), items, hidden, asked))
    return groups


def masked_log_probs(
    reader: Reader,
    groups: Sequence[ReadGroup],
    positions: Int[Tensor, "joints masks"],
    targets: Int[Tensor, "joints masks"],
    is_target: Bool[Tensor, "joints masks"],
) -> Float[Tensor, "joints masks"]:
    """Log p(y_j|z,x) at each masked position of each pair; padding of the targets gives zero."""
    device = next(reader.parameters()).device
    result = torch.zeros(targets.shape, device=device)
    for group in groups:
        # Which places count is found out on the CPU: an accelerator would be waited for.
        item, mask = is_target[group.places].nonzero(as_tuple=True)
        joint = group.places[item]
        is_whole = group.positions is None  # else the states are those at the masks, in order
        state = positions[joint, mask] if is_whole else mask
        chosen = targets[joint, mask]
        # In one piece, since each copy has its price.
        item, state, chosen, joint, mask = moved(
            torch.stack((item, state, chosen, joint, mask)), device
        )
        at_masks = group.hidden[item, state]
        head_inputs = (at_masks, reader.output_embeddings())
        logits = run(reader.masked_head, *head_inputs, recompute=reader.recompute)
        log_probs = logits.log_softmax(dim=-1).gather(-1, chosen[:, None])[:, 0]
        result = result.index_put((joint, mask), log_probs)
    return result


def masked_predictions(
    reader: Reader, groups: Sequence[ReadGroup], position: int
) -> Float[Tensor, "joints vocab"]:
    """Log p over the whole vocabulary at one masked position of each pair."""
    logits = [
        reader.masked_head(group.hidden[:, position], reader.output_embeddings())
        for group in groups
    ]
    order = torch.cat([group.places for group in groups]).argsort()
    joined = torch.cat(logits)
    return joined[order.to(joined.device)].log_softmax(dim=-1)


def span_scores(
    reader: Reader, groups: Sequence[ReadGroup]
) -> tuple[Float[Tensor, "joints body widths"], Float[Tensor, " joints"]]:
    """Logits of all spans inside the bodies, and of saying nothing.

    The first axis of a body is its own first wordpiece; spans that leave the body, and padding,
    are -inf. The second result is the score of [CLS] as a span, used for the null passage.
    """
    device = next(reader.parameters()).device
    items = [item for group in groups for item in group.items]
    longest = max(max(item.body_end - item.body_start for item in items), 1)
    widths = reader.settings.max_answer_tokens
    spans = torch.full((len(items), longest, widths), -torch.inf, device=device)
    silence = torch.zeros(len(items), device=device)
    for group in groups:
        logits = run(reader.span_head, group.hidden, recompute=reader.recompute)
        places = moved(group.places, device)
        silence = silence.index_put((places,), logits[:, 0, 0])
        row, start, width = moved(torch.stack(_inside_bodies(group.items, widths)), device)
        first = moved(torch.tensor([item.body_start for item in group.items]), device)
        place = (places[row], start - first[row], width)
        spans = spans.index_put(place, logits[row, start, width])
    return spans, silence


def _inside_bodies(
    items: Sequence[Packed], widths: int
) -> tuple[Int[Tensor, " spans"], Int[Tensor, " spans"], Int[Tensor, " spans"]]:
    """Item, start and width (minus one) of every span that lies inside its body."""
    begins = torch.tensor([item.body_start for item in items])[:, None, None]
    ends = torch.tensor([item.body_end for item in items])[:, None, None]
    start, width = torch.arange(int(ends.max()))[:, None], torch.arange(widths)
    row, start, width = ((begins <= start) & (start + width < ends)).nonzero(as_tuple=True)
    return row, start, width
