import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spelling import many_documents, spelling_tokenizer, write_rows

from realm.artifact import verify
from realm.corpus import columns, cutting
from realm.corpus.build import build_corpus
from realm.corpus.documents import Document
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import ResourceError, SettingError, SourceError

SETTINGS = CorpusSettings(passage_tokens=16, num_workers=1)


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = spelling_tokenizer()
    tokenizer.enable_truncation(4)  # as published tokenizers have it
    tokenizer.enable_padding(length=4)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


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


def test_what_cannot_become_a_corpus(tmp_path: Path, tokenizer_file: Path) -> None:
    def build(source: Path, tokenizer: Path = tokenizer_file) -> None:
        build_corpus(
            [source], tmp_path / "c", tokenizer_file=tokenizer, settings=SETTINGS, min_passages=2
        )

    lonely = write_rows(tmp_path / "d.jsonl", ("a", "T", "Aa."), ("b", "T", " "))
    with pytest.raises(SourceError, match="all sources: 1, needed are at least 2"):
        build(lonely)
    with pytest.raises(SourceError, match="there is no file"):
        build(tmp_path / "nowhere")
    with pytest.raises(SettingError, match="there is no tokenizer file"):
        build(lonely, tmp_path / "nowhere")
    with pytest.raises(SettingError, match=r"d.jsonl is no tokenizer.json"):
        build(lonely, lonely)
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


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
    monkeypatch.setattr("realm.corpus.build.COMMIT_SECONDS", -1.0)
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
    monkeypatch.setattr("realm.corpus.build.COMMIT_SECONDS", -1.0)
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
from realm.corpus import build, cutting
from realm.corpus.passages import CorpusSettings
if __name__ == "__main__":
    build.COMMIT_SECONDS = 0.0
    source, path, tokenizer = map(Path, sys.argv[1:])
    build.build_corpus([source], path, tokenizer_file=tokenizer,
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


def test_an_error_of_a_worker_is_raised_here(tokenizer_file: Path) -> None:
    documents = [Document(str(i), "t", "no text: \ud800") for i in range(256 * 5)]
    documents[:1024] = [Document(str(i), "t", "Text.") for i in range(1024)]
    settings = CorpusSettings(num_workers=2)
    with pytest.raises(UnicodeEncodeError) as caught:
        list(cutting.cut_in_order(documents, tokenizer_file, settings))
    assert "in cut_documents" in caught.value.__notes__[0]


def test_a_killed_worker_is_told_apart(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 256 * 12)

    def kill_a_worker(*_: int) -> None:
        for child in children(os.getpid()):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)

    with pytest.raises(ResourceError, match=r"set corpus\.num_workers to a smaller number"):
        build_corpus(
            [source],
            tmp_path / "c",
            tokenizer_file=tokenizer_file,
            settings=CorpusSettings(passage_tokens=16, num_workers=2),
            on_progress=kill_a_worker,
        )


def test_a_place_that_cannot_be_written(tmp_path: Path, tokenizer_file: Path) -> None:
    source = many_documents(tmp_path / "d.jsonl", 20)
    with pytest.raises(ResourceError, match="cannot write at"):
        build_corpus([source], source / "c", tokenizer_file=tokenizer_file, settings=SETTINGS)


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
