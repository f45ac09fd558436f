"""How do sentence-transformers and faiss make an index of passages?

build_index.py TRUNK PASSAGES PRECISION INDEX
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Embed title and text of every passage, and write an exact index."""
    trunk, passages, precision, index = sys.argv[1:]
    import faiss
    import torch
    from sentence_transformers import SentenceTransformer

    with Path(passages).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    model = SentenceTransformer(
        trunk, device="cpu", model_kwargs={"torch_dtype": getattr(torch, precision)}
    )
    texts = [f"{row['title']} {row['text']}" for row in rows]
    vectors = model.encode(texts, show_progress_bar=False, convert_to_tensor=True)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors.float().numpy())
    faiss.write_index(flat, index)


if __name__ == "__main__":
    main()
