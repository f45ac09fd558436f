"""The same search at a fraction of the cost, where missing a passage now and then is fine.

Cells of similar embeddings (inverted file, faiss); only the cells nearest to the query are
looked at, and what they hold is scored exactly.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from realm.errors import ResourceError
from realm.index.exact import Found

_TRAINING_ROWS_PER_CELL = 64


class ApproximateIndex:
    """Inverted-file maximum inner product search; same results type as `ExactIndex`."""

    def __init__(self, embeddings: Float[Tensor, "passages dim"], *, probes: int = 32) -> None:
        try:
            import faiss
        except ImportError as error:
            message = (
                "approximate search needs faiss: pip install faiss-cpu, or set index.kind=exact"
            )
            raise ResourceError(message) from error
        vectors = np.ascontiguousarray(embeddings.float().numpy())
        cells = max(1, int(4 * math.sqrt(len(vectors))))
        cells = min(cells, max(1, len(vectors) // _TRAINING_ROWS_PER_CELL))
        quantiser = faiss.IndexFlatIP(vectors.shape[1])
        self._index = faiss.IndexIVFFlat(
            quantiser, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        self._index.train(vectors)
        self._index.add(vectors)
        self.probes = probes
        """Cells that a search looks into."""

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Float[Tensor, "queries dim"], k: int) -> Found:
        """The `k` best rows that were found; a missing one has row -1 and score -inf."""
        vectors = np.ascontiguousarray(queries.detach().float().cpu().numpy())
        self._index.nprobe = min(self.probes, self._index.nlist)
        scores, rows = self._index.search(vectors, min(k, len(self)))
        found = torch.from_numpy(scores), torch.from_numpy(rows)
        return Found(found[0].masked_fill(found[1] < 0, -torch.inf), found[1])
