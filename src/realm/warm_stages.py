"""How do retriever and reader become warm in a run directory, before they learn together?

    trunk/  start/  warm-start/

The reader is warmed apart from the embedder, so that runs with other embedders share it. A result
is opened if it is there and made otherwise, and trainings that were stopped go on.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from realm.artifact import fingerprint_of, is_finished, read_manifest
from realm.config import Settings
from realm.data_stages import DataRun
from realm.errors import ArtifactError
from realm.index.encode import pool_rows, sample_rows
from realm.index.trunk_vectors import TrunkVectors, names_of, write_trunk_vectors
from realm.models.checkpoint import (
    Model,
    check_tokenizer,
    load_model,
    new_model,
    save_checkpoint,
)
from realm.models.embedder import (
    EmbedderSettings,
    start_projection_from_principal_components,
)
from realm.models.own_trunk import write_own_trunk
from realm.models.reader import ReaderSettings
from realm.models.trunk import OWN_TRUNK
from realm.openqa.question_pairs import (
    QuestionPair,
    QuestionPairObjective,
    QuestionPairSettings,
    mine_question_pairs,
)
from realm.pretraining.masked_language import MaskedLanguageObjective, held_out_loss
from realm.pretraining.reading import ReadingObjective
from realm.pretraining.warm_start import InverseClozeObjective, half_whitening
from realm.run_folder import IMPORT
from realm.training.loop import Hooks, LoopSettings, Objective, Scalars, Training
from realm.training.state import latest_checkpoint

Measure = Callable[[Model], Scalars]


class WarmRun(DataRun):
    """One run directory, as far as what REALM starts from goes."""

    def trunk(self) -> Path | None:
        """The folder of the trunk that the run trains itself; None where it trains none."""
        settings, untrained = self.experiment.trunk, self.untrained_trunk()
        if untrained is None:
            return None
        folder, store = self.path / "trunk", self.corpus()
        path, packing = folder / "model", self.experiment.packing_settings
        if self._is_made(path, store):
            return path
        # The embedder is along for the ride: what trains depends on none of its settings.
        embedder = EmbedderSettings(trunk=OWN_TRUNK)
        reader = ReaderSettings(trunk=OWN_TRUNK, dropout=settings.dropout)
        check_tokenizer(embedder, store.tokenizer, untrained)
        inputs = {
            "corpus": store.fingerprint,
            "settings": _fingerprint_of_settings(settings, packing),
        }

        def objective() -> Objective:
            torch.manual_seed(settings.loop.seed)  # of all weights
            model = new_model(embedder, reader, packing, untrained)
            return MaskedLanguageObjective(
                model, store, settings.objective, seed=settings.loop.seed
            )

        def measure(model: Model) -> Scalars:
            number = settings.num_held_out
            return {"held_out_loss": held_out_loss(model, store, settings.objective, number)}

        last = self._train(
            "trunk", folder, objective, settings.loop, inputs,
            measure if settings.num_held_out else None,
        )  # fmt: skip
        trained = load_model(last)
        write_own_trunk(
            path, settings.shape, trained.tokenizer, trained.reader,
            settings=settings.model_dump(mode="json"), inputs=inputs,
        )  # fmt: skip
        return path

    def start(self) -> Path:
        """The untrained model: trunks as they came, projection from principal components."""
        path = self.path / "start" / "checkpoint"
        experiment, store = self.experiment, self.corpus()
        if self._is_made(path, store):
            if not is_finished(self.path / IMPORT):  # which came as it is
                made_by = read_manifest(path).settings
                self._refuse_other_settings(path, made_by["embedder"], experiment.embedder)
                self._refuse_other_settings(path, made_by["reader"], experiment.reader)
                self._refuse_other_settings(path, made_by["packing"], experiment.packing_settings)
            return path
        check_tokenizer(experiment.embedder, store.tokenizer, self.trunk())
        size = experiment.warm_start.embedder.principal_components_sample
        kept = self.trunk_vectors() if size else None
        with self._stage("start", "principal components", 1) as advance:
            model = self._untrained()
            if size:
                pooled = self._pooled_sample(model, kept, size)
                start = experiment.warm_start.embedder.projection_start
                whitening = half_whitening(pooled) if start == "half-whitened" else None
                for tower in {model.embedder.query_tower, model.embedder.passage_tower}:
                    start_projection_from_principal_components(tower, pooled, whitening)
            save_checkpoint(path, model, step=0, inputs=self._text_and_trunk())
            advance(1, "")
        return path

    def _untrained(self) -> Model:
        """Trunks as they came, and heads and a projection of random weights."""
        experiment = self.experiment
        torch.manual_seed(experiment.warm_start.embedder.loop.seed)
        return new_model(
            experiment.embedder, experiment.reader, experiment.packing_settings, self.trunk()
        )

    def _pooled_sample(self, model: Model, kept: TrunkVectors | None, size: int) -> Tensor:
        """The trunk's own vectors of some passages [sample, hidden], read where they are kept."""
        rows = sample_rows(self.corpus(), size)
        if kept is not None:
            return kept.vectors[rows].float()
        # A copy computes, perhaps in half precision: the trunks are kept as they came.
        quick = self._at_work(copy.deepcopy(model))
        return pool_rows(quick, self.corpus(), rows)

    def warm_embedder(self) -> Path:
        """The embedder after the inverse cloze task, or after learning from questions."""
        settings = self.experiment.warm_start.embedder
        folder, first = self.path / "warm-start" / "embedder", self.start()
        if settings.loop.num_steps == 0:
            return first
        inputs = self._inputs(first, settings)
        if (from_questions := self.experiment.warm_start.questions) is not None:
            inputs["questions"] = self.fingerprint_of_train_questions()
            inputs["mined"] = _fingerprint_of_settings(from_questions)

        def objective() -> Objective:
            model, store = load_model(first), self.corpus()
            if from_questions is not None:
                pairs = self._question_pairs(from_questions)
                return QuestionPairObjective(
                    model, store, pairs, settings.objective,
                    seed=settings.loop.seed, vectors=self.trunk_vectors(),
                )  # fmt: skip
            return InverseClozeObjective(
                model, store, settings.objective,
                seed=settings.loop.seed, vectors=self.trunk_vectors(),
            )  # fmt: skip

        return self._train("warm-start-embedder", folder, objective, settings.loop, inputs)

    def _question_pairs(self, settings: QuestionPairSettings) -> list[QuestionPair]:
        questions = self.train_questions()
        with self.progress("questions looked up", len(questions)) as advance:
            return mine_question_pairs(
                self.corpus(), self.lexical(), questions, settings,
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

    def warm_reader(self) -> Path:
        """The reader after reading beside evidence; an embedder has no part in it."""
        experiment = self.experiment
        settings, folder = experiment.warm_start.reader, self.path / "warm-start" / "reader"
        made_by = (settings, experiment.reader, experiment.packing)
        inputs = {**self._text_and_trunk(), "settings": _fingerprint_of_settings(*made_by)}

        def objective() -> Objective:
            store, spans, pairs = self.corpus(), self.spans(), self.reading_pairs()
            model = load_model(self.start())
            return ReadingObjective(
                model, store, spans, pairs, settings.objective, seed=settings.loop.seed
            )

        return self._train("warm-start-reader", folder, objective, settings.loop, inputs)

    def warm_start(self) -> Path:
        """Both halves warm: the checkpoint that REALM starts from."""
        embedder = self.warm_embedder()
        if self.experiment.warm_start.reader.loop.num_steps == 0:
            return embedder  # the reader's trunk brings what there is to teach
        reader, path = self.warm_reader(), self.path / "warm-start" / "checkpoint"
        inputs = {
            "corpus": self.corpus().fingerprint,
            "embedder": read_manifest(embedder).fingerprint,
            "reader": read_manifest(reader).fingerprint,
        }
        if not (is_finished(path) and read_manifest(path).inputs == inputs):
            model = load_model(embedder)
            # Another run may have taught the reader, beside another embedder.
            model.reader = load_model(reader).reader
            save_checkpoint(path, model, step=0, inputs=inputs)
        return path

    def trunk_vectors(self) -> TrunkVectors | None:
        """Kept where training leaves the trunk at rest: many snapshots for one embedding."""
        trunk_moves = self.experiment.warm_start.embedder.objective.trains == "all"
        if trunk_moves or self.taken_checkpoints():
            return None
        path, store = self.path / "start" / "trunk-vectors", self.corpus()
        if is_finished(path):
            return TrunkVectors.open(path, store)
        first = self.path / "start" / "checkpoint"
        # The start takes its projection from them where it is not there yet.
        as_it_came = load_model(first) if self._is_made(first, store) else self._untrained()
        names = names_of(as_it_came.embedder.passage_tower.trunk)
        with self._stage("trunk-vectors", "passages embedded", len(store)) as advance:
            return write_trunk_vectors(
                path, self._at_work(as_it_came), store,
                names=names, on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

    def _at_work(self, model: Model) -> Model:
        return model.compute_with(model.choose_compute(self.experiment, "forward"))

    def _text_and_trunk(self) -> dict[str, str]:
        """What everything comes from: the corpus, and the trunk that was trained on it, if any."""
        inputs = {"corpus": self.corpus().fingerprint}
        if (own := self.trunk()) is not None:
            inputs["trunk"] = read_manifest(own).fingerprint
        return inputs

    def _inputs(self, checkpoint: Path, *settings: Settings) -> dict[str, str]:
        return {
            "corpus": self.corpus().fingerprint,
            "checkpoint": read_manifest(checkpoint).fingerprint,
            "settings": _fingerprint_of_settings(*settings),
        }

    def _train(
        self,
        stage: str,
        folder: Path,
        objective: Callable[[], Objective],
        loop: LoopSettings,
        inputs: dict[str, str],
        measure: Measure | None = None,
        best_by: str | None = None,
    ) -> Path:
        if (last := self._finished(folder, loop, inputs)) is not None:
            return last
        ready = objective()
        with self._stage(stage, f"{stage} steps", loop.num_steps) as advance:
            hooks = Hooks(on_progress=lambda step, row: advance(step, note_of(row)))
            training = Training(ready, loop, folder, inputs, best_by=best_by)
            if measure is not None:
                hooks = replace(hooks, measure=lambda step: measure(ready.model))
            return training.run(hooks)

    def _finished(self, folder: Path, loop: LoopSettings, inputs: dict[str, str]) -> Path | None:
        path = latest_checkpoint(folder)
        if path is None or read_manifest(path).settings["step"] < loop.num_steps:
            return None
        if read_manifest(path).inputs != inputs:
            raise ArtifactError(
                f"{folder} was trained with other settings, from another corpus or by an earlier "
                "version than the run has now: take a new --run, or delete that folder to train it "
                "again"
            )
        return path


def _fingerprint_of_settings(*groups: Settings) -> str:
    return fingerprint_of([group.model_dump(mode="json") for group in groups])


def note_of(row: Scalars) -> str:
    """What is told of a step while a training goes on."""
    return f"loss {row['loss']:.3f}"
