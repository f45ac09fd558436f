"""What does a run directory hold, without making anything that is missing?

The recipe, the checkpoints by name, the questions, and beside them the time and peak memory of
each stage. `stages.Run` adds the making.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch

from realm import machine
from realm.artifact import fingerprint_of, is_finished, read_manifest, write_atomically
from realm.config import Settings, differing, read_settings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, SettingError
from realm.examples.question import Question, read_questions
from realm.experiment import BEST_FINETUNED_BY, Experiment, expand
from realm.models.released import Part
from realm.pretraining.run import BEST_PRETRAINED_BY
from realm.progress import Advance, Progress, no_progress
from realm.stopwatch import measured
from realm.training.state import best_checkpoint, latest_checkpoint

CHECKPOINTS = ("start", "warm-start", "pretrain", "finetune")
TAKEN_FROM = "taken-from"
"""Input of a checkpoint that was not trained in its run: the fingerprint of where it is from."""
FINETUNED = "finetuned"
"""Input of a shipped checkpoint: the fingerprint of the fine-tuned one that it was made from."""
IMPORT = "import"
_RECIPE = "recipe.json"
_EMBEDDER = "google/realm-cc-news-pretrained-embedder"
WHERE_FROM: dict[Part, str] = {
    "query embedder": f"import an embedder beside it ({_EMBEDDER})",
    "passage embedder": f"import it again with --passage-embedder {_EMBEDDER}",
    "reader": "import a reader beside it (google/realm-cc-news-pretrained-encoder)",
    "masked head": "import a model as it was before fine-tuning, such as "
    "google/realm-cc-news-pretrained-encoder",
    "span head": "train one with `realm finetune`, or import google/realm-orqa-nq-openqa",
    "passage embeddings": "embed the passages with `realm index`",
    "passages": "name documents with `realm corpus`",
}
"""What to do about a part that an imported run lacks."""


class RunFolder:
    """One run directory and the experiment that it belongs to."""

    def __init__(
        self, path: Path, experiment: Experiment, progress: Progress = no_progress
    ) -> None:
        self.path, self.experiment, self.progress = path, experiment, progress

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
            raise ArtifactError(
                f"{file} is damaged: delete it, then give the command again with --recipe RECIPE"
            ) from error
        experiment = read_settings(Experiment, values, origin=str(file))
        return cls(path, _where_it_lies(experiment, path), progress)

    @staticmethod
    def is_run(path: Path) -> bool:
        """Whether a run was begun at that path."""
        return (path / _RECIPE).is_file()

    def save_recipe(self) -> None:
        """Keep the settings in the run, so that later commands need no recipe."""
        text = self.experiment.model_dump_json(indent=1)
        write_atomically(self.path / _RECIPE, text + "\n")

    def checkpoint(self, name: str) -> Path:
        """The finished model of that stage, without training anything.

        Raises:
            ArtifactError: the stage did not begin, or has not come to its last step.
        """
        path = self._composed(name)
        if path is None or not is_finished(path):
            self._refuse_unfinished(name)
        if path is None:
            folder, _ = self.training_of(name)
            path = latest_checkpoint(folder) or folder
        if not is_finished(path):
            raise ArtifactError(f"{self.path} has no {name} checkpoint yet: run that stage first")
        return self._selected(name) or path

    def _refuse_unfinished(self, name: str) -> None:
        trainings = [] if name == "start" else [self.training_of(name)]
        reader = self.experiment.warm_start.reader.loop
        if name == "warm-start" and reader.num_steps:
            trainings.append((self.path / "warm-start/reader", reader.num_steps))
        for folder, num_steps in trainings:
            if (begun := latest_checkpoint(folder)) is None:
                continue
            manifest = read_manifest(begun)
            step = manifest.settings["step"]
            # A model that was taken over may be the best of its training, not the last.
            if step < num_steps and TAKEN_FROM not in manifest.inputs:
                part = " (its reader)" if folder.name == "reader" else ""
                raise ArtifactError(
                    f"{name}{part} of {self.path} is at step {step:,} of {num_steps:,}: "
                    f"go on with `realm {name} --run {self.path}`"
                )

    def _selected(self, name: str) -> Path | None:
        """The best checkpoint of a stage, where the run selects by that and it was measured."""
        selection = self.experiment.selection
        scalar_by_name = {}
        if selection.pretrain == "best":
            scalar_by_name["pretrain"] = BEST_PRETRAINED_BY
        if selection.finetune == "best":
            scalar_by_name["finetune"] = BEST_FINETUNED_BY
        if name not in scalar_by_name:
            return None
        return best_checkpoint(self.training_of(name)[0], scalar_by_name[name])

    def _composed(self, name: str) -> Path | None:
        """The model of a stage that no training ends with: it puts together what there is."""
        is_composed = name == "start" or (
            name == "warm-start" and self.experiment.warm_start.reader.loop.num_steps > 0
        )
        return self.path / name / "checkpoint" if is_composed else None

    def training_of(self, name: str) -> tuple[Path, int]:
        """Where the training that ends a stage keeps its checkpoints, and its number of steps."""
        folders = {
            # Where the reader has nothing to be taught.
            "warm-start": ("warm-start/embedder", self.experiment.warm_start.embedder.loop),
            "pretrain": ("pretrain", self.experiment.pretrain.loop),
            "finetune": ("finetune", self.experiment.finetune.loop),
        }
        folder, loop = folders[name]
        return self.path / folder, loop.num_steps

    def resolved(self, name: str) -> str:
        """The stage whose checkpoint the named one has: a stage of no steps changes nothing."""
        warm, pretrain = self.experiment.warm_start, self.experiment.pretrain
        if name == "pretrain" and pretrain.loop.num_steps == 0 and not self.taken(name):
            name = "warm-start"
        if name == "warm-start" and warm.embedder.loop.num_steps == warm.reader.loop.num_steps == 0:
            name = "start"
        return name

    def _embedded_by(self, name: str) -> str:
        """The checkpoint whose passage embedder is that of the named one: fine-tuning keeps it."""
        source = self.experiment.finetune.retriever_from
        if name == "finetune" and not (self.taken(name) and source != "pretrain"):
            name = source
        return self.resolved(name)

    def is_finetuned(self, name: str) -> bool:
        """Whether the model of that stage was fine-tuned, in this run or before it was shipped."""
        return name == "finetune" or FINETUNED in read_manifest(self.checkpoint(name)).inputs

    def finished_checkpoints(self) -> list[str]:
        """The names of the stages that are finished, in their order.

        Raises:
            ArtifactError: there is none.
        """
        names = []
        for name in CHECKPOINTS:
            # A model that was taken from elsewhere has no stages before it.
            with suppress(ArtifactError):
                self.checkpoint(name)
                names.append(name)
        if not names:
            raise ArtifactError(f"{self.path} has no checkpoint yet: run `realm pretrain` first")
        return names

    def newest_checkpoint(self) -> str:
        """The name of the furthest stage that is finished."""
        return self.finished_checkpoints()[-1]

    def newest_pretrained(self) -> str:
        """The furthest finished stage in which the masked head has its part: no fine-tuning."""
        newest = self.newest_checkpoint()
        return self.resolved("pretrain") if newest == "finetune" else newest

    def taken(self, name: str) -> Path | None:
        """The checkpoint of a stage whose model came from elsewhere: nothing is trained there."""
        path = latest_checkpoint(self.training_of(name)[0])
        return path if path is not None and TAKEN_FROM in read_manifest(path).inputs else None

    def taken_checkpoints(self) -> list[str]:
        """The stages whose models came from elsewhere."""
        return [name for name in ("pretrain", "finetune") if self.taken(name)]

    def train_questions(self) -> list[Question]:
        """The training questions of all files."""
        files = self.experiment.train_questions
        if not files:
            raise SettingError("no questions: name them with --set 'train_questions=[\"FILE\"]'")
        return [question for file in files for question in read_questions(Path(expand(file)))]

    def fingerprint_of_train_questions(self) -> str:
        """What the questions say, wherever their files lie."""
        return fingerprint_of([asdict(question) for question in self.train_questions()])

    def fingerprint_of_development(self) -> str:
        """What chooses among fine-tuned checkpoints: questions, and how they are answered."""
        asked = [asdict(question) for question in self.development_questions()]
        return fingerprint_of([asked, self.experiment.retrieval.model_dump(mode="json")])

    def development_questions(self) -> list[Question]:
        """The questions of the first development file, by which a fine-tuning is selected."""
        files = self.experiment.dev_questions
        if not files:
            raise SettingError(
                "no development questions: name them with --set 'dev_questions=[\"FILE\"]', or set "
                "finetune.num_development_questions=0"
            )
        return read_questions(Path(expand(files[0])))

    @staticmethod
    def _is_made(path: Path, store: PassageStore) -> bool:
        """Whether an artifact is there; one that was made from another corpus is refused."""
        if not is_finished(path):
            return False
        # An imported model was made from no corpus of ours.
        if read_manifest(path).inputs.get("corpus", store.fingerprint) != store.fingerprint:
            raise ArtifactError(f"{path} was made from another corpus: delete it")
        return True

    @staticmethod
    def _refuse_other_settings(path: Path, made_by: Mapping[str, Any], settings: Settings) -> None:
        """Make sure that an artifact was made by the settings that the run has now.

        Not by where a trunk lies, nor by how many made it; an older one may lack a new setting.
        """
        wanted = settings.model_dump(mode="json", exclude={"trunk", "num_workers"})
        known = {name: value for name, value in wanted.items() if name in made_by}
        if names := differing(made_by, known):
            raise ArtifactError(
                f"{path} was made with another {names[0]}: take another run, or delete it"
            )

    def require(self, *parts: Part) -> None:
        """Make sure that an imported run has these parts; one that was trained here has all.

        Raises:
            ArtifactError: one is missing; the message says where it comes from.
        """
        imported = self.path / IMPORT
        if not is_finished(imported):
            return
        facts = read_manifest(imported).settings
        for part in parts:
            if part not in facts["parts"]:
                raise ArtifactError(
                    f"{self.path} was imported from {', '.join(facts['sources'])}, which has no "
                    f"{part}: {WHERE_FROM[part]}"
                )

    @contextmanager
    def _stage(self, name: str, title: str, total: int | None) -> Iterator[Advance]:
        # What a stage computes with is its own: the next one begins with all threads.
        threads = machine.using_threads(torch.get_num_threads())
        log = measured(self.path / "stages.jsonl", name)
        with threads, log, self.progress(title, total) as advance:
            yield advance


def _where_it_lies(experiment: Experiment, path: Path) -> Experiment:
    """The settings of a run that may have been moved: an imported one has its trunk along."""
    if not is_finished(path / IMPORT):
        return experiment
    along = {"trunk": str((path / IMPORT).absolute())}
    moved: dict[str, Settings] = {}
    if Path(experiment.embedder.trunk).name == IMPORT:
        moved["embedder"] = experiment.embedder.model_copy(update=along)
    if Path(experiment.reader.trunk).name == IMPORT:
        moved["reader"] = experiment.reader.model_copy(update=along)
    return experiment.model_copy(update=moved)
