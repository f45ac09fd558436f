"""TFRecord files of the published pre-training data: read to the byte, or refused in one line."""

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from realm.cli.info_commands import show_span_statistics
from realm.corpus.build import build_corpus
from realm.corpus.documents import Document, _read_source, read_documents
from realm.corpus.passages import CorpusSettings, normalise
from realm.corpus.store import PassageStore
from realm.corpus.tfrecords import parse_example, read_records
from realm.errors import SourceError
from realm.spans.annotate import annotate
from records import example, field, masked, record, varint

Span = tuple[int, int, str]
_ORIGINAL_SENTENCES = ("sentence_byte_start", "sentence_byte_limit")
Values = Sequence[int | float | str | bytes]

TEXT = "K\u00e4the Lind founded the mill at Tavil \u2013 in 1871. Nobody \U0001f600 knew of it."


def byte_span(text: str, part: str, label: str = "MISC") -> Span:
    """Where a part of a text stands, in bytes."""
    start = text.encode().index(part.encode())
    return start, start + len(part.encode()), label


def documents(text: str, spans: Sequence[Span], **more: Values) -> bytes:
    """A record of the configuration `documents`; `sentences` has all but the first two."""
    features: dict[str, Values] = {
        "sentences/start": [0],
        "sentences/limit": [len(text.encode())],
        "spans/start": [start for start, _, _ in spans],
        "spans/limit": [limit for _, limit, _ in spans],
        "spans/type": [label for _, _, label in spans],
        "text": [text],
        "title": ["Mills of T\u00e1vil"],
        **more,
    }
    return example(features)


SPANS = [
    byte_span(TEXT, "K\u00e4the Lind", "PER"),
    byte_span(TEXT, "Tavil", "LOC"),
    byte_span(TEXT, "1871", "DATE"),
    byte_span(TEXT, "knew"),
]


def write(path: Path, *contents: bytes) -> Path:
    data = b"".join(map(record, contents))
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def texts(document: Document) -> list[tuple[str, str]]:
    spans = document.spans or ()
    return [(document.text[start:end], label) for start, end, label in spans if start < end]


def test_a_record_as_tensorflow_writes_it() -> None:
    # The head of every event file of TensorFlow: a record of 24 bytes.
    assert masked((24).to_bytes(8, "little")) == bytes.fromhex("a37f4b22")


def test_numbers_of_the_wire() -> None:
    # The examples of the documentation of protocol buffers.
    assert varint(150) == b"\x96\x01"
    assert field(2, b"testing") == b"\x12\x07testing"
    values = [0, 1, 127, 128, 150, 2**31 - 1, 2**63 - 1, -1, -(2**63)]
    assert parse_example(example({"n": values}), "")["n"] == values


def test_lists_of_every_form() -> None:
    # Not packed, as older writers do; empty; floats, which are passed over.
    unpacked = field(3, b"\x08\x05\x08\x96\x01")
    entry = field(1, b"n") + field(2, unpacked)
    assert parse_example(field(1, field(1, entry)), "") == {"n": [5, 150]}
    content = example({"a": [1.5, 2.5], "b": [b"x", b""], "c": []})
    assert parse_example(content, "") == {"a": [], "b": [b"x", b""], "c": []}


@pytest.mark.parametrize(
    "name",
    ["a.tfrecord", "a.tfrecord.gz", "A-train.tfrecord-00003-of-00512", "a-00001-of-05000.tfrecord"],
)
def test_bytes_become_characters(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, documents(TEXT, SPANS), documents("Plain text here.", []))
    first, second = read_documents([path])
    assert first.text == TEXT
    assert first.title == "Mills of T\u00e1vil"
    assert texts(first) == [
        ("K\u00e4the Lind", "PER"), ("Tavil", "LOC"), ("1871", "DATE"), ("knew", "MISC"),
    ]  # fmt: skip
    assert second.spans == ()
    assert [first.document_id, second.document_id] == [f"{name}#1", f"{name}#2"]


def test_the_spelling_of_the_original_code(tmp_path: Path) -> None:
    start, limit, label = SPANS[1]
    features: dict[str, Values] = {
        "uid": ["1234"],
        "title": [""],
        "text": [TEXT],
        "span_byte_start": [start],
        "span_byte_limit": [limit],
        "span_type": [label],
    }
    (document,) = read_documents([write(tmp_path / "a.tfrecord", example(features))])
    assert (document.document_id, texts(document)) == ("1234", [("Tavil", "LOC")])


def test_what_cuts_a_character_is_left_out(tmp_path: Path) -> None:
    size = len(TEXT.encode())
    bad = [(0, 2, "X"), (2, 6, "X"), (5, 5, "X"), (7, 3, "X"), (-1, 3, "X"), (3, size + 1, "X")]
    path = write(tmp_path / "a.tfrecord", documents(TEXT, [*bad, (size - 3, size, "END")]))
    (document,) = read_documents([path])
    assert texts(document) == [("it.", "END")]
    # They are kept as empty ones, to be counted.
    assert [span[:2] for span in document.spans or ()][:-1] == [(0, 0)] * len(bad)


def test_a_record_without_the_keys_has_no_spans(tmp_path: Path) -> None:
    bare = example({"text": ["Nothing here."], "title": ["t"]})
    path = write(tmp_path / "a.tfrecord", bare, documents(TEXT, SPANS), bare)
    assert [len(document.spans or ()) for document in read_documents([path])] == [0, 4, 0]
    path = write(tmp_path / "a.tfrecord", bare, bare)
    with pytest.raises(SourceError, match="record 1 has no spans, and no other"):
        list(read_documents([path]))


def test_a_folder_of_shards_is_one_source(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"x.tfrecord-0000{number}-of-00003", documents(f"Shard {number}.", []))
    (tmp_path / "features.json").write_text("{}")  # lies beside the shards
    assert [d.text for d in read_documents([tmp_path])] == ["Shard 0.", "Shard 1.", "Shard 2."]


def test_ids_that_count_are_not_kept_to_be_compared(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        uid = {"uid": ["7"]} if folder == "one" else {}
        contents = [documents(f"Number {n}.", []) for n in range(200)]
        write(tmp_path / folder / "a.tfrecord", documents("First.", [], **uid), *contents)
    names = [name for _, name in _read_source(tmp_path / "one")]
    assert names == ["7", "a.tfrecord#", *[""] * 199]
    # Files of one name in two sources are told apart by nothing.
    with pytest.raises(SourceError, match=r"two: the document id 'a\.tfrecord#1' occurs twice"):
        list(read_documents([tmp_path / "one", tmp_path / "two"]))
    write(tmp_path / "one" / "a.tfrecord", *[documents("Twice.", [], uid=["7"])] * 2)
    with pytest.raises(SourceError, match="the document id '7' occurs twice"):
        list(read_documents([tmp_path / "one"]))


@pytest.mark.parametrize("place", [0, 5, 9, 14, 40, -5, -1])
def test_a_flipped_bit_is_found(place: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", documents(TEXT, SPANS), documents(TEXT, SPANS))
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half + place if place >= 0 else place] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.tfrecord, record 2: .*(checksum|cut short)"):
        list(read_documents([path]))


@pytest.mark.parametrize("size", [1, 8, 11, 12, 13, 60, -5, -4, -1])
def test_a_cut_file_is_refused(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", documents(TEXT, SPANS))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SourceError, match="record 1: the file is cut short"):
        list(read_documents([path]))


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord.gz", documents(TEXT, SPANS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"a\.tfrecord\.gz.* cannot be read"):
        list(read_documents([path]))


def test_a_huge_length_with_its_checksum_is_refused() -> None:
    length = (2**40).to_bytes(8, "little")
    with pytest.raises(SourceError, match="1,099,511,627,776 bytes cannot be"):
        list(read_records(io.BytesIO(length + masked(length)), "a"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{}", "not a tf.train.Example"),
        (b"\x0a\xff", "not a tf.train.Example"),
        (b"\x0a", "not a tf.train.Example"),
        (b"\xff" * 20, "not a tf.train.Example"),
        (b"\x08\x01", "not a tf.train.Example"),
        (example({"title": ["t"]}), "has no text"),
        (example({"text": [1]}), "text is of another type"),
        (example({"text": ["a", "b"]}), "has no text"),
        (example({"text": ["a"]}), "has no spans"),
        (example({"text": [b"\xff"], "spans/start": []}), "not UTF-8"),
        (documents("abc", [], **{"spans/limit": [1]}), "numbers of .* differ"),
        (documents("abc", [(0, 1, "X")], **{"spans/start": ["x"]}), "of another type"),
    ],
)
def test_other_contents_are_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", content)
    with pytest.raises(SourceError, match=f"record 1.*{complaint}") as raised:
        list(read_documents([path]))
    assert "\n" not in str(raised.value)


def test_characters_of_the_source_in_the_normalised_text() -> None:
    source = " \n K\u00e4the \t Lind  was\n\n\nhere  "
    text = normalise(source)
    for part in ("K\u00e4the", "Lind", "was", "here", "s"):
        start = source.index(part)
        first, last = text.offset_of(start), text.offset_of(start + len(part))
        assert text.text[first:last] == part
    assert text.offset_of(0) == 0
    assert text.offset_of(len(source)) == len(text.text)


@pytest.fixture
def store(tmp_path: Path, tokenizer_file: Path) -> PassageStore:
    """A document with published spans, one that names none, and two without a word on spans."""
    text = (
        "Ida Renquist  was born at Lomvar in 1838 and built it.\n\n"
        "The bridge at Tavil was opened in 1871 by the queen.\tAnd that was all of the story."
    )
    spans = [
        byte_span(text, "Lomvar", "LOC"),
        byte_span(text, "built it.\n\nThe bridge", "TWO SENTENCES"),
        byte_span(text, "bridge", "MISC"),
        byte_span(text, "1871", "DATE"),
        byte_span(text, "the queen", "PER"),
        byte_span(text, "queen", "OVERLAP"),
        (3, 3, "EMPTY"),
    ]
    second = text.index("The bridge")
    sentences: dict[str, Values] = {  # the last two are published as one
        "sentences/start": [0, second],
        "sentences/limit": [second - 2, len(text)],
    }
    shard = write(tmp_path / "a.tfrecord", documents(text, spans, **sentences), documents(text, []))
    plain = tmp_path / "plain.jsonl"
    lines = [{"id": name, "title": name, "text": text} for name in "bc"]
    plain.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    return build_corpus(
        [shard, plain], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )


def test_published_spans_take_the_place_of_the_tagger(store: PassageStore, tmp_path: Path) -> None:
    spans = annotate(store, tmp_path / "spans")
    found: dict[str, list[tuple[str, str]]] = {}
    for row in range(len(store)):
        passage = store.passage(row)
        for span in spans.of(row):
            part = passage.text[span["start"] : span["end"]]
            label = spans.labels[span["label_id"]]
            found.setdefault(passage.document_id, []).append((part, label))
            assert store.published_spans(row) is None or label not in ("entity", "date")
    assert found["a.tfrecord#1"] == [
        ("Lomvar", "LOC"), ("bridge", "MISC"), ("1871", "DATE"), ("the queen", "PER"),
    ]  # fmt: skip
    assert "a.tfrecord#2" not in found
    assert ("1838", "date") in found["b"]
    assert found["b"] == found["c"]


def test_published_sentences_are_kept(store: PassageStore) -> None:
    by_document: dict[str, list[str]] = {}
    for row in range(len(store)):
        passage, tokens = store.passage(row), store.token_spans(row)
        by_document.setdefault(passage.document_id, []).extend(
            passage.text[tokens[first, 0] : tokens[last - 1, 1]]
            for first, last in store.sentences(row).tolist()
        )
    born = "Ida Renquist was born at Lomvar in 1838 and built it."
    opened, story = "The bridge at Tavil was opened in 1871 by the queen.", "And that was all"
    assert by_document["b"] == [born, opened, f"{story} of the story."]  # as they are split here
    assert by_document["a.tfrecord#1"] == [born, f"{opened} {story} of the story."]
    assert by_document["a.tfrecord#2"] == [f"{born} {opened} {story} of the story."]


@pytest.mark.parametrize("names", [("sentences/start", "sentences/limit"), _ORIGINAL_SENTENCES])
def test_sentences_in_characters(names: tuple[str, str], tmp_path: Path) -> None:
    size, second = len(TEXT.encode()), TEXT.encode().index(b"Nobody")
    features: dict[str, Values] = {
        "text": [TEXT],
        "spans/start": [],
        names[0]: [second, 0, 2, 5],  # the last two cut a character and are empty
        names[1]: [size, second - 1, 4, 5],
    }
    (document,) = read_documents([write(tmp_path / "a.tfrecord", example(features))])
    assert document.sentence_starts == (0, TEXT.index("Nobody"))
    features[names[1]] = [size]
    with pytest.raises(SourceError, match=f"numbers of {names[0]}"):
        list(read_documents([write(tmp_path / "a.tfrecord", example(features))]))


def test_published_spans_that_are_left_out_are_counted(
    store: PassageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = annotate(store, tmp_path / "spans").manifest.counts
    left_out = {"num_broken_spans": 1, "num_crossing_spans": 1, "num_overlapping_spans": 1}
    assert {name: counts[name] for name in left_out} == left_out
    assert counts["num_published_spans"] == 7
    show_span_statistics(counts)
    shown = capsys.readouterr().out
    for words in ("cut a character", "inside one sentence", "overlap a longer one"):
        (line,) = [line for line in shown.splitlines() if words in line]
        assert line.split()[-1] == "1"


def test_no_tagger_is_made_where_all_spans_are_published(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tfrecord", documents(TEXT, SPANS), documents(TEXT, SPANS))
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    store = build_corpus(
        [path], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )
    monkeypatch.setattr("realm.spans.annotate._make_tagger", lambda *_: pytest.fail("made"))
    assert annotate(store, tmp_path / "spans").num_spans_by_label == {
        "PER": 2, "LOC": 2, "DATE": 2, "MISC": 2,
    }  # fmt: skip
