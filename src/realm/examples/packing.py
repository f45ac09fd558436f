"""How do wordpieces become the inputs of an encoder?

    query      [CLS] query [SEP]                      segment 0
    passage    [CLS] title [SEP] body [SEP]           title and its [SEP] 0, body 1
    joint      [CLS] query [SEP] (title [SEP]) body [SEP]    query 0, the rest 1

This is the only writer of these layouts: trainer, index builder, evaluator and server call it.
The null passage has an empty title and an empty body and is packed like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from realm.config import Settings
from realm.errors import SettingError

Ids = np.ndarray
_NO_TOKENS = np.empty(0, dtype=np.int64)
# What one more forward pass costs, in wordpieces: on a CPU that its gradients are added to the
# others', on an accelerator that it waits for hundreds of small launches.
_CPU_GROUP_COST, _ACCELERATOR_GROUP_COST = 96, 4096


class PackingSettings(Settings):
    """Lengths in wordpieces, special tokens included, and what is shown to the encoders."""

    query_tokens: int = 96
    """Longest packed query."""
    passage_tokens: int = 288
    """Longest packed passage; the cut of the corpus."""
    title_in_passage: bool = True
    """Whether the embedder sees the title before the body; without it the title is empty."""
    joint_tokens: int | None = None
    """Longest pair, in which the body takes what the query leaves (320 when the released models
    answer questions); `None` gives the body the same room beside every query."""
    title_in_joint: bool = False
    """Whether the reader sees the title before the body; the paper's code shows the body alone."""
    segments: Literal["separate", "single"] = "separate"
    """`single` gives segment 0 to everything, for trunks that never saw a second segment."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One input: its ids, and where segment 1 and the body begin and the body ends."""

    ids: Ids
    segment_start: int
    body_start: int
    body_end: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class TokenBatch:
    """Padded inputs of an encoder."""

    input_ids: Int[Tensor, "batch length"]
    attention_mask: Int[Tensor, "batch length"]
    segment_ids: Int[Tensor, "batch length"]

    def to(self, device: torch.device) -> "TokenBatch":
        """Move all three tensors, in one piece."""
        whole = torch.stack((self.input_ids, self.attention_mask, self.segment_ids))
        return TokenBatch(*moved(whole, device))


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor, to a GPU without waiting for what that is at."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # A copy from pinned memory goes on while the CPU packs the next batch.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Packer:
    """Packs queries, passages and pairs for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, settings: PackingSettings) -> None:
        self.settings = settings
        self.cls_id = _special_id(tokenizer, "[CLS]", "<s>")
        self.sep_id = _special_id(tokenizer, "[SEP]", "</s>")
        self.mask_id = _special_id(tokenizer, "[MASK]", "<mask>")
        self.pad_id = _special_id(tokenizer, "[PAD]", "<pad>")

    @property
    def max_query_body(self) -> int:
        """How many wordpieces of a query survive packing."""
        return self.settings.query_tokens - 2

    def query(self, query: Ids) -> Packed:
        """Pack a query for the embedder, cut at the end where it is too long."""
        body = query[: self.max_query_body]
        ids = np.concatenate(([self.cls_id], body, [self.sep_id]))
        return Packed(ids, len(ids), 1, 1 + len(body))

    def passage(self, title: Ids, body: Ids) -> Packed:
        """Pack a passage for the embedder; the title is kept whole as far as possible."""
        room = self.settings.passage_tokens - 3
        title = title[:room] if self.settings.title_in_passage else _NO_TOKENS
        body = body[: room - len(title)]
        ids = np.concatenate(([self.cls_id], title, [self.sep_id], body, [self.sep_id]))
        start = 2 + len(title)
        return Packed(ids, self._segment(start, len(ids)), start, start + len(body))

    def joint(self, query: Ids, title: Ids, body: Ids) -> Packed:
        """Pack a query with a passage for the reader; positions of the query never depend on it."""
        head = np.concatenate(([self.cls_id], query[: self.max_query_body], [self.sep_id]))
        limit = self.settings.joint_tokens
        room = self.settings.passage_tokens - 1 if limit is None else limit - len(head)
        title = title[: max(room - 2, 0)]
        shown = np.concatenate((title, [self.sep_id])) if self._shows(title) else _NO_TOKENS
        body = body[: max(room - 1 - len(shown), 0)]
        ids = np.concatenate((head, shown, body, [self.sep_id]))
        start = len(head) + len(shown)
        return Packed(ids, self._segment(len(head), len(ids)), start, start + len(body))

    def pad(self, packed: Sequence[Packed]) -> TokenBatch:
        """Pad to the longest of these inputs."""
        length = max(len(item) for item in packed)
        input_ids = np.full((len(packed), length), self.pad_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        segment_ids = np.zeros_like(input_ids)
        for row, item in enumerate(packed):
            input_ids[row, : len(item)] = item.ids
            attention_mask[row, : len(item)] = 1
            segment_ids[row, item.segment_start : len(item)] = 1
        return TokenBatch(*map(torch.from_numpy, (input_ids, attention_mask, segment_ids)))

    def _shows(self, title: Ids) -> bool:
        return self.settings.title_in_joint and len(title) > 0

    def _segment(self, start: int, length: int) -> int:
        return start if self.settings.segments == "separate" else length


def length_batches(lengths: Sequence[int], token_budget: int, device_type: str) -> list[Ids]:
    """Group inputs of like length so that no padded group exceeds the budget, longest first.

    Padding costs as much as text, and a further group costs something too: of all cuts of the
    sorted inputs the one is taken whose groups cost least together. Every index occurs once; a
    single input over the budget stands alone.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    ordered = np.asarray(lengths, dtype=np.int64)[order]
    number = len(order)
    group_cost = _CPU_GROUP_COST if device_type == "cpu" else _ACCELERATOR_GROUP_COST
    ends, least = np.zeros(number, dtype=np.int64), np.zeros(number + 1, dtype=np.int64)
    for begin in reversed(range(number)):
        most = max(1, token_budget // int(ordered[begin]))
        after = least[begin + 1 : begin + 1 + most]
        costs = group_cost + ordered[begin] * np.arange(1, len(after) + 1) + after
        size = int(costs.argmin())
        ends[begin], least[begin] = begin + 1 + size, costs[size]
    groups = []
    begin = 0
    while begin < number:
        groups.append(order[begin : ends[begin]])
        begin = int(ends[begin])
    return groups


def _special_id(tokenizer: Tokenizer, *spellings: str) -> int:
    for spelling in spellings:
        token_id = tokenizer.token_to_id(spelling)
        if token_id is not None:
            return int(token_id)
    raise SettingError(f"the tokenizer has no {spellings[0]} token: choose a trunk with one")
