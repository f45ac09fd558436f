"""How do retriever and reader become warm, and are pre-trained together, in a run directory?

    trunk/  start/  warm-start/  pretrain/  index

Each result is opened if it is there and made otherwise, and trainings that were stopped go on;
`stages.Run` fine-tunes and answers with what stands here.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from realm.artifact import fingerprint_of, is_finished, read_manifest
from realm.config import Settings
from realm.data_stages import DataRun
from realm.errors import ArtifactError
from realm.evaluation.open_qa import sample_of
from realm.evaluation.retrieval import hits
from realm.experiment import BEST_FINETUNED_BY
from realm.index.encode import pool_rows, sample_rows
from realm.index.exact import Index
from realm.index.snapshot import Snapshot, write_snapshot
from realm.index.trunk_vectors import TrunkVectors, write_trunk_vectors
from realm.models.checkpoint import (
    Model,
    check_tokenizer,
    load_model,
    new_model,
    save_checkpoint,
)
from realm.models.embedder import (
    EmbedderSettings,
    evaluating,
    start_projection_from_principal_components,
)
from realm.models.own_trunk import write_own_trunk
from realm.models.reader import ReaderSettings
from realm.models.trunk import OWN_TRUNK
from realm.openqa.objective import embed_questions, question_ids
from realm.openqa.question_pairs import (
    QuestionPair,
    QuestionPairObjective,
    QuestionPairSettings,
    mine_question_pairs,
)
from realm.pretraining.masked_language import MaskedLanguageObjective, held_out_loss
from realm.pretraining.reading import ReadingObjective
from realm.pretraining.run import Pretraining
from realm.pretraining.warm_start import InverseClozeObjective, half_whitening
from realm.training.loop import Hooks, LoopSettings, Objective, Scalars, Training
from realm.training.state import latest_checkpoint

Measure = Callable[[Model], Scalars]


class PretrainRun(DataRun):
    """One run directory, as far as its pre-trained model and the snapshots go."""

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
            "settings": fingerprint_of([s.model_dump(mode="json") for s in (settings, packing)]),
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
            return path
        own = self.trunk()
        check_tokenizer(experiment.embedder, store.tokenizer, own)
        inputs = {"corpus": store.fingerprint}
        if own is not None:
            inputs["trunk"] = read_manifest(own).fingerprint
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
            save_checkpoint(path, model, step=0, inputs=inputs)
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
        rows = sample_rows(self.corpus(), size=size, seed=0)
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
            asked = [asdict(question) for question in self.train_questions()]
            inputs["questions"] = fingerprint_of([asked, from_questions.model_dump(mode="json")])

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

    def warm_start(self) -> Path:
        """Both halves warm: the checkpoint that REALM starts from."""
        settings = self.experiment.warm_start.reader
        folder, first = self.path / "warm-start" / "reader", self.warm_embedder()
        if settings.loop.num_steps == 0:
            return first  # the reader's trunk brings what there is to teach
        inputs = self._inputs(first, settings)

        def objective() -> Objective:
            store, spans, pairs = self.corpus(), self.spans(), self.reading_pairs().pairs
            return ReadingObjective(
                load_model(first), store, spans, pairs, settings.objective, seed=settings.loop.seed
            )

        return self._train("warm-start-reader", folder, objective, settings.loop, inputs)

    def pretrain(self) -> Path:
        """Retriever and reader, pre-trained together."""
        settings, folder = self.experiment.pretrain, self.path / "pretrain"
        if (taken := self.taken("pretrain")) is not None:
            return taken
        first, queries = self.warm_start(), self.queries()
        if settings.loop.num_steps == 0:
            return first
        self.require("query embedder", "passage embedder", "reader", "masked head")
        inputs = self._inputs(first, settings, self.experiment.index, self.experiment.spans)
        if queries is not self:
            inputs["queries"] = queries.corpus().fingerprint
        if self._finished(folder, settings.loop, inputs) is not None:
            return self.checkpoint("pretrain")
        store, spans = self.corpus(), queries.spans()
        snapshot = self.snapshot("warm-start")
        with self._stage("pretrain", "REALM steps", settings.loop.num_steps) as advance:
            Pretraining(
                folder, load_model(first), store, spans, snapshot, settings,
                self.experiment.index, inputs, self.progress,
                queries.corpus(), self.trunk_vectors(), self._measure_recall(),
            ).run(lambda step, row: advance(step, _note(row)))  # fmt: skip
        return self.checkpoint("pretrain")

    def _measure_recall(self) -> Callable[[Model, Index], Scalars] | None:
        """Recall@5, in percent, on a sample of the development questions."""
        size, store = self.experiment.pretrain.num_development_questions, self.corpus()
        if not size or not self.experiment.dev_questions:
            return None
        questions = sample_of(self.development_questions(), size)

        def measure(model: Model, index: Index) -> Scalars:
            with evaluating(model.embedder), torch.no_grad():
                ids = [question_ids(model, question.question) for question in questions]
                vectors = embed_questions(model, ids)
            found = hits(questions, index.search(vectors.cpu(), 5).rows.numpy(), store)
            return {"development_recall_at_5": 100 * float(found.any(axis=1).mean())}

        return measure

    # -- snapshots ------------------------------------------------------------------------

    def snapshot(self, name: str) -> Snapshot:
        """All passages as that checkpoint's embedder sees them; fine-tuning leaves them as is."""
        name = self._embedded_by(name)
        path = self.path / "index" if name == "pretrain" else self.path / name / "snapshot"
        store, checkpoint = self.corpus(), self.checkpoint(name)
        fingerprint = read_manifest(checkpoint).fingerprint
        if is_finished(path):
            snapshot = Snapshot.open(path, store)
            if snapshot.checkpoint == fingerprint:
                return snapshot
        self.require("passage embedder")
        model = self._at_work(load_model(checkpoint))
        vectors = self.trunk_vectors()
        with self._stage(f"index-{name}", "passages embedded", len(store)) as advance:
            return write_snapshot(
                path, model, store, checkpoint=fingerprint, vectors=vectors,
                index=self.experiment.index,
                step=int(read_manifest(checkpoint).settings["step"]),
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

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
        model = self._at_work(as_it_came)
        with self._stage("trunk-vectors", "passages embedded", len(store)) as advance:
            return write_trunk_vectors(
                path, model, store, on_progress=lambda done: advance(done, "")
            )

    # -- plumbing -------------------------------------------------------------------------

    def _at_work(self, model: Model) -> Model:
        return model.compute_with(model.choose_compute(self.experiment, "forward"))

    def _inputs(self, checkpoint: Path, *settings: Settings) -> dict[str, str]:
        return {
            "corpus": self.corpus().fingerprint,
            "checkpoint": read_manifest(checkpoint).fingerprint,
            "settings": fingerprint_of([group.model_dump(mode="json") for group in settings]),
        }

    def _train(
        self,
        stage: str,
        folder: Path,
        objective: Callable[[], Objective],
        loop: LoopSettings,
        inputs: dict[str, str],
        measure: Measure | None = None,
    ) -> Path:
        if (last := self._finished(folder, loop, inputs)) is not None:
            return last
        ready = objective()
        with self._stage(stage, f"{stage} steps", loop.num_steps) as advance:
            hooks = Hooks(on_progress=lambda step, row: advance(step, _note(row)))
            training = Training(ready, loop, folder, inputs)
            if measure is not None:
                hooks = replace(hooks, measure=lambda step: measure(ready.model))
                training.best_by = BEST_FINETUNED_BY  # no checkpoint where that is not measured
            return training.run(hooks)

    def _finished(self, folder: Path, loop: LoopSettings, inputs: dict[str, str]) -> Path | None:
        path = latest_checkpoint(folder)
        if path is None or read_manifest(path).settings["step"] < loop.num_steps:
            return None
        if read_manifest(path).inputs != inputs:
            raise ArtifactError(
                f"{folder} was trained with other settings or from another corpus than the run "
                "has now: take a new --run, or delete that folder to train it again"
            )
        return path


def _note(row: Scalars) -> str:
    return f"loss {row['loss']:.3f}"
