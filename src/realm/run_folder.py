"""What does a run directory hold, without making anything that is missing?

The recipe, the checkpoints by name, the questions, and beside them the time and peak memory of
each stage. `stages.Run` adds the making.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from realm.artifact import is_finished, write_atomically
from realm.config import read_settings
from realm.errors import ArtifactError, SettingError
from realm.examples.question import Question, read_questions
from realm.experiment import Experiment, expand
from realm.progress import Advance, Progress, no_progress
from realm.stopwatch import measured
from realm.training.state import latest_checkpoint

CHECKPOINTS = ("start", "warm-start", "pretrain", "finetune")
_RECIPE = "recipe.json"


class RunFolder:
    """One run directory and the experiment that it belongs to."""

    def __init__(
        self, path: Path, experiment: Experiment, progress: Progress = no_progress
    ) -> None:
        self.path, self.experiment, self._progress = path, experiment, progress

    @classmethod
    def open(cls, path: str | Path, progress: Progress = no_progress) -> Self:
        """Open a run with the settings that it was made with."""
        path = Path(path)
        file = path / _RECIPE
        if not file.is_file():
            raise ArtifactError(f"{path} is no run: make one with `realm run RECIPE --run {path}`")
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(f"{file} is damaged: write it again with --recipe") from error
        return cls(path, read_settings(Experiment, values, origin=str(file)), progress)

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether a run was begun at that path."""
        return (path / _RECIPE).is_file()

    def save_recipe(self) -> None:
        """Keep the settings in the run, so that later commands need no recipe."""
        text = self.experiment.model_dump_json(indent=1)
        write_atomically(self.path / _RECIPE, text + "\n")

    def checkpoint(self, name: str) -> Path:
        """The finished checkpoint of that name, without training anything."""
        folders = {
            "warm-start": "warm-start/reader",
            "pretrain": "pretrain",
            "finetune": "finetune",
        }
        path = (
            self.path / "start" / "checkpoint"
            if name == "start"
            else latest_checkpoint(self.path / folders[name])
        )
        if path is None or not is_finished(path):
            raise ArtifactError(f"{self.path} has no {name} checkpoint yet: run that stage first")
        return path

    def newest_checkpoint(self) -> str:
        """The name of the furthest stage that has a checkpoint."""
        for name in reversed(CHECKPOINTS):
            try:
                self.checkpoint(name)
            except ArtifactError:
                continue
            return name
        raise ArtifactError(f"{self.path} has no checkpoint yet: run `realm pretrain` first")

    def train_questions(self) -> list[Question]:
        """The training questions of all files."""
        files = self.experiment.train_questions
        if not files:
            raise SettingError("no questions: name them with --set 'train_questions=[\"FILE\"]'")
        return [question for file in files for question in read_questions(Path(expand(file)))]

    @contextmanager
    def _stage(self, name: str, title: str, total: int | None) -> Iterator[Advance]:
        with measured(self.path / "stages.jsonl", name), self._progress(title, total) as advance:
            yield advance
