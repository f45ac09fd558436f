"""The small world as a living corpus, here or in a process that a test kills."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from realm.corpus.build import build_corpus
from realm.corpus.documents import Document
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.index.snapshot import IndexSettings, Snapshot, write_snapshot
from realm.living import corpus as corpus_module
from realm.living.corpus import LivingCorpus
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.openqa.answerer import Answerer
from realm.openqa.objective import OpenQaSettings
from realm.retrieval.lexical import LexicalIndex
from realm.retrieval.retriever import Retriever

SETTINGS = CorpusSettings(passage_tokens=40, num_workers=1)
SCRIPT = Path(__file__)
DEATHS = ("keep_segment_vectors", "remove_segments_except")
"""The last steps of a merge before and after the database names the new segment."""


def make_base(
    folder: Path, documents: Sequence[Document], tokenizer_file: Path, name: str = "corpus"
) -> PassageStore:
    """A corpus of these documents."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}.jsonl"
    rows = ({"id": d.document_id, "title": d.title, "text": d.text} for d in documents)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = folder / name
    return build_corpus([source], path, tokenizer_file=tokenizer_file, settings=SETTINGS)


def make_answerer(
    model: Model,
    store: PassageStore,
    snapshot: Snapshot,
    lexical: LexicalIndex | None = None,
    kind: str = "exact",
) -> Answerer:
    """What `Run.searcher` gives."""
    index = snapshot.index(IndexSettings.model_validate({"kind": kind, "probes": 1_000}))
    settings = OpenQaSettings(reader_passages=4)
    return Answerer(model, store, snapshot, Retriever(index, lexical), settings)


def save_world(folder: Path, model: Model, store: PassageStore) -> None:
    """Keep model and snapshot, so that another process can open the corpus."""
    save_checkpoint(folder / "checkpoint", model, step=0, inputs={})
    write_snapshot(folder / "snapshot", model, store, checkpoint="first", step=0)


def open_world(folder: Path) -> LivingCorpus:
    """Open the corpus of a saved world."""
    store = PassageStore.open(folder / "corpus")

    def load() -> Answerer:
        snapshot = Snapshot.open(folder / "snapshot", store)
        return make_answerer(load_model(folder / "checkpoint"), store, snapshot)

    return LivingCorpus(folder / "living", store, load)


def numbered(number: int) -> list[Document]:
    """Two documents that an edit of that number puts: one is new, one is replaced each time."""
    text = f"This is number {number}. " * 12
    return [Document(f"new-{number}", "New", text), Document("same", "Same", text)]


def found_ids(answerer: Answerer, questions: Sequence[str], k: int) -> list[list[int]]:
    """Passage ids of the best passages of each question."""
    rows = answerer.retrieve(questions, k).numpy()
    ids = np.append(answerer.store.passage_ids(), -1)
    return [[int(ids[row]) for row in best] for best in rows]


def main(folders: Sequence[Path]) -> None:
    """In each folder, a process edits until it is killed: by us, or by itself inside a merge."""
    for folder, function in zip(folders, ("", *DEATHS), strict=True):
        process = os.fork()  # importing takes longer than all the rest
        if process == 0:
            if function:
                _die_in(function)
            _edit_for_ever(folder)
        while not function and len(acknowledged(folder)) < 23:
            time.sleep(0.001)
        if not function:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL


def acknowledged(folder: Path) -> list[int]:
    """The numbers of the edits that came back."""
    file = folder / "acknowledged"
    return list(map(int, file.read_text().split("\n")[:-1])) if file.exists() else []


def _edit_for_ever(folder: Path) -> None:
    corpus = open_world(folder)
    for number in count():
        corpus.put(numbered(number))
        if number % 3 == 2:
            corpus.remove([f"new-{number - 1}"])
        with (folder / "acknowledged").open("a") as file:
            file.write(f"{number}\n")
        if number % 5 == 4:
            corpus.merge()


def _die_in(function: str) -> None:
    """Let the process kill itself when its second merge comes to that function."""
    original = getattr(corpus_module, function)
    calls = count()

    def die(*arguments: Any) -> None:
        if next(calls):
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments)

    setattr(corpus_module, function, die)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
