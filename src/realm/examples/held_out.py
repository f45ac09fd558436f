"""Which passages does no training query come from, so that they can measure?

Two documents of a hundred, always the same ones: warm start and pre-training both leave them
alone, whatever their seeds. They stay in the corpus and may be retrieved.
"""

import numpy as np

from realm.corpus.store import PassageStore

_SHARE = 0.02
_SEED = (0, 20)


def split_rows(rows: np.ndarray, store: PassageStore) -> tuple[np.ndarray, np.ndarray]:
    """Split passages by document into those that train and those that only measure.

    Those that measure come in a random order, so that any first few of them are a sample.
    """
    generator = np.random.default_rng(_SEED)
    is_held_out = generator.random(store.num_documents) < _SHARE
    mask = is_held_out[store.document_rows()[rows]]
    if mask.all() or not mask.any():  # few documents: every fiftieth passage, whoever asks
        mask = rows % 50 == 0
    if mask.all() or not mask.any():  # and of few passages one
        mask = np.arange(len(rows)) == 0
    return rows[~mask], generator.permutation(rows[mask])
