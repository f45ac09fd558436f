"""How well does a tagger find the entities that people marked?

Strictly, entity by entity: one counts as found where both ends agree, and the label too where
labels are compared (the measure of CoNLL-2003).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from realm.spans.conll import TaggedFile
from realm.spans.entities import EntityTagger, Span

_NUMBER = "number"  # what the rules call amounts: no names, and marked in no file


@dataclass(frozen=True)
class Agreement:
    """How many entities were marked, found, and found rightly."""

    num_marked: int
    num_found: int
    num_right: int

    @property
    def precision(self) -> float:
        """Share of what was found that is right; 0 where nothing was found."""
        return self.num_right / self.num_found if self.num_found else 0.0

    @property
    def recall(self) -> float:
        """Share of what was marked that was found; 0 where nothing was marked."""
        return self.num_right / self.num_marked if self.num_marked else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.num_marked + self.num_found
        return 2 * self.num_right / total if total else 0.0


def agreement(marked: Sequence[Iterable[Span]], found: Sequence[Iterable[Span]]) -> Agreement:
    """Compare the entities of sentences, summed over all of them."""
    counts = [0, 0, 0]
    for theirs, ours in zip(map(set, marked), map(set, found), strict=True):
        for place, spans in enumerate((theirs, ours, theirs & ours)):
            counts[place] += len(spans)
    return Agreement(*counts)


def with_label(sentences: Sequence[Iterable[Span]], label: str) -> list[list[Span]]:
    """Of every sentence the entities of one label."""
    return [[span for span in spans if span.label == label] for spans in sentences]


def without_labels(sentences: Sequence[Iterable[Span]]) -> list[list[Span]]:
    """The same entities with no label, to compare their places alone."""
    return [[span._replace(label="") for span in spans] for spans in sentences]


def compare_taggers(file: TaggedFile, taggers: Mapping[str, EntityTagger]) -> dict[str, Any]:
    """Measure taggers on the sentences of a file, with and without regard to labels, in percent.

    What has a label that the annotators did not look for is not judged. A tagger whose labels are
    none of the file's, like that by rules, has no typed figures.
    """
    texts = [sentence.text for sentence in file.sentences]
    documents = [number for number, document in enumerate(file.documents) for _ in document]
    marked = [sentence.spans for sentence in file.sentences]
    return {
        "num_documents": len(file.documents),
        "num_sentences": len(texts),
        "num_entities": sum(map(len, marked)),
        "systems": {
            name: _scores(marked, tagger.tag(texts, documents), file.labels)
            for name, tagger in taggers.items()
        },
    }


def _scores(
    marked: Sequence[Sequence[Span]], tagged: Sequence[Sequence[Span]], labels: frozenset[str]
) -> dict[str, Any]:
    found = [[span for span in spans if span.label in labels] for spans in tagged]
    if not any(found):
        names = [[span for span in spans if span.label != _NUMBER] for spans in tagged]
        untyped = agreement(without_labels(marked), without_labels(names))
        return {"typed": None, "untyped": _percent(untyped), "f1_by_label": None}
    by_label = {
        label: _percent(agreement(with_label(marked, label), with_label(found, label)))
        for label in sorted(labels)
    }
    return {
        "typed": _percent(agreement(marked, found)),
        "untyped": _percent(agreement(without_labels(marked), without_labels(found))),
        "f1_by_label": {label: scores["f1"] for label, scores in by_label.items()},
    }


def _percent(measured: Agreement) -> dict[str, float]:
    return {
        name: round(100 * value, 2)
        for name, value in (
            ("precision", measured.precision),
            ("recall", measured.recall),
            ("f1", measured.f1),
        )
    }
