import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from realm.artifact import read_manifest, verify
from realm.corpus import columns, cutting, store
from realm.corpus.documents import Document
from realm.corpus.passages import CorpusSettings, normalise
from realm.corpus.store import PassageStore, build_corpus
from realm.errors import ArtifactError, ResourceError, SettingError, SourceError

SETTINGS = CorpusSettings(passage_tokens=16, num_workers=1)


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[UNK]", "[CLS]", "[SEP]", *letters, *".,!?-'", *(f"##{c}" for c in letters)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(4)  # as published tokenizers have it
    tokenizer.enable_padding(length=4)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def write_rows(path: Path, *rows: tuple[str, str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dict(zip(("id", "title", "text"), row, strict=True))) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def many_documents(path: Path, number: int) -> Path:
    rows = ((f"d{i}", f"t {i % 7}", f"No. {i} is  here. \n" * (i % 5)) for i in range(number))
    return write_rows(path, *rows)


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
    assert manifest.settings == {"passage_tokens": 16, "language": "en"}
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


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_the_result_does_not_depend_on_the_number_of_workers(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    source = many_documents(tmp_path / "d.jsonl", 256 * 7)
    made = [
        build_corpus(
            [source],
            tmp_path / f"{number}",
            tokenizer_file=tokenizer_file,
            settings=CorpusSettings(passage_tokens=16, num_workers=number),
        )
        for number in (1, 2)
    ]
    assert made[0].fingerprint == made[1].fingerprint
    assert files(made[0].path) == files(made[1].path)


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


def test_what_cannot_become_a_corpus(tmp_path: Path, tokenizer_file: Path) -> None:
    def build(source: Path, tokenizer: Path = tokenizer_file) -> None:
        build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer, settings=SETTINGS)

    lonely = write_rows(tmp_path / "d.jsonl", ("a", "T", "Aa."), ("b", "T", " "))
    with pytest.raises(SourceError, match="give 1 passages and pre-training needs at least 2"):
        build(lonely)
    with pytest.raises(SourceError, match="there is no file"):
        build(tmp_path / "nowhere")
    with pytest.raises(SettingError, match="there is no tokenizer file"):
        build(lonely, tmp_path / "nowhere")
    with pytest.raises(SettingError, match=r"d.jsonl is no tokenizer.json"):
        build(lonely, lonely)
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


def test_damage_is_noticed_when_a_store_is_opened(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 20)
    made = build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)
    os.truncate(made.path / "token_ids.npy", 200)
    with pytest.raises(ArtifactError, match=r"token_ids.npy is missing or cut short"):
        PassageStore.open(made.path)
    with pytest.raises(ArtifactError, match="no finished artifact"):
        PassageStore.open(tmp_path / "nowhere")


class Stop(Exception):
    """Stands for anything that ends a build in the middle."""


def stop_after(number: int) -> Callable[[int, int], None]:
    def progress(documents: int, _: int) -> None:
        if documents >= number:
            raise Stop

    return progress


def test_a_stopped_build_goes_on_after_its_last_commit(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMMIT_SECONDS", -1.0)
    source = many_documents(tmp_path / "d.jsonl", 256 * 4)
    cut: list[int] = []
    cut_batch = cutting._cut_batch

    def counting(pages: list[Any], *others: Any) -> Any:
        cut.append(len(pages))
        return cut_batch(pages, *others)

    def build(name: str, on_progress: Callable[[int, int], None] | None = None) -> PassageStore:
        return build_corpus(
            [source],
            tmp_path / name,
            tokenizer_file=tokenizer_file,
            settings=SETTINGS,
            on_progress=on_progress,
        )

    whole = build("whole")
    monkeypatch.setattr(cutting, "_cut_batch", counting)
    with pytest.raises(Stop):
        build("stopped", stop_after(512))
    assert not (tmp_path / "stopped").exists()
    for file in (tmp_path / ".stopped.unfinished").glob("*.npy"):  # a torn write after the commit
        with file.open("ab") as stream:
            stream.write(b"torn")
    cut.clear()
    resumed = build("stopped")
    assert cut == [256, 256]
    assert files(resumed.path) == files(whole.path)


def test_other_settings_begin_anew(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMMIT_SECONDS", -1.0)
    source = many_documents(tmp_path / "d.jsonl", 600)

    def build(settings: CorpusSettings, stop: Callable[[int, int], None] | None) -> PassageStore:
        return build_corpus(
            [source],
            tmp_path / "c",
            tokenizer_file=tokenizer_file,
            settings=settings,
            on_progress=stop,
        )

    with pytest.raises(Stop):
        build(SETTINGS, stop_after(256))
    other = build(CorpusSettings(passage_tokens=32, num_workers=1), None)
    assert other.num_documents == 600
    assert other.document_rows()[-1] == 599


BUILD = """
import sys
from pathlib import Path
from realm.corpus import cutting, store
from realm.corpus.passages import CorpusSettings
if __name__ == "__main__":
    store.COMMIT_SECONDS = 0.0
    source, path, tokenizer = map(Path, sys.argv[1:])
    store.build_corpus([source], path, tokenizer_file=tokenizer,
                       settings=CorpusSettings(passage_tokens=16, num_workers=2),
                       on_progress=lambda *numbers: print(*numbers, flush=True))
"""


def children(process: int) -> list[int]:
    file = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in file.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_killed_build_loses_nothing_and_leaves_no_process(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    source = many_documents(tmp_path / "d.jsonl", 256 * 30)
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    arguments = [sys.executable, str(script), str(source), str(tmp_path / "c"), str(tokenizer_file)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if int(line.split()[0]) >= 256 * 10:
                break
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(workers) >= 2
    assert not (tmp_path / "c").exists()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)

    progress: list[int] = []
    resumed = build_corpus(
        [source],
        tmp_path / "c",
        tokenizer_file=tokenizer_file,
        settings=SETTINGS,
        on_progress=lambda documents, _: progress.append(documents),
    )
    assert progress[0] > 256 * 9
    whole = build_corpus(
        [source], tmp_path / "whole", tokenizer_file=tokenizer_file, settings=SETTINGS
    )
    assert files(resumed.path) == files(whole.path)


def test_a_killed_worker_is_told_apart(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 256 * 12)

    def kill_a_worker(*_: int) -> None:
        for child in children(os.getpid()):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)

    with pytest.raises(ResourceError, match="set num_workers to a smaller number"):
        build_corpus(
            [source],
            tmp_path / "c",
            tokenizer_file=tokenizer_file,
            settings=CorpusSettings(passage_tokens=16, num_workers=2),
            on_progress=kill_a_worker,
        )


def test_two_builders_do_not_mix(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 20)

    def build(*_: int) -> None:
        build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)

    with pytest.raises(ResourceError, match="another process is building"):
        build_corpus(
            [source],
            tmp_path / "c",
            tokenizer_file=tokenizer_file,
            settings=SETTINGS,
            on_progress=build,
        )


def test_a_full_disk_is_said_and_nothing_committed_is_lost(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = many_documents(tmp_path / "d.jsonl", 600)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(columns.CorpusWriter, "append", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)
    made = build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)
    assert made.num_documents == 600
    assert np.diff(made.passage_ids()).min() == 1


def test_links_may_be_missing(
    tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    source = many_documents(tmp_path / "d.jsonl", 20)
    made = build_corpus([source], tmp_path / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)
    assert verify(made.path) > 0
