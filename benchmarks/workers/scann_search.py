"""How many queries a second does ScaNN answer by brute force?"""

import time
from typing import Any

import numpy as np
from conversation import converse

state: dict[str, Any] = {}


def load(vectors: str, threads: int) -> None:
    """Take the vectors; `search` wants the same number of neighbours every time."""
    import scann

    rows = np.load(vectors)
    builder = scann.scann_ops_pybind.builder(rows, 100, "dot_product").score_brute_force()
    state["searcher"] = builder.set_n_training_threads(threads).build()
    state["searcher"].set_num_threads(threads)


def take(queries: str) -> None:
    """Take the queries that every repeat answers."""
    state["queries"] = np.load(queries)


def search(k: int) -> list[float]:
    """Queries a second."""
    searcher, queries = state["searcher"], state["queries"]
    begin = time.perf_counter()
    if len(queries) == 1:
        searcher.search(queries[0], final_num_neighbors=k)
    else:
        searcher.search_batched_parallel(queries, final_num_neighbors=k)
    return [len(queries) / (time.perf_counter() - begin)]


if __name__ == "__main__":
    converse({"load": load, "take": take, "search": search})
