"""How does a run directory grow, stage by stage?

    corpus  spans  lexical  trunk/  start/  warm-start/  pretrain/  index  finetune/  evaluation/

Every stage is a method that opens its result if it is there and makes it otherwise, so a run
that was stopped goes on where it was, and each stage can be asked for alone. The recipe, the
time and the peak memory of each stage are kept beside the results.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from realm.artifact import is_finished
from realm.errors import ArtifactError, SettingError
from realm.evaluation.open_qa import exact_match_of_sample
from realm.examples.question import Question
from realm.experiment import BEST_FINETUNED_BY
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model, load_model
from realm.models.trunk import set_dropout
from realm.openqa.answerer import Answerer, open_answerer
from realm.openqa.finetune import select_questions
from realm.openqa.objective import OpenQaObjective, OpenQaSettings
from realm.pretrain_stages import PretrainRun
from realm.retrieval.retriever import Retriever
from realm.run_folder import IMPORT
from realm.training.loop import Objective, Scalars
from realm.warm_stages import Measure


class Run(PretrainRun):
    """One run directory and the experiment that fills it."""

    def finetune(self) -> Path:
        """The reader and the query side, fine-tuned on questions; the index stays as it is."""
        settings, folder = self.experiment.finetune, self.path / "finetune"
        if (taken := self.taken("finetune")) is not None:
            return taken
        self.require("query embedder", "reader")
        if settings.objective.null_passage:
            self.require("passage embedder")  # it embeds the null passage
        first, snapshot = self.pretrain(), self.snapshot("finetune")
        inputs = {
            **self._inputs(first, settings, self.experiment.index),
            "snapshot": snapshot.manifest.fingerprint,
            "questions": self.fingerprint_of_train_questions(),
        }

        def objective() -> Objective:
            model = load_model(first)
            if settings.retriever_from != "pretrain":
                model.embedder = self._half(settings.retriever_from).embedder
            if settings.reader_from != "pretrain":
                model.reader = self._half(settings.reader_from).reader
            model.embedder = model.embedder.with_own_query_tower()
            if settings.reader_dropout is not None:
                set_dropout(model.reader.trunk, settings.reader_dropout)
            retriever = self._retriever_to_learn_with(snapshot)
            questions = self._questions_to_learn_from(model, retriever)
            return OpenQaObjective(
                model, self.corpus(), snapshot, questions, settings.objective,
                seed=settings.loop.seed, retriever=retriever,
            )  # fmt: skip

        if not self.experiment.retrieval.embedder:
            inputs["ranked_by"] = self.lexical().manifest.fingerprint
        if settings.num_development_questions:
            inputs["development"] = self.fingerprint_of_development()
        judge = self._measure_development(snapshot)
        self._train("finetune", folder, objective, settings.loop, inputs, judge, BEST_FINETUNED_BY)
        return self.checkpoint("finetune")

    def _measure_development(self, snapshot: Snapshot) -> Measure | None:
        """Exact match of the model in training on a sample of the development questions."""
        experiment = self.experiment
        size = experiment.finetune.num_development_questions
        if experiment.selection.finetune == "best" and not size:
            raise SettingError(
                "selection.finetune=best measures questions: set finetune.num_development_questions"
            )
        if not size:
            return None
        questions = self.development_questions()
        settings, retriever = self._reading_to_answer("finetune"), self._retriever(snapshot)

        def measure(model: Model) -> Scalars:
            answerer = Answerer(model, self.corpus(), snapshot, retriever, settings)
            return {BEST_FINETUNED_BY: exact_match_of_sample(answerer, questions, size)}

        return measure

    def _half(self, name: str) -> Model:
        return load_model(self.checkpoint(self.resolved(name)))

    def answerer(self, name: str = "") -> Answerer:
        """The object that answers, with the furthest checkpoint or the named one."""
        name = name or self.newest_checkpoint()
        self._require_reader(name)
        return self.searcher(name)

    def require_answering(self, name: str) -> None:
        """Make sure that the reader of a checkpoint was taught to point at answers.

        By fine-tuning, or by its warm start: after that it answers before it has seen a question.

        Raises:
            ArtifactError: it was not, or an import has no such reader.
        """
        self._require_reader(name)
        was_warmed = name != "start" and self.experiment.warm_start.reader.loop.num_steps > 0
        if not (name == "finetune" or was_warmed or is_finished(self.path / IMPORT)):
            raise ArtifactError(
                f"{self.path} has no reader that was taught to answer: run "
                f"`realm finetune --run {self.path}`"
            )

    def _require_reader(self, name: str) -> None:
        self.require("query embedder", "reader")
        if name != "finetune":
            self.require("span head")

    def searcher(self, name: str) -> Answerer:
        """The same object for retrieval alone: a run without a reader has it too."""
        self.require("query embedder")
        snapshot = self.snapshot(name)
        return open_answerer(
            self.checkpoint(name), self.corpus(), snapshot,
            settings=self._reading_to_answer(name), retriever=self._retriever(snapshot),
            compute=self.experiment,
        )  # fmt: skip

    def _reading_to_answer(self, name: str) -> OpenQaSettings:
        """How much is read to answer a question, and whether there may be no answer."""
        objective = self.experiment.finetune.objective
        changes = {
            "reader_passages": self.experiment.retrieval.reader_passages,
            # Only fine-tuning teaches when to say nothing.
            "null_passage": objective.null_passage and self.is_finetuned(name),
        }
        return objective.model_copy(update=changes)

    def _retriever(self, snapshot: Snapshot) -> Retriever:
        """What ranks the passages for a question: the embedder, BM25, or the two joined."""
        settings = self.experiment.retrieval
        lexical = self.lexical() if settings.lexical else None
        return Retriever(snapshot.index(self.experiment.index), lexical, settings.embedder)

    def _retriever_to_learn_with(self, snapshot: Snapshot) -> Retriever:
        """What ranks in fine-tuning: one ranking alone, so that it is what is learned from."""
        if self.experiment.retrieval.embedder:
            return Retriever(snapshot.index(self.experiment.index))
        return self._retriever(snapshot)

    def _questions_to_learn_from(self, model: Model, retriever: Retriever) -> list[Question]:
        """Those of the training questions that this corpus can answer, and a few others."""
        questions, settings = self.train_questions(), self.experiment.finetune
        with self.progress("questions looked up", len(questions)) as advance:
            chosen = select_questions(
                model, self.corpus(), retriever, questions, settings.objective,
                seed=settings.loop.seed, on_progress=lambda done: advance(done, ""),
            )  # fmt: skip
            advance(len(questions), f"{len(chosen):,} to learn from")
        return chosen


def all_stages(run: Run) -> Sequence[tuple[str, Callable[[], object]]]:
    """Every stage of a whole run in order, by name; a model that was taken is not prepared for."""
    before = (("corpus", run.corpus), ("spans", run.spans), ("lexical", run.lexical))
    warm = (("trunk", run.trunk), ("start", run.start), ("warm-start", run.warm_start))
    after = (
        ("pretrain", run.pretrain), ("index", lambda: run.snapshot("pretrain")),
        ("finetune", run.finetune),
    )  # fmt: skip
    return (*before, *after) if run.taken("pretrain") else (*before, *warm, *after)
