"""Block records come out as numpy wrote them, and nothing else comes out of such a file."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spelling import spelling_tokenizer

from realm.corpus.block_records import (
    MAX_RECORD_BYTES,
    count_block_records,
    read_block_records,
    write_block_records,
)
from realm.corpus.build import build_corpus
from realm.corpus.documents import Document
from realm.corpus.passages import CorpusSettings
from realm.errors import SourceError

FIXTURE = Path(__file__).parents[1] / "fixtures" / "released" / "openqa" / "block_records.npy"
TWICE = b"the same object"
# One of every length that pickle spells in its own way, one that comes twice, over a thousand.
RECORDS = [b"", TWICE, b"x" * 255, b"y" * 256, b"z" * 70_000, TWICE, "é".encode()]
RECORDS += [f"record {number}".encode() for number in range(2003)]


def array_of(records: list[Any]) -> np.ndarray:
    made = np.empty(len(records), dtype=object)
    made[:] = records
    return made


def write_pickled(path: Path, content: object, *, count: int = 1, protocol: int = 4) -> Path:
    with path.open("wb") as stream:
        header = {"descr": "|O", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        list(read_block_records(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_file_of_numpy_1_of_the_fixtures() -> None:
    assert count_block_records(FIXTURE) == 12
    loaded = np.load(FIXTURE, allow_pickle=True)
    assert list(read_block_records(FIXTURE)) == [record.decode() for record in loaded]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("number", [0, 1, 2, 1000, 1001, len(RECORDS)])
def test_every_way_to_pickle_an_array(tmp_path: Path, protocol: int, number: int) -> None:
    records = RECORDS[:number]
    path = write_pickled(tmp_path / "r.npy", array_of(records), count=number, protocol=protocol)
    assert list(read_block_records(path)) == [record.decode() for record in records]


def test_the_file_that_this_numpy_saves(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", array_of(RECORDS))
    assert list(read_block_records(tmp_path / "r.npy")) == [r.decode() for r in RECORDS]


def test_numpy_loads_what_is_written(tmp_path: Path) -> None:
    texts = [record.decode() for record in RECORDS]
    write_block_records(tmp_path / "r.npy", iter(texts), len(texts))
    assert np.load(tmp_path / "r.npy", allow_pickle=True).tolist() == RECORDS
    assert list(read_block_records(tmp_path / "r.npy")) == texts


class Touch:
    """Pickles as a call that leaves a trace."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("place", ["alone", "first", "later"])
def test_a_malicious_pickle_is_refused_and_not_run(
    tmp_path: Path, protocol: int, place: str
) -> None:
    trap = Touch(tmp_path / "was-run")
    content: Any = trap
    if place != "alone":
        content = array_of([trap] if place == "first" else [b"harmless", trap])
    count = 2 if place == "later" else 1
    path = write_pickled(tmp_path / "r.npy", content, count=count, protocol=protocol)
    message = refusal(path)
    assert "is not loaded" in message
    assert place != "alone" or "it asks for posix.mkdir" in message
    assert not (tmp_path / "was-run").exists()
    np.load(path, allow_pickle=True)  # the trap was a real one
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array_of(["text", "text"]), "no byte string"),
        (array_of([b"one", 2]), "no byte string"),
        (array_of([b"one", [b"two"]]), "no byte string"),
        (array_of([b"one", b"two", b"three"]), "builds something else"),
        (np.array([1, 2]), "asks for|builds something else|none that builds"),
        ([b"one", b"two"], "builds something else"),
        (b"\x80\x02]q\x00.", "protocol"),
        (b"\x80\x03t", "lacks its values"),
        (b"\x80\x03R", "lacks its values"),
        (b"\x80\x03h\x05", "not there"),
        (b"\x80\x03X\xff\xff\xff\xff", "long text"),
        (b"\x80\x03" + b"N" * 1000, "builds something else"),
        (b"", "cut short"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    path = write_pickled(tmp_path / "r.npy", content, count=2)
    message = refusal(path)
    assert any(word in message for word in words.split("|")), message


def test_a_length_that_lies_takes_no_memory(tmp_path: Path) -> None:
    whole = pickle.dumps(array_of([b"y" * 300]), 3)
    place = whole.index(b"B\x2c\x01\x00\x00")
    lying = whole[: place + 1] + (MAX_RECORD_BYTES + 1).to_bytes(4, "little") + whole[place + 5 :]
    assert "is said to have" in refusal(write_pickled(tmp_path / "r.npy", lying))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    content = FIXTURE.read_bytes()
    (tmp_path / "r.npy").write_bytes(content[: int(len(content) * share)])
    assert "cut short" in refusal(tmp_path / "r.npy")


def test_more_or_fewer_records_than_announced_are_refused(tmp_path: Path) -> None:
    whole = pickle.dumps(array_of([b"one", b"two"]), 3)
    more = whole.replace(b"C\x03two", b"C\x03twoC\x05three")
    fewer = whole.replace(b"C\x03twoq\x0f", b"").replace(b"etq\x10", b"etq\x0f")
    assert len(more) == len(whole) + 7
    assert len(fewer) == len(whole) - 7
    assert "holds more" in refusal(write_pickled(tmp_path / "r.npy", more, count=2))
    assert "announces 2 records and holds 1" in refusal(
        write_pickled(tmp_path / "r.npy", fewer, count=2)
    )
    trailing = write_pickled(tmp_path / "r.npy", whole + b"N", count=2)
    assert "something follows" in refusal(trailing)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.npy").write_bytes(b"PK\x03\x04 something else")
    assert "no .npy file" in refusal(tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", np.zeros((2, 3)))
    assert "array of float64 of shape (2, 3)" in refusal(tmp_path / "r.npy")
    bad = write_pickled(tmp_path / "r.npy", array_of([b"\xff"]))
    assert "record 0: not UTF-8" in refusal(bad)


def test_a_corpus_keeps_the_rows_of_its_records(tmp_path: Path) -> None:
    """One passage for each record, whatever its length: empty, of blanks, or far too long."""
    records = [b"Aa bb. Cc.", b"", b"  \n ", b"dd " * 30_000, b"Ee\tff"]
    np.save(tmp_path / "block_records.npy", array_of(records))
    spelling_tokenizer().save(str(tmp_path / "tokenizer.json"))
    store = build_corpus(
        [tmp_path / "block_records.npy"],
        tmp_path / "corpus",
        tokenizer_file=tmp_path / "tokenizer.json",
        settings=CorpusSettings(passage_tokens=16, cut="documents", num_workers=1),
    )
    assert [store.text(row) for row in (0, 1, 2, 4)] == ["Aa bb. Cc.", "", "", "Ee ff"]
    assert store.text(3) == ("dd " * 30_000)[:65_535].strip()
    assert store.num_tokens()[[0, 1, 2]].tolist() == [8, 0, 0]
    assert store.sentences(1).tolist() == [[0, 0]]
    assert store.document("block_records.npy:4") == Document("block_records.npy:4", "", "Ee\tff")
    assert store.source_span(4, 3, 5) == (3, 5)
