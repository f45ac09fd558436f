import os
import pickle
from pathlib import Path

import pytest
from spelling import many_documents, spelling_tokenizer, write_rows
from tokenizers import Tokenizer, models, pre_tokenizers

from realm.artifact import read_manifest, verify
from realm.corpus import columns
from realm.corpus.build import build_corpus
from realm.corpus.documents import Document
from realm.corpus.passages import CorpusSettings, normalise
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError, SourceError

SETTINGS = CorpusSettings(passage_tokens=16, num_workers=1)


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = spelling_tokenizer()
    tokenizer.enable_truncation(4)  # as published tokenizers have it
    tokenizer.enable_padding(length=4)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> PassageStore:
    folder = tmp_path_factory.mktemp("two")
    source = write_rows(
        folder / "two.jsonl",
        ("x", "T", "  Aa  bb. Cc\ndd. Ee ff."),
        ("none", "Nothing", " "),
        ("y", "Uv", "Gg."),
    )
    return build_corpus(
        [source], folder / "corpus", tokenizer_file=tokenizer_file, settings=SETTINGS
    )


def test_a_store_by_hand(two: PassageStore) -> None:
    assert (len(two), two.num_documents) == (3, 3)
    first = two.passage(0)
    assert (first.passage_id, first.document_id, first.title) == (0, "x", "T")
    assert (first.text, first.source_start, first.source_end) == ("Aa bb. Cc dd.", 2, 16)
    assert two.passage(1).text == two.text(1) == "Ee ff."
    assert two.passage(2).document_id == "y"
    assert two.passage_ids().tolist() == [0, 1, 2]
    assert two.document_rows().tolist() == [0, 0, 2]
    assert two.document_row(2) == 2
    assert two.num_tokens().tolist() == [10, 5, 3]
    assert two.num_title_tokens().tolist() == [1, 1, 2]
    assert two.sentences(0).tolist() == [[0, 5], [5, 10]]
    assert two.token_spans(1).tolist() == [[0, 1], [1, 2], [3, 4], [4, 5], [5, 6]]
    tokens = [two.tokenizer.id_to_token(i) for i in two.token_ids(2)]
    assert tokens == ["g", "##g", "."]
    assert [two.tokenizer.id_to_token(i) for i in two.title_token_ids(2)] == ["u", "##v"]
    assert two.source_span(0, 7, 12) == (10, 15)  # "Cc dd", in the source "Cc\ndd"
    assert two.document("x") == Document("x", "T", "  Aa  bb. Cc\ndd. Ee ff.")
    assert two.document("none").text == " "
    assert two.ids_without_text() == ["none"]
    with pytest.raises(SourceError, match="no document 'z'"):
        two.document("z")


def test_the_manifest_tells_what_was_made(two: PassageStore, tokenizer_file: Path) -> None:
    manifest = read_manifest(two.path)
    assert manifest.counts == {
        "num_documents": 3,
        "num_documents_without_text": 1,
        "num_passages": 3,
        "num_tokens": 18,
    }
    assert manifest.settings == {"passage_tokens": 16, "language": "en", "cut": "sentences"}
    assert list(manifest.inputs) == ["source 0: two.jsonl", "tokenizer"]
    assert verify(two.path) == len(columns.file_names()) + 1
    assert list(two.path.parent.glob(".corpus*")) == []
    assert (two.path / "tokenizer.json").read_bytes() == tokenizer_file.read_bytes()
    assert two.settings == CorpusSettings(passage_tokens=16)


def test_a_store_travels_between_processes_by_its_path(two: PassageStore) -> None:
    assert two.token_ids(0).any()
    data = pickle.dumps(two)
    assert len(data) < 500
    again = pickle.loads(data)
    assert again.passage(1) == two.passage(1)
    assert again.fingerprint == two.fingerprint


def test_equal_passages_have_equal_hashes(tmp_path: Path, tokenizer_file: Path) -> None:
    source = write_rows(
        tmp_path / "d.jsonl", ("a", "T", "Aa  bb."), ("b", "T", "Aa bb."), ("c", "U", "Aa bb.")
    )
    made = build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)
    first, second, third = made.content_hashes().tolist()
    assert first == second != third


def test_every_row_is_a_slice_of_its_document(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 700)
    progress: list[tuple[int, int]] = []
    made = build_corpus(
        [source],
        tmp_path / "c",
        tokenizer_file=tokenizer_file,
        settings=SETTINGS,
        on_progress=lambda *numbers: progress.append(numbers),
    )
    assert progress == sorted(progress)
    assert progress[-1] == (700, len(made))
    for row in range(len(made)):
        passage = made.passage(row)
        text = made.document(passage.document_id).text
        assert normalise(text[passage.source_start : passage.source_end]).text == passage.text
        start, end = made.token_spans(row)[0]
        first, last = made.source_span(row, start, end)
        assert normalise(text[first:last]).text == passage.text[start:end]


def test_large_vocabularies_get_wider_numbers(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(70_000)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    source = write_rows(tmp_path / "d.jsonl", ("a", "3", "1 69999"), ("b", "66000", "65536"))
    made = build_corpus(
        [source],
        tmp_path / "c",
        tokenizer_file=tmp_path / "tokenizer.json",
        settings=SETTINGS,
    )
    assert made.token_ids(0).tolist() == [1, 69999]
    assert made.title_token_ids(1).tolist() == [66000]


def test_damage_is_noticed_when_a_store_is_opened(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 20)
    made = build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)
    os.truncate(made.path / "token_ids.npy", 200)
    with pytest.raises(ArtifactError, match=r"token_ids.npy is missing or cut short"):
        PassageStore.open(made.path)
    with pytest.raises(ArtifactError, match="no finished artifact"):
        PassageStore.open(tmp_path / "nowhere")
