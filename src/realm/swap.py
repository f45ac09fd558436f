"""What does a model say when the corpus beneath it is another one (REALM, table 4)?

A new run with the settings of the old one: the corpus is cut anew, the checkpoints are taken
over as they are, and a new snapshot is made. Nothing is trained.
"""

from collections.abc import Sequence
from pathlib import Path

from realm.artifact import read_manifest
from realm.errors import ArtifactError, SettingError
from realm.models.checkpoint import copy_checkpoint
from realm.progress import Progress, no_progress
from realm.run_folder import TAKEN_FROM
from realm.stages import Run
from realm.training.state import checkpoint_path


def swap(run: Run, sources: Sequence[str], path: Path, progress: Progress = no_progress) -> Run:
    """Begin a run at `path` with the models of `run` and the documents of `sources`.

    Raises:
        SettingError: there is a run at `path`.
        ArtifactError: the run has no pre-trained model.
        SourceError: the sources cannot be read.
    """
    if Run.is_run(path):
        raise SettingError(f"{path} is a run already: give a new directory with --to")
    pretrained = run.checkpoint("pretrain")
    swapped = Run(path, run.experiment.model_copy(update={"sources": tuple(sources)}), progress)
    inputs = {"corpus": swapped.corpus().fingerprint}
    swapped.save_recipe()  # only now: sources that cannot be read leave no run behind
    _take(pretrained, swapped, "pretrain", inputs)
    snapshot = swapped.snapshot("pretrain")
    try:
        finetuned = run.checkpoint("finetune")
    except ArtifactError:
        return swapped
    # A fine-tuned model belongs to the snapshot of its passage side, which is the same as before.
    _take(finetuned, swapped, "finetune", {**inputs, "snapshot": snapshot.manifest.fingerprint})
    return swapped


def _take(source: Path, run: Run, name: str, inputs: dict[str, str]) -> None:
    manifest = read_manifest(source)
    folder, _ = run.training_of(name)
    path = checkpoint_path(folder, int(manifest.settings["step"]))
    copy_checkpoint(source, path, inputs={**inputs, TAKEN_FROM: manifest.fingerprint})
