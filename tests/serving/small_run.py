"""A run with untrained models in place of trained ones, and the process that serves it."""

import json
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

from memory_corpus import MemorySummary

from realm.config import read_settings
from realm.corpus.documents import Document
from realm.experiment import Experiment
from realm.models.checkpoint import copy_checkpoint
from realm.run_folder import TAKEN_FROM
from realm.serving.ports import View
from realm.serving.results import PlainView
from realm.stages import Run
from realm.training.state import checkpoint_path


def make_run(path: Path, source: Path, trunk: Path, *, names: tuple[str, ...]) -> Run:
    """A run whose models of these stages are taken from its start."""
    questions = path.parent / "questions.jsonl"
    rows = [{"question": q, "answer": ["Tavil"]} for q in ("Where is Tavil?", "Who is Lind?")]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {
        "sources": [str(source)],
        "dev_questions": [str(questions)],
        "corpus": {"passage_tokens": 64, "num_workers": 1},
        "packing": {"query_tokens": 40},
        "embedder": {"trunk": str(trunk), "projection_width": 8},
        "reader": {"trunk": str(trunk)},
        "pretrain": {"objective": {"num_candidates": 4}},
    }
    run = Run(path, read_settings(Experiment, values, origin="test"))
    run.save_recipe()
    start = run.start()
    inputs = {"corpus": run.corpus().fingerprint}
    for name in names:
        target = checkpoint_path(run.training_of(name)[0], 0)
        copy_checkpoint(start, target, inputs={**inputs, TAKEN_FROM: "start"})
    run.snapshot(names[-1])
    return run


def start_server(run: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    """`realm serve` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "serve", "--run", run, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


class FixedCorpus:
    """The documents of a run, in place of a corpus that is edited."""

    def __init__(self, run: Run) -> None:
        answerer = run.searcher(run.newest_checkpoint())
        self._view = PlainView(f"{answerer.store.fingerprint}:0", answerer)
        self.version = self._view.version
        self.num_documents = self._view.answerer.store.num_documents
        self.num_passages = len(self._view.answerer.store)

    @classmethod
    def open(cls, run: Run) -> "FixedCorpus":
        return cls(run)

    def view(self) -> View:
        return self._view

    def document(self, id: str) -> Document:
        return self._view.answerer.store.document(id)

    def list(self, **wanted: object) -> list[MemorySummary]:
        store = self._view.answerer.store
        found = [store.passage(row) for row in range(len(store))]
        return [MemorySummary(p.document_id, p.title, 1, "base") for p in found]

    def close(self) -> None:
        pass


def provide_corpus() -> None:
    """Let the service find a corpus where the package has no living one."""
    if find_spec("realm.living") is None:
        module = types.ModuleType("realm.living.corpus")
        module.LivingCorpus = FixedCorpus  # type: ignore[attr-defined]
        sys.modules["realm.living"] = types.ModuleType("realm.living")
        sys.modules["realm.living.corpus"] = module


if __name__ == "__main__":
    from realm.cli.main import main

    provide_corpus()
    main()
