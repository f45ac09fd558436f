"""Is a corpus counted rightly from its beginning?"""

import bz2
import gzip
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from realm import workload
from realm.corpus.block_records import write_block_records
from realm.corpus.documents import Document
from realm.corpus.passages import cut_documents
from realm.experiment import Experiment, read_recipe
from realm.workload import estimate_workload
from records import example, record


def experiment_of(trunk: Path, **changes: object) -> Experiment:
    values = {
        "sources": (), "corpus": {"passage_tokens": 64}, "packing": {"query_tokens": 32},
        "embedder": {"trunk": str(trunk)}, "reader": {"trunk": str(trunk)}, **changes,
    }  # fmt: skip
    return Experiment.model_validate(values)


def name(number: int) -> str:
    """Sixteen characters that no compression shortens by much."""
    return sha256(str(number).encode()).hexdigest()[:16]


def rows(number: int) -> str:
    text = "The Sorna is a river of Velland. It rises on Mount Keld."
    facts = ({"id": name(n), "title": "Sorna", "text": text} for n in range(number))
    return "".join(json.dumps(row) + "\n" for row in facts)


def dump(number: int) -> str:
    text = "The Sorna is a river. It rises on Mount Keld."
    pages = (
        f"<page><title>{name(n)}</title><ns>0</ns><id>{n}</id><revision><text>{text}</text>"
        "</revision></page>\n"
        for n in range(number)
    )
    return "<mediawiki>\n" + "".join(pages) + "</mediawiki>"


def cells(number: int) -> str:
    """Rows of a table whose texts have several lines."""
    text = "The Sorna is a river.\nIt rises on Mount Keld.\nIt ends in Tavil."
    return "id,title,text\n" + "".join(f'{name(n)},Sorna,"{text}"\n' for n in range(number))


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": lambda text: text,
    ".jsonl.gz": gzip.compress,
    ".jsonl.zst": lambda text: zstandard.ZstdCompressor().compress(text),
    ".jsonl.bz2": bz2.compress,
    ".csv": lambda text: text,
    ".xml": lambda text: text,
}
MAKE = {".xml": dump, ".csv": cells}


@pytest.mark.parametrize("kind", PACK)
def test_the_beginning_speaks_for_the_whole(
    kind: str, trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MAKE.get(kind, rows)(400).encode()
    file = tmp_path / f"source{kind}"
    file.write_bytes(PACK[kind](whole))
    for more in range(3):  # wherever that cuts
        monkeypatch.setattr(workload, "_SAMPLE_BYTES", file.stat().st_size // 3 + 25 * more)
        found = estimate_workload(experiment_of(trunk_folder, sources=(str(file),)))
        # Each document is one passage; packed files are a little denser here and there.
        assert found.num_passages == pytest.approx(400, rel=0.1)
        assert (found.num_train_questions, found.notes) == (0, ())


TEXT = "The Sorna is a river of Velland. It rises on Mount Keld."


def write_records(path: Path, number: int) -> None:
    named: dict[str, list[str | int]] = {
        "text": [TEXT], "spans/start": [4], "spans/limit": [9], "spans/type": ["LOC"],
    }  # fmt: skip
    content = b"".join(record(example({**named, "uid": [name(n)]})) for n in range(number))
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_parquet(path: Path, number: int) -> None:
    columns = {"id": [name(n) for n in range(number)], "title": [""] * number}
    pq.write_table(pa.table({**columns, "text": [TEXT] * number}), path)


WRITE: dict[str, Callable[[Path, int], None]] = {
    "source.parquet": write_parquet,
    "source.npy": lambda path, n: write_block_records(path, (f"{k}: {TEXT}" for k in range(n)), n),
    "source.tfrecord": write_records,
    "source.tfrecord-00000-of-00512.gz": write_records,
}


@pytest.mark.parametrize("file_name", WRITE)
def test_of_large_tables_and_records_the_beginning_is_read_alone(
    file_name: str, trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE[file_name](tmp_path / file_name, 400)
    num_cut = []

    def counted(documents: list[Document], *others: Any) -> Any:
        num_cut.append(len(documents))
        return cut_documents(documents, *others)

    monkeypatch.setattr(workload, "cut_documents", counted)
    size = (tmp_path / file_name).stat().st_size
    for sample in (size // 6, 1 << 20):
        monkeypatch.setattr(workload, "_SAMPLE_BYTES", sample)
        experiment = experiment_of(trunk_folder, sources=(str(tmp_path / file_name),))
        found = estimate_workload(experiment)
        # A sixth of a small packed file is less dense than all of it.
        assert found.num_passages == pytest.approx(400, rel=0.25)
        assert found.notes == ()
    assert 10 < num_cut[0] < 250
    assert num_cut[1] == 400


def test_texts_without_spans_may_come_first(
    trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That no text names any is known at the end of the file alone."""
    file = tmp_path / "source.tfrecord"
    write_records(file, 200)
    plain = b"".join(record(example({"uid": [f"p{n}"], "text": [TEXT]})) for n in range(200))
    file.write_bytes(plain + file.read_bytes())
    monkeypatch.setattr(workload, "_SAMPLE_BYTES", len(plain) // 2)
    found = estimate_workload(experiment_of(trunk_folder, sources=(str(file),)))
    assert found.notes == ()
    assert found.num_passages > 200


def test_an_empty_part_of_a_table_is_no_problem(trunk_folder: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-0.parquet", 0)
    write_parquet(tmp_path / "part-1.parquet", 30)
    found = estimate_workload(experiment_of(trunk_folder, sources=(str(tmp_path),)))
    assert found.num_passages == pytest.approx(30, rel=0.5)  # by sizes: empty files have one
    assert found.notes == ()


@pytest.mark.parametrize("kind", [".jsonl.gz", ".jsonl.zst"])
def test_a_damaged_file_is_named(
    kind: str, trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"damaged{kind}").write_bytes(rows(50).encode())
    monkeypatch.setattr(workload, "_SAMPLE_BYTES", 100)
    found = estimate_workload(experiment_of(trunk_folder, sources=(str(tmp_path),)))
    assert any(f"damaged{kind} was not looked at" in note for note in found.notes)


@pytest.mark.parametrize("is_packed_first", [True, False])
def test_each_source_speaks_for_itself(
    is_packed_first: bool, trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes on the disk are not the same of packed rows and of plain files."""
    packed, folder = tmp_path / "rows.jsonl.gz", tmp_path / "notes"
    packed.write_bytes(gzip.compress(rows(400).encode()))
    folder.mkdir()
    for number in range(100):
        (folder / f"{number}.txt").write_text("A river rises here. " * 3, "utf-8")
    monkeypatch.setattr(workload, "_SAMPLE_BYTES", packed.stat().st_size // 3)
    sources = (str(packed), str(folder)) if is_packed_first else (str(folder), str(packed))
    found = estimate_workload(experiment_of(trunk_folder, sources=sources))
    assert found.num_passages == pytest.approx(400 + 100, rel=0.1)


def test_a_small_folder_is_counted_whole(trunk_folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("A river rises here. It ends there.", "utf-8")
    found = estimate_workload(experiment_of(trunk_folder, sources=(str(tmp_path),)))
    assert found.num_passages == 3
    assert found.num_characters == 3 * len("A river rises here. It ends there.")
    assert found.notes == ()


def test_lengths_are_packed_lengths(trunk_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Tavil is a port. It is old.", "utf-8")
    found = estimate_workload(experiment_of(trunk_folder, sources=(str(tmp_path),)))
    # The title is the file's name. Two sentences, each with [CLS] and [SEP].
    words, title = found.passages[0] - 3, found.passages[0] - 3 - (found.sentences - 2).sum()
    assert title >= 1
    assert words == title + (found.sentences - 2).sum()


def test_what_is_not_here_is_assumed_and_said(trunk_folder: Path) -> None:
    far = experiment_of(trunk_folder, sources=("nowhere.jsonl",), train_questions=("no.jsonl",))
    found = estimate_workload(far)
    assert found.num_passages == 1_000_000
    assert any("--passages" in note for note in found.notes)
    assert any("no.jsonl is not here" in note for note in found.notes)
    told = estimate_workload(far, 2_000_000)
    assert told.num_passages == 2_000_000
    assert told.num_characters == 2 * found.num_characters
    assert not any("--passages" in note for note in told.notes)


def test_the_demo_is_counted_to_the_passage() -> None:
    found = estimate_workload(read_recipe("demo"))
    assert found.num_passages == 340
    assert found.dev_questions == (324,)


def test_only_files_that_are_read_count(trunk_folder: Path, tmp_path: Path) -> None:
    """Neither pictures nor what is hidden make a folder of documents larger."""
    folder = tmp_path / "documents"
    (folder / ".git").mkdir(parents=True)
    (folder / "a.jsonl").write_text(rows(50), encoding="utf-8")
    alone = estimate_workload(experiment_of(trunk_folder, sources=(str(folder),)))
    (folder / "film.mp4").write_bytes(bytes(10_000_000))
    (folder / ".git" / "b.jsonl").write_text(rows(500), encoding="utf-8")
    beside = estimate_workload(experiment_of(trunk_folder, sources=(str(folder),)))
    assert beside.num_passages == alone.num_passages == 50
    assert beside.notes == ()
