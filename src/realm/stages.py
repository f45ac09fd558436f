"""How does a run directory grow, stage by stage?

    corpus  spans  lexical  start/  warm-start/  pretrain/  index  finetune/  evaluation/

Every stage is a method that opens its result if it is there and makes it otherwise, so a run
that was stopped goes on where it was, and each stage can be asked for alone. The recipe, the
time and the peak memory of each stage are kept beside the results.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from realm.artifact import fingerprint_of, is_finished, read_manifest
from realm.config import Settings
from realm.corpus.store import PassageStore, build_corpus
from realm.errors import ArtifactError, SettingError
from realm.examples.question import Question
from realm.experiment import expand
from realm.index.encode import pool_sample
from realm.index.snapshot import Snapshot, write_snapshot
from realm.index.trunk_vectors import TrunkVectors, write_trunk_vectors
from realm.models.checkpoint import (
    Model,
    check_lengths,
    check_tokenizer,
    load_model,
    new_model,
    save_checkpoint,
)
from realm.models.embedder import start_projection_from_principal_components
from realm.models.precision import choose_precision, default_device
from realm.models.trunk import locate_trunk
from realm.openqa.answerer import Answerer, open_answerer
from realm.openqa.finetune import select_questions
from realm.openqa.objective import OpenQaObjective
from realm.pretraining.reading import ReadingObjective, ReadingPairs, mine_reading_pairs
from realm.pretraining.run import Pretraining
from realm.pretraining.warm_start import InverseClozeObjective
from realm.retrieval.lexical import LexicalIndex, build_lexical_index
from realm.run_folder import RunFolder
from realm.spans.annotate import SpanStore, annotate
from realm.training.loop import Hooks, LoopSettings, Objective, Scalars, Training
from realm.training.state import latest_checkpoint


class Run(RunFolder):
    """One run directory and the experiment that fills it."""

    # -- documents to passages ------------------------------------------------------------

    def corpus(self) -> PassageStore:
        """The passages of the documents."""
        path = self.path / "corpus"
        if is_finished(path):
            return PassageStore.open(path)
        if not self.experiment.sources:
            raise SettingError("no documents: name them with `realm corpus SOURCE... --run RUN`")
        check_lengths(
            self.experiment.embedder, self.experiment.reader, self.experiment.packing_settings
        )
        sources = [expand(source) for source in self.experiment.sources]
        tokenizer = locate_trunk(self.experiment.embedder.trunk) / "tokenizer.json"
        with self._stage("corpus", "documents", None) as advance:
            return build_corpus(
                sources, path, tokenizer_file=tokenizer, settings=self.experiment.corpus,
                on_progress=lambda documents, made: advance(documents, f"{made:,} passages"),
            )  # fmt: skip

    def spans(self) -> SpanStore:
        """The salient spans of the passages."""
        path = self.path / "spans"
        store = self.corpus()
        if self._is_made(path, store):
            return SpanStore.open(path)
        with self._stage("spans", "passages tagged", len(store)) as advance:
            return annotate(
                store,
                path,
                settings=self.experiment.spans,
                on_progress=lambda done: advance(done, ""),
            )

    def lexical(self) -> LexicalIndex:
        """The BM25 index of the passages."""
        path = self.path / "lexical"
        store = self.corpus()
        if self._is_made(path, store):
            return LexicalIndex.open(path)
        with self._stage("lexical", "passages for BM25", len(store)) as advance:
            return build_lexical_index(
                store, path, settings=self.experiment.lexical,
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

    # -- training -------------------------------------------------------------------------

    def start(self) -> Path:
        """The untrained model: trunks as they came, projection from principal components."""
        path = self.path / "start" / "checkpoint"
        experiment, store = self.experiment, self.corpus()
        if self._is_made(path, store):
            return path
        check_tokenizer(experiment.embedder, store.tokenizer)
        sample = experiment.warm_start.embedder.principal_components_sample
        inputs = {"corpus": store.fingerprint}
        with self._stage("start", "principal components", 1) as advance:
            model = new_model(experiment.embedder, experiment.reader, experiment.packing_settings)
            if sample:
                # A copy computes, perhaps in half precision: the trunks are kept as they came.
                quick = copy.deepcopy(model).to(default_device(), choose_precision("auto"))
                pooled = pool_sample(quick, store, size=sample, seed=0)
                for tower in {model.embedder.query_tower, model.embedder.passage_tower}:
                    start_projection_from_principal_components(tower, pooled)
            save_checkpoint(path, model, step=0, inputs=inputs)
            advance(1, "")
        return path

    def warm_embedder(self) -> Path:
        """The embedder after the inverse cloze task."""
        settings = self.experiment.warm_start.embedder
        folder, first = self.path / "warm-start" / "embedder", self.start()
        if settings.loop.num_steps == 0:
            return first
        inputs = self._inputs(first, settings)

        def objective() -> Objective:
            model, store = load_model(first), self.corpus()
            return InverseClozeObjective(model, store, settings.objective, seed=settings.loop.seed)

        return self._train("warm-start-embedder", folder, objective, settings.loop, inputs)

    def reading_pairs(self) -> ReadingPairs:
        """Masked spans beside other passages that hold the same words."""
        path = self.path / "warm-start" / "pairs"
        settings = self.experiment.warm_start.reader.objective
        store = self.corpus()
        if self._is_made(path, store):
            return ReadingPairs.open(path)
        spans, lexical = self.spans(), self.lexical()
        with self._stage(
            "reading-pairs", "masked spans looked up", settings.num_queries
        ) as advance:
            return mine_reading_pairs(
                path, store, spans, lexical, settings, seed=0,
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
        first = self.warm_start()
        if settings.loop.num_steps == 0:
            return first
        self.require("query embedder", "passage embedder", "reader", "masked head")
        inputs = self._inputs(first, settings)
        last = self._finished(folder, settings.loop, inputs)
        if last is not None:
            return last
        store, spans = self.corpus(), self.spans()
        snapshot = self.snapshot("warm-start")
        with self._stage("pretrain", "REALM steps", settings.loop.num_steps) as advance:
            return Pretraining(
                folder, load_model(first), store, spans, snapshot, settings,
                self.experiment.index, inputs, self._progress,
                self._trunk_vectors(load_model(first)),
            ).run(lambda step, row: advance(step, _note(row)))  # fmt: skip

    def finetune(self) -> Path:
        """The reader and the query side, fine-tuned on questions; the index stays as it is."""
        settings, folder = self.experiment.finetune, self.path / "finetune"
        self.require("query embedder", "reader")
        if settings.objective.null_passage:
            self.require("passage embedder")  # it embeds the null passage
        first, snapshot = self.pretrain(), self.snapshot("pretrain")
        inputs = {
            **self._inputs(first, settings),
            "snapshot": snapshot.manifest.fingerprint,
            "questions": fingerprint_of([asdict(q) for q in self.train_questions()]),
        }

        def objective() -> Objective:
            model = load_model(first)
            model.embedder = model.embedder.with_own_query_tower()
            questions = self._questions_to_learn_from(model, snapshot)
            return OpenQaObjective(
                model, self.corpus(), snapshot, questions, settings.objective,
                seed=settings.loop.seed, index_settings=self.experiment.index,
            )  # fmt: skip

        return self._train("finetune", folder, objective, settings.loop, inputs)

    # -- using the results ----------------------------------------------------------------

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
        model = load_model(checkpoint).to(default_device(), choose_precision("auto"))
        vectors = self._trunk_vectors(model)
        with self._stage(f"index-{name}", "passages embedded", len(store)) as advance:
            return write_snapshot(
                path, model, store, checkpoint=fingerprint, vectors=vectors,
                step=int(read_manifest(checkpoint).settings["step"]),
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

    def _trunk_vectors(self, model: Model) -> TrunkVectors | None:
        """Kept where training leaves the trunk at rest: many snapshots for one embedding."""
        if self.experiment.warm_start.embedder.objective.trains == "all":
            return None
        path, store = self.path / "start" / "trunk-vectors", self.corpus()
        if is_finished(path):
            return TrunkVectors.open(path, store)
        with self._stage("trunk-vectors", "passages embedded", len(store)) as advance:
            return write_trunk_vectors(
                path, model, store, on_progress=lambda done: advance(done, "")
            )

    def answerer(self, name: str = "") -> Answerer:
        """The object that answers, with the furthest checkpoint or the named one."""
        name = name or self.newest_checkpoint()
        self.require("reader")
        if name == "start":
            self.require("span head")
        return self.searcher(name)

    def searcher(self, name: str) -> Answerer:
        """The same object for retrieval alone: a run without a reader has it too."""
        self.require("query embedder")
        experiment = self.experiment
        lexical = self.lexical() if experiment.retrieval.lexical else None
        objective = experiment.finetune.objective
        changes = {
            "reader_passages": experiment.retrieval.reader_passages,
            # Only fine-tuning teaches when to say nothing.
            "null_passage": objective.null_passage and name == "finetune",
        }
        return open_answerer(
            self.checkpoint(name), self.corpus(), self.snapshot(name),
            settings=objective.model_copy(update=changes),
            index_settings=self.experiment.index, lexical=lexical,
        )  # fmt: skip

    def _questions_to_learn_from(self, model: Model, snapshot: Snapshot) -> list[Question]:
        """Those of the training questions that this corpus can answer, and a few others."""
        questions, settings = self.train_questions(), self.experiment.finetune
        index = snapshot.index(self.experiment.index)
        with self._progress("questions looked up", len(questions)) as advance:
            return select_questions(
                model, self.corpus(), index, questions,
                unanswered_share=settings.objective.unanswered_share, seed=settings.loop.seed,
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

    # -- plumbing -------------------------------------------------------------------------

    def _inputs(self, checkpoint: Path, settings: Settings) -> dict[str, str]:
        return {
            "corpus": self.corpus().fingerprint,
            "checkpoint": read_manifest(checkpoint).fingerprint,
            "settings": fingerprint_of(settings.model_dump(mode="json")),
        }

    def _train(
        self,
        stage: str,
        folder: Path,
        objective: Callable[[], Objective],
        loop: LoopSettings,
        inputs: dict[str, str],
    ) -> Path:
        last = self._finished(folder, loop, inputs)
        if last is not None:
            return last
        ready = objective()
        with self._stage(stage, f"{stage} steps", loop.num_steps) as advance:
            hooks = Hooks(on_progress=lambda step, row: advance(step, _note(row)))
            return Training(ready, loop, folder, inputs).run(hooks)

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


def all_stages(run: Run) -> Sequence[tuple[str, Callable[[], object]]]:
    """Every stage of a whole run in order, by name."""
    return (
        ("corpus", run.corpus), ("spans", run.spans), ("lexical", run.lexical),
        ("start", run.start), ("warm-start", run.warm_start), ("pretrain", run.pretrain),
        ("index", lambda: run.snapshot("pretrain")), ("finetune", run.finetune),
    )  # fmt: skip


def _note(row: Scalars) -> str:
    return f"loss {row['loss']:.3f}"
