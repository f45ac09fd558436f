"""How is transformers' `RealmForOpenQA` given our passages and their embeddings?"""

from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from harness import Bench
from peer import Peer
from realm.examples.question import Question
from realm.models.trunk import locate_trunk, read_tokenizer
from world import World


def load_port(
    bench: Bench, peer: Peer, world: World, folder: Path, variants: dict[str, dict[str, Any]]
) -> None:
    """Load the model once for each variant: its `dropout`, and its `beams` by name."""
    vocabulary, embeddings = folder / "vocab.txt", folder / "embeddings.npy"
    by_id = sorted(read_tokenizer(locate_trunk(bench.trunk)).get_vocab().items(), key=itemgetter(1))
    vocabulary.write_text("".join(f"{word}\n" for word, _ in by_id), encoding="utf-8")
    np.save(embeddings, world.snapshot.embeddings.float().numpy())
    for name, options in variants.items():
        peer.call(
            "load_open_qa", name=name, config=str(locate_trunk(bench.trunk) / "config.json"),
            vocabulary=str(vocabulary), passages=str(world.passages()),
            embeddings=str(embeddings), **options,
        )  # fmt: skip


def plain(questions: list[Question]) -> list[dict[str, Any]]:
    """Questions as JSON values."""
    return [asdict(question) for question in questions]
