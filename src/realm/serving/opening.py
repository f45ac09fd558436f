"""What of a run is served, and what can it not do?"""

import torch

from realm.artifact import MANIFEST, read_manifest
from realm.errors import ArtifactError
from realm.evaluation.fill_mask import MaskFiller
from realm.living.view import View
from realm.machine import default_device
from realm.models.checkpoint import Model, load_model
from realm.serving.ports import Corpus
from realm.serving.results import versions_of
from realm.serving.service import Served
from realm.serving.suggestions import example_gaps, example_questions
from realm.stages import Run


def describe(run: Run, corpus: Corpus) -> Served:
    """What the service says of a run, and what it can do with it."""
    name = run.newest_checkpoint()
    missing = {
        use: reason
        for use, reason in (
            ("answer", no_answers(run)),
            ("fill_mask", _no_filling(run)),
            ("add", _no_embedding(run)),
        )
        if reason
    }
    return Served(
        name=run.path.resolve().name,
        versions=versions_of(run, name),
        snapshot_made=(run.snapshot(name).path / MANIFEST).stat().st_mtime,
        examples=(
            *example_questions(run, corpus),
            *(() if "fill_mask" in missing else example_gaps(run)),
        ),
        missing=missing,
        mask_filler=RunMaskFiller(run),
    )


class RunMaskFiller:
    """Fills gaps with the pre-trained model of a run, which is loaded when it is first asked."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._model: Model | None = None

    def __call__(self, view: View) -> MaskFiller:
        """The object that fills gaps over a view of the corpus."""
        experiment = self._run.experiment
        if self._model is None:
            checkpoint = self._run.checkpoint(self._run.newest_pretrained())
            self._model = load_model(checkpoint).to(default_device(), torch.float32)
        answerer = view.answerer
        index = answerer.snapshot.index(experiment.index)
        return MaskFiller(self._model, answerer.store, index, experiment.pretrain.objective)


def no_answers(run: Run) -> str:
    """Why the run answers no questions; empty where it does."""
    try:
        run.require_answering(run.newest_checkpoint())
    except ArtifactError as error:
        return str(error)
    return ""


def _no_embedding(run: Run) -> str:
    """Why no document can be added; empty where one can."""
    try:
        run.require("passage embedder")
    except ArtifactError as error:
        return str(error)
    return ""


def _no_filling(run: Run) -> str:
    """Why the run fills no gaps; empty where it does."""
    try:
        run.require("query embedder", "passage embedder", "reader", "masked head")
        checkpoint = read_manifest(run.checkpoint(run.newest_pretrained())).fingerprint
        if run.snapshot(run.newest_checkpoint()).checkpoint != checkpoint:
            return (
                f"{run.path} was fine-tuned with the snapshot of another model than the one that "
                "fills gaps: use `realm fill-mask`"
            )
    except ArtifactError as error:
        return str(error)
    return ""
