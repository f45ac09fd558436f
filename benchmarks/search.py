"""How quick is search, exact and approximate, beside faiss and ScaNN?

Exact means exact over the stored half-width vectors: the peers get the same rounded vectors and
have to find the same rows. Where no index of the full corpus was made, vectors are made up from
those that were: each a real embedding with noise, so that neighbourhoods stay uneven.
"""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import OURS, Bench, Repeat, by_turns, rate, run
from peer import open_peer
from realm.index.approximate import ApproximateIndex
from realm.index.exact import ExactIndex
from world import Extent, open_world

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "corpus"}
_ROWS = {"tiny": 2_000, "reduced": 620_000}
_BATCHES = {"tiny": (1, 64), "reduced": (1, 64, 1_000), "full": (1, 64, 1_000)}
_K = 100
_NOISE = 0.6  # of a vector's length, before it is brought back to length one
_THRESHOLDS = (1, 1_000_000)  # always multiply matrices, never do
_PROBES = (4, 8, 16, 32, 64, 128)
_RECALL = 0.95
_FAISS, _CALIBRATED, _SCANN = "faiss", "faiss, BLAS threshold calibrated", "ScaNN brute force"
_EXACT = "our exact search"


def measure(bench: Bench) -> None:
    """Search the same rounded vectors on all sides."""
    stored, whole = vectors(bench)
    flat, default = flat_index(stored, bench.threads), default_threshold()
    with TemporaryDirectory() as folder, open_peer(bench, "scann", "scann_search") as scann:
        if scann is not None:
            np.save(Path(folder) / "vectors.npy", stored.float().numpy())
            scann.call("load", vectors=f"{folder}/vectors.npy", threads=bench.threads)
        for batch in _BATCHES[bench.size]:
            queries = queries_like(whole, batch)
            sides = {
                OURS: ours(stored, queries),
                _FAISS: faiss_side(flat, queries, default),
                _CALIBRATED: faiss_side(flat, queries, calibrated(flat, queries)),
            }
            if scann is not None:
                np.save(Path(folder) / "queries.npy", queries.numpy())
                scann.call("take", queries=f"{folder}/queries.npy")
                sides[_SCANN] = scann.side("search", k=_K)
            bench.report.compare_all(
                f"exact top {_K} of {len(stored):,} x {stored.shape[1]}, {batch:,} at once",
                by_turns(sides, bench.repeats), unit="queries/s", tuned={_CALIBRATED, _SCANN},
            )  # fmt: skip
    check_agreement(bench, stored, whole, flat)
    measure_approximate(bench, stored, whole)


def ours(stored: Tensor, queries: Tensor) -> Repeat:
    """Exact search by our index."""
    index = ExactIndex(stored)
    return rate(len(queries), lambda: index.search(queries, _K))


def check_agreement(bench: Bench, stored: Tensor, whole: Tensor, flat: Any) -> None:
    """Rows: the same ids as faiss, overlap with single precision, and the memory of each."""
    queries = queries_like(whole, _BATCHES[bench.size][-1])[:64]
    found = ExactIndex(stored).search(queries, _K)
    scores, ids = flat.search(queries.numpy(), _K)
    # Rows that one side alone found are ties where both end at the same score.
    is_tied = np.abs(found.scores[:, -1].numpy() - scores[:, -1]) < 1e-3
    pairs = zip(found.rows.tolist(), ids.tolist(), is_tied, strict=True)
    same = [1.0 if tied else shared(mine, theirs) for mine, theirs, tied in pairs]
    compare, share = bench.report.compare, f"share of the top {_K}"
    compare("rows of faiss that are found, ties aside", {OURS: same}, None, unit=share)
    wide = ExactIndex(whole).search(queries, _K).rows.tolist()
    overlap = [shared(mine, theirs) for mine, theirs in zip(found.rows.tolist(), wide, strict=True)]
    compare("rows of single precision that are found", {OURS: overlap}, None, unit=share)
    sizes = {OURS: [stored.nbytes / 1e6], _FAISS: [whole.nbytes / 1e6]}
    compare("memory of the vectors", sizes, _FAISS, unit="MB", better="lower", tuned=True)


def measure_approximate(bench: Bench, stored: Tensor, whole: Tensor) -> None:
    """Row: the speed with the fewest cells that give the wanted recall, against exact search."""
    queries = queries_like(whole, _BATCHES[bench.size][-1])
    exact, index = ExactIndex(stored), ApproximateIndex(stored)
    truth = exact.search(queries, _K).rows.tolist()
    recall = 0.0
    for probes in _PROBES:
        index.probes = probes
        found = index.search(queries, _K).rows.tolist()
        recall = float(np.mean([shared(t, f) for t, f in zip(truth, found, strict=True)]))
        if recall >= _RECALL:
            break
    sides = {
        OURS: rate(len(queries), lambda: index.search(queries, _K)),
        _EXACT: rate(len(queries), lambda: exact.search(queries, _K)),
    }
    bench.report.compare(
        f"approximate top {_K}, {len(queries):,} at once", by_turns(sides, bench.repeats), _EXACT,
        unit="queries/s", tuned=True, note=f"recall {recall:.3f} with {index.probes} cells",
    )  # fmt: skip


def vectors(bench: Bench) -> tuple[Tensor, Tensor]:
    """Half-width vectors as stored, and the single-precision ones that they were rounded from."""
    real = open_world(bench, _EXTENTS[bench.size]).snapshot.embeddings.float()
    rows = _ROWS.get(bench.size)
    whole = real if rows is None else with_noise(real, rows, seed=0)
    return whole.half(), whole


def queries_like(whole: Tensor, count: int) -> Tensor:
    """Queries that lie as near to some of the vectors as questions lie to passages."""
    return with_noise(whole, count, seed=1)


def with_noise(vectors: Tensor, count: int, *, seed: int) -> Tensor:
    """So many vectors, each a random one of these with noise, of the same length as before."""
    generator = torch.Generator().manual_seed(seed)
    chosen = vectors[torch.randint(len(vectors), (count,), generator=generator)]
    length = chosen.norm(dim=-1, keepdim=True)
    noise = torch.randn(chosen.shape, generator=generator) / chosen.shape[1] ** 0.5
    return torch.nn.functional.normalize(chosen / length + _NOISE * noise, dim=-1) * length


def flat_index(stored: Tensor, threads: int) -> Any:
    """The rounded vectors in faiss, which widens them."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(stored.shape[1])
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


def calibrated(flat: Any, queries: Tensor) -> int:
    """The threshold with which faiss answers these queries soonest."""
    speed = {t: max(faiss_side(flat, queries, t)()[0] for _ in range(2)) for t in _THRESHOLDS}
    return max(speed, key=lambda threshold: speed[threshold])


def shared(mine: Collection[int], theirs: Collection[int]) -> float:
    """Share of the first ranking that stands in the second as well."""
    return len({*mine} & {*theirs}) / len(mine)


if __name__ == "__main__":
    run(measure, str(__doc__))
