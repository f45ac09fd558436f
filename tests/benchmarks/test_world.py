"""What the benchmarks search where nobody embedded the whole corpus."""

from pathlib import Path

import pytest
import torch

import world
from harness import Bench, Report
from machine import Machine


def test_vectors_of_the_whole_corpus_are_made_up_from_those_of_a_part(
    trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report("How quick?", "full", Machine("a processor", 2, 1, 8, 0.5, 2.0), 0.0)
    bench = Bench("full", 1, 1, str(trunk_folder), tmp_path, tmp_path / "peers", False, report)
    monkeypatch.setattr(world, "_PART", "tiny")
    monkeypatch.setattr(world, "_ALL", world.documents(bench, "tiny"))
    part = world.open_world_to_search(bench, "tiny")
    assert (part.note, part.trained) == ("", part.run)
    whole = world.open_world_to_search(bench, "corpus")
    assert whole.note == f"vectors made up from {len(part.store):,} real ones"
    assert whole.snapshot.embeddings.shape == (len(whole.store), part.snapshot.embeddings.shape[1])
    assert whole.snapshot.embeddings.dtype == torch.float16
    assert whole.trained.path == part.run.path
    # As long as the real ones, and near to them, but not the same.
    stored, real = whole.snapshot.embeddings.float(), part.snapshot.embeddings.float()
    torch.testing.assert_close(
        stored.norm(dim=1), real.norm(dim=1)[0].expand(len(stored)), rtol=2e-3, atol=0
    )
    cosines = (stored @ real.T).max(dim=1).values / real.norm(dim=1)[0] ** 2
    assert 0.5 < float(cosines.mean()) < 0.99
    assert [path.name for path in whole.run.path.iterdir() if path.name in {"start", "spans"}] == []
    again = world.open_world_to_search(bench, "corpus")
    assert again.snapshot.manifest == whole.snapshot.manifest
    vectors, note = world.vectors_to_search(bench, "corpus", 7)
    assert (len(vectors), note) == (7, whole.note)
