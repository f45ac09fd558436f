"""A killed process loses nothing that it had acknowledged and leaves no half document."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from living_world import DEATHS, SCRIPT, acknowledged, make_base, numbered, open_world, save_world

from realm.corpus.documents import Document
from realm.models.checkpoint import Model
from small_world import ARTICLES

BASE = [Document(title, title, text) for title, text in ARTICLES.items()]


@pytest.mark.slow
def test_a_killed_process_loses_nothing_acknowledged(
    tmp_path: Path, small_model: Model, tokenizer_file: Path
) -> None:
    first = tmp_path / "first"
    save_world(first, small_model, make_base(first, BASE, tokenizer_file))
    folders = [first, *(tmp_path / function for function in DEATHS)]
    for folder in folders[1:]:
        shutil.copytree(first, folder)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder in folders:
        assert len(acknowledged(folder)) >= 10
        check(folder, acknowledged(folder)[-1])


def check(folder: Path, last: int) -> None:
    """Everything up to the last edit that came back is there, and perhaps the one after it."""
    corpus = open_world(folder)
    reached = last + (corpus.document("same") != numbered(last)[1])
    assert corpus.document("same") == numbered(reached)[1]
    present = {d.id for d in corpus.list(limit=1_000)}
    # Number n removes what n - 1 put; whether the edit under way came to that, nobody knows.
    removed = {f"new-{n - 1}" for n in range(reached + 1) if n % 3 == 2}
    unsure = {f"new-{reached - 1}"} if reached > last and reached % 3 == 2 else set()
    new = {f"new-{n}" for n in range(reached + 1)}
    assert present - unsure == {d.title for d in BASE} | {"same"} | (new - removed - unsure)
    for number in range(reached + 1):
        if f"new-{number}" in present:
            assert corpus.document(f"new-{number}") == numbered(number)[0]
    # Passages, embeddings and documents still fit together, and editing goes on.
    answerer = corpus.view().answerer
    found = answerer.retrieve(["number"], corpus.num_passages + 5)
    assert int((found >= 0).sum()) == corpus.num_passages
    assert all(answerer.store.text(row) for row in found[found >= 0].tolist())
    corpus.put(numbered(10_000))
    corpus.merge()
    assert corpus.document("new-10000") == numbered(10_000)[0]
    assert len(list((folder / "living").glob("segment-*"))) <= 2
    corpus.close()
