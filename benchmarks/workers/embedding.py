"""How many passages a second does sentence-transformers embed?"""

import json
import time
from pathlib import Path
from typing import Any

from conversation import converse

models: dict[str, Any] = {}
texts: list[str] = []


def read(passages: str) -> None:
    """Take title and text of every passage, as one text."""
    with Path(passages).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts[:] = [f"{row['title']} {row['text']}" for row in rows]


def load(name: str, trunk: str, precision: str, attention: str) -> None:
    """Load the trunk under a name; `sdpa` is the attention that it comes with."""
    import torch
    from sentence_transformers import SentenceTransformer

    arguments = {"torch_dtype": getattr(torch, precision), "attn_implementation": attention}
    models[name] = SentenceTransformer(trunk, device="cpu", model_kwargs=arguments)


def embed(name: str, batch_size: int) -> list[float]:
    """Passages a second; it sorts them by length itself."""
    begin = time.perf_counter()
    models[name].encode(texts, batch_size=batch_size, show_progress_bar=False)
    return [len(texts) / (time.perf_counter() - begin)]


if __name__ == "__main__":
    converse({"read": read, "load": load, "embed": embed})
