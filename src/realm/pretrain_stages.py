"""How are retriever and reader pre-trained together, in a run directory?

    pretrain/  index

What is there is opened and not made again; `stages.Run` fine-tunes and answers with it.
"""

from collections.abc import Callable
from pathlib import Path

from realm.artifact import is_finished, read_manifest
from realm.evaluation.open_qa import sample_of
from realm.evaluation.retrieval import hits
from realm.index.exact import Index
from realm.index.snapshot import Snapshot, write_snapshot
from realm.models.checkpoint import Model, load_model
from realm.models.embedder import evaluating
from realm.openqa.objective import embed_questions
from realm.pretraining.run import Pretraining
from realm.training.loop import Scalars
from realm.warm_stages import WarmRun, note_of


class PretrainRun(WarmRun):
    """One run directory, as far as its pre-trained model and the snapshots go."""

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
            ).run(lambda step, row: advance(step, note_of(row)))  # fmt: skip
        return self.checkpoint("pretrain")

    def _measure_recall(self) -> Callable[[Model, Index], Scalars] | None:
        """Recall@5, in percent, on a sample of the development questions."""
        size, store = self.experiment.pretrain.num_development_questions, self.corpus()
        if not size or not self.experiment.dev_questions:
            return None
        questions = sample_of(self.development_questions(), size)

        def measure(model: Model, index: Index) -> Scalars:
            with evaluating(model.embedder):
                vectors = embed_questions(model, [question.question for question in questions])
            found = hits(questions, index.search(vectors.cpu(), 5).rows.numpy(), store)
            return {"development_recall_at_5": 100 * float(found.any(axis=1).mean())}

        return measure

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
        vectors = self.trunk_vectors()
        with self._stage(f"index-{name}", "passages embedded", len(store)) as advance:
            return write_snapshot(
                path, self._at_work(load_model(checkpoint)), store,
                checkpoint=fingerprint, vectors=vectors, index=self.experiment.index,
                step=int(read_manifest(checkpoint).settings["step"]),
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip
