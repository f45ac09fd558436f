"""Which passages are worth reading for a question?

The best of a snapshot by inner product; joined, where asked for, with the best of BM25 by
reciprocal rank, which helps with rare names that a small embedding confuses. BM25 may rank alone:
a trained retriever is compared with that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from realm.config import Settings
from realm.index.exact import Index
from realm.retrieval.lexical import WordSearch, reciprocal_rank_fusion

_FUSED_DEPTH = 100  # how far down both rankings are fused


class RetrievalSettings(Settings):
    """What takes part in retrieval."""

    lexical: bool = False
    """Let BM25 rank: joined with the embedder's ranking by reciprocal rank."""
    embedder: bool = True
    """Let the embedder rank; without it BM25 alone chooses what is read, in fine-tuning too."""
    reader_passages: int = Field(default=5, ge=1)
    """Best passages that are read to answer a question; fine-tuning has a number of its own."""

    @model_validator(mode="after")
    def _something_ranks(self) -> Self:
        if not (self.embedder or self.lexical):
            raise ValueError("nothing ranks the passages: set lexical=true or embedder=true")
        return self


class Ranker(Protocol):
    """Chooses the passages that are read: a `Retriever`, or anything that ranks."""

    def search(self, questions: Sequence[str], vectors: Tensor, k: int) -> Tensor:
        """Rows [questions, k] of passages, best first; -1 where there is none."""


@dataclass(frozen=True)
class Retriever:
    """Searches an index by embedding, and BM25 by words where one is given."""

    index: Index
    lexical: WordSearch | None = None
    ranks_by_vector: bool = True
    """Whether the index takes part; where not, `lexical` ranks alone."""

    def search(
        self, questions: Sequence[str], vectors: Float[Tensor, "queries dim"], k: int
    ) -> Int[Tensor, "queries k"]:
        """Rows of the best passages, best first; -1 where the corpus has fewer than `k`."""
        is_fused = self.lexical is not None and self.ranks_by_vector
        depth = max(k, _FUSED_DEPTH) if is_fused else k
        rankings = []
        if self.ranks_by_vector:
            rankings.append(self.index.search(vectors.detach().cpu(), depth).rows.numpy())
        if self.lexical is not None:
            rankings.append(self.lexical.search(questions, depth)[0])
        rows = torch.from_numpy(reciprocal_rank_fusion(rankings, k) if is_fused else rankings[0])
        missing = k - rows.shape[1]
        return torch.nn.functional.pad(rows, (0, missing), value=-1) if missing > 0 else rows
