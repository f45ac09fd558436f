"""How does a passage become a pseudo-question and its context (Lee et al. 2019, REALM 3.4)?

One sentence is the query, the passage without it is the target; in one case of ten the sentence
stays, so that matching words is learned beside matching meaning.
"""

from typing import NamedTuple

import numpy as np

from realm.corpus.store import PassageStore
from realm.examples.masking import draw_sentence
from realm.examples.packing import Packed, Packer


class InverseClozePair(NamedTuple):
    """A packed sentence and the packed passage that it was taken from."""

    query: Packed
    passage: Packed


def rows_for_inverse_cloze(store: PassageStore) -> np.ndarray:
    """Passages of two sentences or more: something is left when one is taken out."""
    rows = [row for row in range(len(store)) if len(store.sentences(row)) > 1]
    return np.array(rows, dtype=np.int64)


def inverse_cloze_pair(
    store: PassageStore,
    packer: Packer,
    row: int,
    generator: np.random.Generator,
    *,
    removal_rate: float,
) -> InverseClozePair:
    """Take a random sentence of a passage as the query for what is left of it."""
    body = store.token_ids(row)
    start, end = draw_sentence(store, row, generator)
    rest = body
    if generator.random() < removal_rate:
        rest = np.concatenate((body[:start], body[end:]))
    return InverseClozePair(
        packer.query(body[start:end]), packer.passage(store.title_token_ids(row), rest)
    )


def random_sentence(
    store: PassageStore, packer: Packer, row: int, generator: np.random.Generator
) -> Packed:
    """A sentence of a passage as a query."""
    start, end = draw_sentence(store, row, generator)
    return packer.query(store.token_ids(row)[start:end])
