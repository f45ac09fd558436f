"""What does a model say when the corpus beneath it is another one (REALM, table 4)?

A new run with the settings of the old one: the corpus is cut anew, the checkpoints are taken
over as they are, and a new snapshot is made. Nothing is trained.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from realm.artifact import is_finished, read_manifest
from realm.corpus import block_records
from realm.errors import ArtifactError, SettingError
from realm.experiment import Experiment
from realm.models.checkpoint import copy_checkpoint
from realm.progress import Progress, no_progress
from realm.run_folder import IMPORT, TAKEN_FROM
from realm.stages import Run
from realm.training.state import checkpoint_path


def swap(run: Run, sources: Sequence[str], path: Path, progress: Progress = no_progress) -> Run:
    """Begin a run at `path` with the models of `run` and the documents of `sources`.

    Given again after a stop, it goes on.

    Raises:
        SettingError: there is another run at `path`.
        ArtifactError: the run has no pre-trained model.
        SourceError: the sources cannot be read.
    """
    run.require("query embedder", "passage embedder")
    pretrained = run.checkpoint(run.newest_pretrained())
    swapped = Run(path, _over(run.experiment, sources), progress)
    is_begun = Run.is_run(path) and path.resolve() != run.path.resolve()
    if Run.is_run(path) and not (is_begun and Run.open(path).experiment == swapped.experiment):
        raise SettingError(f"{path} is a run already: give a new directory with --to")
    inputs = {"corpus": swapped.corpus().fingerprint}
    swapped.save_recipe()  # only now: sources that cannot be read leave no run behind
    if is_finished(run.path / IMPORT) and not is_finished(path / IMPORT):
        shutil.copytree(run.path / IMPORT, path / IMPORT, dirs_exist_ok=True)
    _take(pretrained, swapped, "pretrain", inputs)
    snapshot = swapped.snapshot("pretrain")
    try:
        finetuned = run.checkpoint("finetune")
    except ArtifactError:
        return swapped
    if run.experiment.finetune.retriever_from == "pretrain":
        # Its passage side is the pre-trained one, and so is its snapshot.
        inputs = {**inputs, "snapshot": snapshot.manifest.fingerprint}
    _take(finetuned, swapped, "finetune", inputs)
    return swapped


def _over(experiment: Experiment, sources: Sequence[str]) -> Experiment:
    """The same experiment over other documents; only block records come cut already."""
    is_cut = all(Path(source).suffix == block_records.SUFFIX for source in sources)
    changes = {} if is_cut else {"cut": "sentences"}
    corpus = experiment.corpus.model_copy(update=changes)
    return experiment.model_copy(update={"sources": tuple(sources), "corpus": corpus})


def _take(source: Path, run: Run, name: str, inputs: dict[str, str]) -> None:
    manifest = read_manifest(source)
    if run.taken(name) is not None:
        return
    folder, _ = run.training_of(name)
    path = checkpoint_path(folder, int(manifest.settings["step"]))
    copy_checkpoint(source, path, inputs={**inputs, TAKEN_FROM: manifest.fingerprint})
