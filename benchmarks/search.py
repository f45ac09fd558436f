"""How quick is search, exact and approximate, beside faiss and ScaNN?

Exact means exact over the stored half-width vectors: the peers get the same rounded vectors and
have to find the same rows. Approximate search is measured for one question and for many, each
beside our own exact search.
"""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from harness import OURS, Bench, Repeat, by_turns, rate, run
from peer import open_peer
from realm.index.approximate import ApproximateIndex
from realm.index.exact import ExactIndex, Index
from world import Extent, vectors_to_search, with_noise

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "corpus"}
_ROWS = {"tiny": 2_000, "reduced": 200_000, "full": 620_000}
_BATCHES = {"tiny": (1, 64), "reduced": (1, 64, 1_000), "full": (1, 64, 1_000)}
_K = 100
_TURNS = 4  # in each round: one takes a second at most, and the machine changes its pace sooner
_THRESHOLDS = (1, 1_000_000)  # always multiply matrices, never do; beside what faiss comes with
_PROBES = (4, 8, 16, 32, 64, 128, 256)
_RECALL = 0.95
_ROUNDING = 1e-4  # scores are sums, made in another order on each side
_ALONE = 256  # different queries of which a turn asks one after the other
_FAISS, _CALIBRATED, _SCANN = "faiss", "faiss, BLAS threshold calibrated", "ScaNN brute force"
_HALF = "faiss, half-width rows"
_EXACT = "our exact search"


def measure(bench: Bench) -> None:
    """Search the same rounded vectors on all sides."""
    whole, note = vectors_to_search(bench, _EXTENTS[bench.size], _ROWS[bench.size])
    stored = whole.half()
    flat, default = flat_index(stored, bench.threads), default_threshold()
    half = half_index(stored)
    exact = ExactIndex(stored)
    with TemporaryDirectory() as folder, open_peer(bench, "scann", "scann_search") as scann:
        if scann is not None:
            np.save(Path(folder) / "vectors.npy", stored.float().numpy())
            scann.call("load", vectors=f"{folder}/vectors.npy", threads=bench.threads)
        for batch in _BATCHES[bench.size]:
            queries = queries_like(whole, batch)
            sides = {
                OURS: searching(exact, queries, batch),
                _FAISS: faiss_side(flat, queries, default),
                _CALIBRATED: faiss_side(flat, queries, calibrated(flat, queries, default)),
                _HALF: faiss_side(half, queries, default),
            }
            if scann is not None:
                np.save(Path(folder) / "queries.npy", queries.numpy())
                scann.call("take", queries=f"{folder}/queries.npy")
                sides[_SCANN] = scann.side("search", k=_K)
            bench.report.compare_all(
                f"exact top {_K} of {len(stored):,} x {stored.shape[1]}, {batch:,} at once",
                by_turns(sides, _TURNS * bench.repeats),
                unit="queries/s", tuned={_CALIBRATED, _HALF, _SCANN},
                note=note,
            )  # fmt: skip
    check_agreement(bench, stored, whole, flat)
    measure_approximate(bench, stored, whole, note)


def check_agreement(bench: Bench, stored: Tensor, whole: Tensor, flat: Any) -> None:
    """Rows: the same ids as faiss, overlap with single precision, and the memory of each."""
    queries = queries_like(whole, _BATCHES[bench.size][-1])[:64]
    found = ExactIndex(stored).search(queries, _K)
    scores, ids = flat.search(queries.numpy(), _K)
    # What ours left out may be as good as its last, and no better: a tie, but for rounding.
    edges = found.scores[:, -1].tolist()
    same = [
        row in mine or score <= edge + _ROUNDING
        for mine, edge, rows, of_rows in zip(
            map(set, found.rows.tolist()), edges, ids.tolist(), scores.tolist(), strict=True
        )
        for row, score in zip(rows, of_rows, strict=True)
    ]
    compare, share = bench.report.compare, f"share of the top {_K}"
    found_of_faiss = {OURS: [float(np.mean(same))]}
    compare("rows of faiss that are found, ties aside", found_of_faiss, None, unit=share)
    wide = ExactIndex(whole).search(queries, _K).rows.tolist()
    overlap = [shared(mine, theirs) for mine, theirs in zip(found.rows.tolist(), wide, strict=True)]
    found_of_wide = {OURS: [float(np.mean(overlap))]}
    compare("rows of single precision that are found", found_of_wide, None, unit=share)
    sizes = {
        OURS: [stored.nbytes / 1e6], _FAISS: [whole.nbytes / 1e6], _HALF: [stored.nbytes / 1e6]
    }  # fmt: skip
    bench.report.compare_all(
        "memory of the vectors", sizes, unit="MB", better="lower", tuned={_HALF}
    )


def measure_approximate(bench: Bench, stored: Tensor, whole: Tensor, note: str) -> None:
    """Rows: the speed with the fewest cells that give the wanted recall, against exact search.

    For one question and for many: exact search reads the vectors once for all of them.
    """
    batches = _BATCHES[bench.size]
    queries = queries_like(whole, batches[-1])
    exact, index = ExactIndex(stored), ApproximateIndex(stored)
    truth = exact.search(queries, _K).rows.tolist()
    recall = 0.0
    for probes in _PROBES:
        index.probes = probes
        found = index.search(queries, _K).rows.tolist()
        recall = float(np.mean([shared(t, f) for t, f in zip(truth, found, strict=True)]))
        if recall >= _RECALL:
            break
    notes = f"recall {recall:.3f} with {index.probes} of {index.num_cells:,} cells", note
    for batch in (batches[0], batches[-1]):
        asked = queries[: _ALONE if batch == 1 else batch]
        sides = {name: searching(of, asked, batch) for name, of in ((OURS, index), (_EXACT, exact))}
        bench.report.compare(
            f"approximate top {_K}, {batch:,} at once", by_turns(sides, _TURNS * bench.repeats),
            _EXACT, unit="queries/s", tuned=True, note="; ".join(filter(None, notes)),
        )  # fmt: skip


def searching(index: Index, queries: Tensor, at_once: int) -> Repeat:
    """A side that searches one of our indexes; what differs from query to query evens out."""

    def search() -> None:
        for few in queries.split(at_once):
            index.search(few, _K)

    return rate(len(queries), search)


def queries_like(whole: Tensor, count: int) -> Tensor:
    """Queries that lie as near to some of the vectors as questions lie to passages."""
    return with_noise(whole, count, seed=1)


def flat_index(stored: Tensor, threads: int) -> Any:
    """The rounded vectors in faiss, which widens them."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(stored.shape[1])
    index.add(stored.float().numpy())
    return index


def half_index(stored: Tensor) -> Any:
    """The rounded vectors in faiss as they are: no wider, and never multiplied as matrices."""
    import faiss

    index = faiss.IndexScalarQuantizer(
        stored.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.add(stored.float().numpy())
    return index


def faiss_side(flat: Any, queries: Tensor, threshold: int) -> Repeat:
    """Exact search by faiss, which multiplies matrices from a batch of `threshold` on."""
    import faiss

    def search() -> None:
        faiss.cvar.distance_compute_blas_threshold = threshold
        flat.search(queries.numpy(), _K)

    return rate(len(queries), search)


def default_threshold() -> int:
    """The threshold that faiss comes with; read before anything changes it."""
    import faiss

    return int(faiss.cvar.distance_compute_blas_threshold)


def calibrated(flat: Any, queries: Tensor, default: int) -> int:
    """The threshold with which faiss answers these queries soonest, of three turns by turns."""
    sides = {str(t): faiss_side(flat, queries, t) for t in {*_THRESHOLDS, default}}
    speed = {name: max(values) for name, values in by_turns(sides, 3).items()}
    return int(max(speed, key=lambda name: speed[name]))


def shared(mine: Collection[int], theirs: Collection[int]) -> float:
    """Share of the first ranking that stands in the second as well."""
    return len({*mine} & {*theirs}) / len(mine)


if __name__ == "__main__":
    run(measure, str(__doc__))
