"""How do documents become passages, spans and an index of their words, in a run directory?

Each result is opened if it is there and made otherwise; `stages.Run` goes on from here.
"""

from pathlib import Path
from typing import Self

import numpy as np

from realm.artifact import is_finished, read_manifest
from realm.corpus.build import build_corpus
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, SettingError
from realm.experiment import expand
from realm.models.checkpoint import check_packing
from realm.models.own_trunk import write_untrained_trunk
from realm.models.trunk import locate_trunk, read_tokenizer, trunk_folder
from realm.pretraining.reading import mine_reading_pairs, open_reading_pairs
from realm.retrieval.lexical import LexicalIndex, build_lexical_index
from realm.run_folder import RunFolder
from realm.spans.annotate import SpanStore, annotate

_MINED_BY = ("num_queries", "depth")


NO_DOCUMENTS = "no documents: name them with `realm corpus SOURCE... --run RUN`"


class DataRun(RunFolder):
    """One run directory, as far as its data goes."""

    def corpus(self) -> PassageStore:
        """The passages of the documents."""
        path = self.path / "corpus"
        if is_finished(path):
            return PassageStore.open(path)
        if not self.experiment.sources:
            raise SettingError(NO_DOCUMENTS)
        experiment, own = self.experiment, self.untrained_trunk()
        check_packing(experiment.embedder, experiment.reader, experiment.packing_settings, own)
        sources = [expand(source) for source in experiment.sources]
        tokenizer = trunk_folder(experiment.embedder.trunk, own) / "tokenizer.json"
        with self._stage("corpus", "documents", None) as advance:
            return build_corpus(
                sources, path, tokenizer_file=tokenizer, settings=experiment.corpus,
                # What is pre-trained reads another passage than the one that it asks about.
                min_passages=2 if experiment.is_pretrained_here else 1,
                on_progress=lambda documents, made: advance(documents, f"{made:,} passages"),
            )  # fmt: skip

    def untrained_trunk(self) -> Path | None:
        """Shape and tokenizer of the trunk that the run trains itself; None where it trains none.

        The corpus is cut with it before there is anything to train on.
        """
        if not self.experiment.has_own_trunk:
            return None
        settings, path = self.experiment.trunk, self.path / "trunk" / "untrained"
        kept = settings.model_dump(include={"shape", "vocabulary_of"})
        if not is_finished(path) or read_manifest(path).settings != kept:
            tokenizer = read_tokenizer(locate_trunk(settings.vocabulary_of))
            write_untrained_trunk(path, settings.shape, tokenizer, settings=kept)
        return path

    def spans(self) -> SpanStore:
        """The salient spans of the passages."""
        path = self.path / "spans"
        store = self.corpus()
        if self._is_made(path, store):
            self._refuse_other_settings(path, read_manifest(path).settings, self.experiment.spans)
            return SpanStore.open(path)
        with self._stage("spans", "passages tagged", len(store)) as advance:
            return annotate(
                store,
                path,
                settings=self.experiment.spans,
                on_progress=lambda done: advance(done, ""),
            )

    def queries(self) -> Self:
        """The run whose documents pre-training's queries come from: this one, or one within it."""
        sources = self.experiment.pretrain_sources
        if not sources:
            return self
        changes = {"sources": sources, "pretrain_sources": ()}
        experiment = self.experiment.model_copy(update=changes)
        return type(self)(self.path / "queries", experiment, self.progress)

    def lexical(self) -> LexicalIndex:
        """The BM25 index of the passages."""
        path = self.path / "lexical"
        store = self.corpus()
        if self._is_made(path, store):
            self._refuse_other_settings(path, read_manifest(path).settings, self.experiment.lexical)
            return LexicalIndex.open(path)
        with self._stage("lexical", "passages for BM25", len(store)) as advance:
            return build_lexical_index(
                store, path, settings=self.experiment.lexical,
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip

    def reading_pairs(self) -> np.ndarray:
        """Masked spans beside other passages that hold the same words."""
        path = self.path / "warm-start" / "pairs"
        settings = self.experiment.warm_start.reader.objective
        store = self.corpus()
        spans = self.spans()
        if self._is_made(path, store):
            made = read_manifest(path)
            mined_by = {name: made.settings[name] for name in _MINED_BY}
            self._refuse_other_settings(path, mined_by, settings)
            of = made.inputs.get("spans", spans.manifest.fingerprint)  # once they did not say
            if of != spans.manifest.fingerprint:
                raise ArtifactError(f"{path} was made from other spans: delete it")
            return open_reading_pairs(path)
        lexical = self.lexical()
        with self._stage("reading-pairs", "spans looked up", settings.num_queries) as advance:
            return mine_reading_pairs(
                path, store, spans, lexical, settings, seed=0,
                on_progress=lambda done: advance(done, ""),
            )  # fmt: skip
