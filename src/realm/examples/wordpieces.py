"""Where in a text does a run of wordpieces stand?"""

import numpy as np


def occurrences(body: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where a run of wordpieces begins in a body."""
    if len(wanted) == 0 or len(wanted) > len(body):
        return np.empty(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(body, len(wanted))
    return np.flatnonzero((windows == wanted).all(axis=1))
