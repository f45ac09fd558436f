"""Which passages are worth reading for a question?

The best of a snapshot by inner product; joined, where asked for, with the best of BM25 by
reciprocal rank, which helps with rare names that a small embedding confuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realm.config import Settings
from realm.index.exact import Index
from realm.retrieval.lexical import WordSearch, reciprocal_rank_fusion

_FUSED_DEPTH = 100  # how far down both rankings are fused


class RetrievalSettings(Settings):
    """What takes part in retrieval."""

    lexical: bool = False
    """Join the embedder's ranking with that of BM25 by reciprocal rank."""
    reader_passages: int = 5
    """Best passages that are read to answer a question; fine-tuning has a number of its own."""


@dataclass(frozen=True)
class Retriever:
    """Searches an index by embedding, and BM25 by words where one is given."""

    index: Index
    lexical: WordSearch | None = None

    def search(
        self, questions: Sequence[str], vectors: Float[Tensor, "queries dim"], k: int
    ) -> Int[Tensor, "queries k"]:
        """Rows of the best passages, best first; -1 where the corpus has fewer than `k`."""
        depth = k if self.lexical is None else max(k, _FUSED_DEPTH)
        found = self.index.search(vectors.detach().cpu(), depth).rows
        if self.lexical is not None:
            by_words, _ = self.lexical.search(questions, depth)
            found = torch.from_numpy(reciprocal_rank_fusion([found.numpy(), by_words], k))
        missing = k - found.shape[1]
        return torch.nn.functional.pad(found, (0, missing), value=-1) if missing > 0 else found
