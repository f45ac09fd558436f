import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from realm.artifact import read_manifest, verify
from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.spans.annotate import SPAN, SpanStore, annotate, keep_longest
from realm.spans.entities import Span

SETTINGS = CorpusSettings(passage_tokens=48, num_workers=1)


@pytest.fixture(scope="module")
def store(
    corpus_source: Path, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> PassageStore:
    path = tmp_path_factory.mktemp("annotate") / "corpus"
    return build_corpus([corpus_source], path, tokenizer_file=tokenizer_file, settings=SETTINGS)


@pytest.fixture(scope="module")
def spans(store: PassageStore, tmp_path_factory: pytest.TempPathFactory) -> SpanStore:
    return annotate(store, tmp_path_factory.mktemp("annotate") / "spans")


def texts_of(store: PassageStore, spans: SpanStore, row: int) -> list[tuple[str, str]]:
    text = store.text(row)
    return [(text[s["start"] : s["end"]], spans.labels[s["label_id"]]) for s in spans.of(row)]


def test_the_first_passage_by_hand(store: PassageStore, spans: SpanStore) -> None:
    assert store.text(0).startswith("Ida Renquist was an engineer from Lomvar. She was born")
    assert texts_of(store, spans, 0)[:4] == [
        ("Ida Renquist", "entity"),
        ("Lomvar", "entity"),
        ("Tavil", "entity"),
        ("9 June 1838", "date"),
    ]
    assert spans.of(0)["sentence"][:4].tolist() == [0, 0, 1, 1]


def test_tokens_are_those_of_the_span_and_of_one_sentence(
    store: PassageStore, spans: SpanStore
) -> None:
    assert len(spans) > 40
    for row in range(len(store)):
        tokens, sentences, ids = store.token_spans(row), store.sentences(row), store.token_ids(row)
        for span in spans.of(row):
            first, last = span["token_start"], span["token_end"]
            assert (tokens[first, 0], tokens[last - 1, 1]) == (span["start"], span["end"])
            sentence_first, sentence_last = sentences[span["sentence"]]
            assert sentence_first <= first < last <= sentence_last
            text = store.text(row)[span["start"] : span["end"]]
            encoded = store.tokenizer.encode(text, add_special_tokens=False)
            assert encoded.ids == ids[first:last].tolist()


def test_spans_are_ordered_and_apart(store: PassageStore, spans: SpanStore) -> None:
    for row in range(len(store)):
        found = spans.of(row)
        assert found.dtype == SPAN
        assert (found["start"][1:] >= found["end"][:-1]).all()
        assert not found.flags.writeable or len(found) == 0


def test_counts_and_rows_agree(store: PassageStore, spans: SpanStore) -> None:
    numbers = [len(spans.of(row)) for row in range(len(store))]
    assert spans.rows_with_spans().tolist() == [row for row, n in enumerate(numbers) if n]
    assert sum(spans.num_spans_by_label.values()) == len(spans) == sum(numbers)
    counts = spans.manifest.counts
    assert counts["num_passages"] == len(store)
    assert 0 < counts["num_sentences_with_spans"] <= counts["num_sentences"]
    assert spans.manifest.inputs["corpus"] == store.fingerprint


def test_the_same_corpus_gives_the_same_files(
    store: PassageStore, spans: SpanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Equivalence: the number of rows that are worked on at once changes nothing.
    monkeypatch.setattr("realm.spans.annotate._ROWS_AT_ONCE", 2)
    seen: list[int] = []
    annotate(store, tmp_path / "spans", on_progress=seen.append)
    assert read_manifest(tmp_path / "spans") == spans.manifest
    assert seen == sorted({*range(2, len(store), 2), len(store)})
    assert verify(tmp_path / "spans") == 3


def test_a_store_survives_pickling(spans: SpanStore) -> None:
    copy = pickle.loads(pickle.dumps(spans))
    assert np.array_equal(copy.of(0), spans.of(0))


def test_a_corpus_without_spans(tmp_path: Path, tokenizer_file: Path) -> None:
    source = tmp_path / "plain.jsonl"
    text = "there is nothing in here that has any name at all. so it is."
    rows = [{"id": str(number), "title": "t", "text": text} for number in range(3)]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    store = build_corpus(
        [source], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=SETTINGS
    )
    spans = annotate(store, tmp_path / "spans")
    assert len(spans) == 0
    assert spans.of(2).shape == (0,)
    assert spans.rows_with_spans().size == 0
    assert spans.labels == []


def test_headings_hold_no_spans(tmp_path: Path, tokenizer_file: Path) -> None:
    source = tmp_path / "headings.jsonl"
    text = (
        "Early Life.\nHe saw the town of Tavil in 1880.\nWorld War II.\nAnd then he left Tavil now."
    )
    rows = [{"id": str(number), "title": "t", "text": text} for number in range(2)]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    store = build_corpus(
        [source],
        tmp_path / "corpus",
        tokenizer_file=tokenizer_file,
        settings=CorpusSettings(passage_tokens=128, num_workers=1),
    )
    spans = annotate(store, tmp_path / "spans")
    assert [text for text, _ in texts_of(store, spans, 0)] == ["Tavil", "1880", "Tavil"]
    # Two headings in each of two passages.
    assert spans.manifest.counts["num_short_sentences"] == 4
    assert spans.manifest.counts["num_sentences"] == 4
    assert spans.manifest.counts["num_cut_spans"] == 0


def test_absent_spans_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished artifact"):
        SpanStore.open(tmp_path / "none")


def test_the_longest_span_wins() -> None:
    a, b, c, d = Span(0, 4, "x"), Span(2, 9, "y"), Span(8, 12, "z"), Span(12, 14, "x")
    assert keep_longest([a, b, c, d]) == [b, d]
    assert keep_longest([Span(0, 4, "date"), Span(0, 4, "entity")]) == [Span(0, 4, "date")]
    assert keep_longest([]) == []
