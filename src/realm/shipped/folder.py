"""Which models come with the program, and how does a run begin with one?

    model/        a checkpoint, as small as it can be kept
    recipe.json   the settings of the run that made it
    README.md     its card, written by hand

A run begins with such a folder as with a released checkpoint: the model is its start, the stages
before fine-tuning have no steps, and its documents are its own.
"""

import json
import shutil
from pathlib import Path

from realm.artifact import create_artifact, is_finished, open_artifact, read_manifest
from realm.config import override, read_settings
from realm.errors import ArtifactError, SettingError
from realm.experiment import Experiment
from realm.importing import KIND
from realm.models.checkpoint import KIND as CHECKPOINT
from realm.models.checkpoint import load_model, save_compact_checkpoint
from realm.models.released import Part
from realm.progress import Progress, no_progress
from realm.run_folder import FINETUNED, IMPORT
from realm.stages import Run

_SHIPPED = Path(__file__).parent
_MODEL, _RECIPE = "model", "recipe.json"
_FILES = ("sources", "pretrain_sources", "train_questions", "dev_questions")
_NO_STEPS = ("warm_start.embedder", "warm_start.reader", "pretrain")


def shipped_models() -> list[str]:
    """The names of the models that come with the program."""
    return sorted(file.parent.name for file in _SHIPPED.glob(f"*/{_RECIPE}"))


def find_model(name: str) -> Path | None:
    """The folder of a model by its name, or by its path; None where there is none."""
    for folder in (_SHIPPED / name, Path(name)):
        if name and (folder / _RECIPE).is_file() and is_finished(folder / _MODEL):
            return folder
    return None


def ship(run: Run, name: str, folder: Path) -> list[Path]:
    """Write a model of a run as a folder that others begin with; return what was written."""
    path = run.checkpoint(name)
    manifest = read_manifest(path)
    made_from = FINETUNED if run.is_finetuned(name) else name
    save_compact_checkpoint(
        folder / _MODEL, load_model(path), step=int(manifest.settings["step"]),
        inputs={made_from: manifest.fingerprint},
    )  # fmt: skip
    (folder / _RECIPE).write_text(run.experiment.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return [folder / _MODEL, folder / _RECIPE]


def begin_with(name: str, path: Path, progress: Progress = no_progress) -> Run:
    """The run at `path` with that model, begun if there is none; its documents come later.

    Raises:
        SettingError: there is no such model, or another run at `path`.
        ArtifactError: the model's files are not whole.
    """
    folder = find_model(name)
    if folder is None:
        known = ", ".join(shipped_models())
        raise SettingError(f"there is no model {name}: give a folder, or one of {known}")
    manifest = open_artifact(folder / _MODEL, CHECKPOINT)
    inputs = {"checkpoint": manifest.fingerprint}
    if Run.is_run(path):
        if not _began_with(path, inputs):
            raise SettingError(f"{path} is a run of another model: give another --run")
        return Run.open(path, progress)
    parts: list[Part] = ["query embedder", "passage embedder", "reader", "span head"]
    if FINETUNED not in manifest.inputs:  # which moves the trunk beneath that head
        parts.append("masked head")
    facts = {"sources": [name], "parts": dict.fromkeys(parts, name)}
    with create_artifact(path / IMPORT, KIND, settings=facts, inputs=inputs) as staging:
        for file in (Path("tokenizer.json"), Path("embedder") / "config.json"):
            shutil.copy(folder / _MODEL / file, staging.path / file.name)
    start = path / "start" / "checkpoint"
    shutil.copytree(folder / _MODEL, start, dirs_exist_ok=True)
    run = Run(path, _experiment(folder, path / IMPORT), progress)
    run.save_recipe()
    return run


def _began_with(path: Path, inputs: dict[str, str]) -> bool:
    return is_finished(path / IMPORT) and read_manifest(path / IMPORT).inputs == inputs


def _experiment(folder: Path, trunk: Path) -> Experiment:
    """The settings that the model was made with, where nothing is left to be trained."""
    file = folder / _RECIPE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{file} is damaged: fetch the model again") from error
    model = read_manifest(folder / _MODEL).settings
    values |= {
        # A folder without weights: all of them are in the start.
        half: {**model[half], "trunk": str(trunk.absolute())}
        for half in ("embedder", "reader")
    }
    changes = [f"{stage}.loop.num_steps=0" for stage in _NO_STEPS]
    changes += [f"{files}=[]" for files in _FILES]
    changes += [f"finetune.{half}_from=pretrain" for half in ("retriever", "reader")]
    changes += [f"selection.{name}=latest" for name in ("pretrain", "finetune")]
    changes.append("finetune.num_development_questions=0")
    return read_settings(Experiment, override(values, changes), origin=str(file))
