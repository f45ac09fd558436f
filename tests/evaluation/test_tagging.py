"""F1 of entities by hand."""

from collections.abc import Sequence

import pytest

from realm.evaluation.tagging import (
    Agreement,
    agreement,
    compare_taggers,
    with_label,
    without_labels,
)
from realm.spans.conll import TaggedFile, TaggedSentence
from realm.spans.entities import Span

MARKED = [
    [Span(0, 5, "PER"), Span(6, 9, "LOC"), Span(12, 20, "ORG")],
    [],
    [Span(3, 8, "LOC")],
]
FOUND = [
    # Right; the right place with another label; one character short.
    [Span(0, 5, "PER"), Span(6, 9, "ORG"), Span(12, 19, "ORG")],
    [Span(0, 1, "PER")],
    [],
]


def test_both_ends_and_the_label_have_to_agree() -> None:
    typed = agreement(MARKED, FOUND)
    assert typed == Agreement(num_marked=4, num_found=4, num_right=1)
    assert (typed.precision, typed.recall, typed.f1) == (0.25, 0.25, 0.25)


def test_without_labels_the_place_alone_counts() -> None:
    untyped = agreement(without_labels(MARKED), without_labels(FOUND))
    assert untyped == Agreement(num_marked=4, num_found=4, num_right=2)


def test_one_label() -> None:
    places = agreement(with_label(MARKED, "LOC"), with_label(FOUND, "LOC"))
    assert places == Agreement(num_marked=2, num_found=0, num_right=0)
    people = agreement(with_label(MARKED, "PER"), with_label(FOUND, "PER"))
    assert (people.precision, people.recall) == (0.5, 1.0)
    assert people.f1 == pytest.approx(2 / 3)


def test_nothing_marked_and_nothing_found() -> None:
    nothing = agreement([[]], [[]])
    assert (nothing.precision, nothing.recall, nothing.f1) == (0.0, 0.0, 0.0)


class Finding:
    """A tagger that always finds the same."""

    name = "finding"

    def __init__(self, spans: Sequence[Sequence[Span]]) -> None:
        self._spans = [list(spans) for spans in spans]

    def tag(self, texts: Sequence[str], documents: Sequence[int] | None = None) -> list[list[Span]]:
        return self._spans


def test_taggers_side_by_side() -> None:
    sentences = [TaggedSentence("x" * 20, tuple(spans)) for spans in MARKED]
    file = TaggedFile(
        "data.conll", [sentences[:1], sentences[1:]], frozenset({"PER", "LOC", "ORG"})
    )
    rules = [[span._replace(label="entity") for span in spans] for spans in FOUND]
    rules[2] = [Span(0, 2, "number")]  # no name: does not count
    report = compare_taggers(file, {"model": Finding(FOUND), "rules": Finding(rules)})
    assert (report["num_documents"], report["num_sentences"], report["num_entities"]) == (2, 3, 4)
    model, by_rules = report["systems"]["model"], report["systems"]["rules"]
    assert model["typed"] == {"precision": 25.0, "recall": 25.0, "f1": 25.0}
    assert model["untyped"]["f1"] == by_rules["untyped"]["f1"] == 50.0
    assert model["f1_by_label"] == {"LOC": 0.0, "ORG": 0.0, "PER": pytest.approx(66.67)}
    assert by_rules["typed"] is None
    assert by_rules["f1_by_label"] is None
