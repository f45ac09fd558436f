"""A run with untrained models in place of trained ones, and the process that serves it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realm.config import read_settings
from realm.experiment import Experiment
from realm.models.checkpoint import copy_checkpoint
from realm.run_folder import TAKEN_FROM
from realm.stages import Run
from realm.training.state import checkpoint_path

PROGRAM = "from realm.cli.main import main; main()"


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
    run.snapshot(names[-1] if names else "start")
    return run


def start_server(run: str | Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    """`realm serve` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--run", run, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def served(
    *arguments: str | Path,
) -> Iterator[tuple["subprocess.Popen[str]", tuple[str, int], list[str]]]:
    """A server over a run, its address, and what it said before it was ready."""
    process = start_server(*arguments)
    assert process.stderr is not None
    said: list[str] = []
    try:
        while not (
            found := re.search(r"is served at http://(.*):(\d+)/$", said[-1] if said else "")
        ):
            line = process.stderr.readline()
            assert line, said
            said.append(line.rstrip())
        yield process, (found[1], int(found[2])), said
    finally:
        process.kill()
        process.communicate()
