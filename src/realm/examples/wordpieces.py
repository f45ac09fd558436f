"""Which wordpieces does a text have, and where does a run of them stand?"""

import numpy as np
from tokenizers import Tokenizer


def wordpieces(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The wordpieces of a text, without special ones."""
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)


def occurrences(body: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where a run of wordpieces begins in a body."""
    if len(wanted) == 0 or len(wanted) > len(body):
        return np.empty(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(body, len(wanted))
    return np.flatnonzero((windows == wanted).all(axis=1))
