"""How is transformers' `RealmForOpenQA` given our passages and their embeddings?"""

from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from harness import Bench
from machine import free_bytes
from peer import Peer
from realm.examples.question import Question
from realm.models.trunk import locate_trunk, read_tokenizer
from world import World

_SHARE = 0.5  # of the free memory that the port may take
_OF_A_STRING = 50  # bytes of Python's own, its place in an array among them


def load_port(
    bench: Bench, peer: Peer, world: World, folder: Path, variants: dict[str, dict[str, Any]]
) -> int:
    """Load the model once for each variant: its `beams` by name, and how it is in `training`.

    Gives the number of passages that it was given: as many as fit in memory beside ours.
    """
    number = min(len(world.store), num_blocks_that_fit(world, len(variants)))
    vocabulary, embeddings = folder / "vocab.txt", folder / "embeddings.npy"
    by_id = sorted(read_tokenizer(locate_trunk(bench.trunk)).get_vocab().items(), key=itemgetter(1))
    vocabulary.write_text("".join(f"{word}\n" for word, _ in by_id), encoding="utf-8")
    np.save(embeddings, world.snapshot.embeddings[:number].numpy())
    for name, options in variants.items():
        peer.call(
            "load_open_qa", name=name, config=str(locate_trunk(bench.trunk) / "config.json"),
            vocabulary=str(vocabulary), passages=str(world.passages()),
            embeddings=str(embeddings), **options,
        )  # fmt: skip
    return number


def num_blocks_that_fit(world: World, num_variants: int) -> int:
    """How many passages each of so many variants can hold, with its embeddings as it wants them."""
    text = world.passages().stat().st_size / len(world.store) + _OF_A_STRING
    vector = 4 * world.snapshot.embeddings.shape[1]
    return int(_SHARE * free_bytes() / ((num_variants + 1) * (text + vector)))


def plain(questions: list[Question]) -> list[dict[str, Any]]:
    """Questions as JSON values."""
    return [asdict(question) for question in questions]
