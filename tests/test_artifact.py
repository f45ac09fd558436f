"""An artifact appears whole or not at all, and says when it was damaged."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from realm.artifact import (
    MANIFEST,
    create_artifact,
    fingerprint_of,
    is_finished,
    open_artifact,
    read_manifest,
    remove_artifact,
    verify,
    write_atomically,
)
from realm.errors import ArtifactError, ResourceError


def write(path: Path, text: str = "one two three", *, kind: str = "letters") -> None:
    with create_artifact(path, kind, settings={"width": 3}, inputs={"corpus": "abc"}) as staging:
        (staging.path / "deep").mkdir()
        (staging.path / "deep" / "text.txt").write_text(text)
        (staging.path / "empty").write_text("")
        staging.counts["num_words"] = len(text.split())


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
def test_whoever_may_see_the_directory_may_read_its_files(tmp_path: Path) -> None:
    path, before = tmp_path / "letters", os.umask(0o027)
    try:
        with create_artifact(path, "letters", settings={}, inputs={}) as staging:
            private = staging.path / "weights.safetensors"
            private.write_text("one")
            private.chmod(0o600)
    finally:
        os.umask(before)
    assert (path / private.name).stat().st_mode & 0o777 == 0o640


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "letters"
    write(path)
    manifest = open_artifact(path, "letters")
    assert (manifest.kind, manifest.settings, manifest.inputs) == (
        "letters",
        {"width": 3},
        {"corpus": "abc"},
    )
    assert manifest.counts == {"num_words": 3}
    assert {name: facts["bytes"] for name, facts in manifest.files.items()} == {
        "deep/text.txt": 13,
        "empty": 0,
    }
    assert verify(path) == 2
    assert is_finished(path)
    assert names_in(path.parent) == ["letters"]


def test_nothing_is_there_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    with create_artifact(path, "letters", settings={}, inputs={}) as staging:
        (staging.path / "text").write_text("one")
        assert not path.exists()
        assert not is_finished(path)
    assert is_finished(path)


def test_a_block_that_fails_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "letters"

    def fail() -> None:
        with create_artifact(path, "letters", settings={}, inputs={}) as staging:
            (staging.path / "text").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    write(path, "old")
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (path / "deep" / "text.txt").read_text() == "old"
    assert names_in(tmp_path) == ["letters"]


def test_an_artifact_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    write(path, "old")
    old = read_manifest(path).fingerprint
    write(path, "new words")
    assert (path / "deep" / "text.txt").read_text() == "new words"
    assert read_manifest(path).fingerprint != old
    assert names_in(tmp_path) == ["letters"]


def test_equal_content_has_equal_fingerprints(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name)
    assert read_manifest(tmp_path / "one") == read_manifest(tmp_path / "two")
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": 2})


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from realm.artifact import create_artifact
with create_artifact(Path(sys.argv[1]), "letters", settings={}, inputs={}) as staging:
    (staging.path / "text").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_nothing_that_lasts(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    with pytest.raises(ArtifactError, match="no finished artifact"):
        open_artifact(path, "letters")
    assert len(list(tmp_path.glob(".letters.staging-*"))) == 1
    write(path)  # the next writer sweeps
    assert names_in(tmp_path) == ["letters"]


def test_sweeping_spares_a_writer_that_lives(tmp_path: Path) -> None:
    here, dead = socket.gethostname(), 2**30
    living = tmp_path / f".letters.staging-{here}-{os.getppid()}"
    elsewhere = [
        tmp_path / f".letters.staging-{host}-{dead}" for host in ("far", f"far-{here}", f"{here}-7")
    ]
    not_ours = tmp_path / f".letters.notes-{here}-{dead}"
    crashed = [tmp_path / f".{name}-{here}-{dead}" for name in ("numbers.staging", "letters.old")]
    for folder in (living, *elsewhere, not_ours, *crashed):
        folder.mkdir()
    write(tmp_path / "letters")
    left = {tmp_path / "letters", living, *elsewhere, not_ours}
    assert set(tmp_path.iterdir()) == left


def test_the_slower_of_two_writers_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    with create_artifact(path, "letters", settings={}, inputs={"corpus": "abc"}) as staging:
        (staging.path / "text").write_text("slow")
        write_in_another_process(path, "abc")
        first = path.stat().st_ino
    assert path.stat().st_ino == first
    assert (path / "text").read_text() == "fast"
    assert names_in(tmp_path) == ["letters"]
    # One that stood before is replaced, whoever made it.
    with create_artifact(path, "letters", settings={}, inputs={"corpus": "abc"}) as staging:
        (staging.path / "text").write_text("new")
    assert (path / "text").read_text() == "new"


def test_two_writers_of_different_things_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "letters"

    def write_late() -> None:
        with create_artifact(path, "letters", settings={}, inputs={"corpus": "abc"}):
            write_in_another_process(path, "xyz")

    with pytest.raises(ArtifactError, match="made meanwhile from something else"):
        write_late()
    assert read_manifest(path).inputs == {"corpus": "xyz"}
    assert names_in(tmp_path) == ["letters"]


FAST_WRITER = """
import sys
from pathlib import Path
from realm.artifact import create_artifact
inputs = {"corpus": sys.argv[2]}
with create_artifact(Path(sys.argv[1]), "letters", settings={}, inputs=inputs) as staging:
    (staging.path / "text").write_text("fast")
"""


def write_in_another_process(path: Path, corpus: str) -> None:
    subprocess.run([sys.executable, "-c", FAST_WRITER, str(path), corpus], check=True)


def test_an_artifact_vanishes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "letters"
    write(path)
    seen: list[bool] = []

    def look(_: Path, **__: Any) -> None:
        seen.append(path.exists())

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", look)
        remove_artifact(path)
    assert seen == [False]
    remove_artifact(path)  # it is gone already
    assert list(tmp_path.iterdir()) == []


def test_an_altered_file_is_found_by_verify(tmp_path: Path) -> None:
    write(tmp_path / "letters")
    (tmp_path / "letters" / "deep" / "text.txt").write_text("one two thrEe")
    open_artifact(tmp_path / "letters", "letters")  # cheap: sizes alone
    with pytest.raises(ArtifactError, match="differs from its checksum"):
        verify(tmp_path / "letters")


def test_a_truncated_file_is_found_at_opening(tmp_path: Path) -> None:
    file = tmp_path / "letters" / "deep" / "text.txt"
    write(tmp_path / "letters")
    os.truncate(file, 5)
    with pytest.raises(ArtifactError, match=r"text\.txt is missing or cut short"):
        open_artifact(tmp_path / "letters", "letters")
    file.unlink()
    with pytest.raises(ArtifactError, match=r"text\.txt is missing or cut short"):
        open_artifact(tmp_path / "letters", "letters")


def alter_manifest(path: Path, **facts: Any) -> None:
    file = path / MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "letters")
    alter_manifest(tmp_path / "letters", format_version=2)
    with pytest.raises(ArtifactError, match="format version 2, this program reads 1"):
        open_artifact(tmp_path / "letters", "letters")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "letters")
    with pytest.raises(ArtifactError, match="holds a letters, not a corpus"):
        open_artifact(tmp_path / "letters", "corpus")


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "letters")
    alter_manifest(tmp_path / "letters", settings={"width": 4})
    with pytest.raises(ArtifactError, match="was altered"):
        open_artifact(tmp_path / "letters", "letters")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1}', "null"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "letters")
    (tmp_path / "letters" / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="is damaged"):
        read_manifest(tmp_path / "letters")


def test_a_full_disk_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="disk is full"):
        write(tmp_path / "letters")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_machine_pass_through(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        write(tmp_path / "file" / "letters")


def test_writing_atomically_replaces(tmp_path: Path) -> None:
    file = tmp_path / "new" / "note.txt"
    for text in ("old", "n\u00ebw"):
        write_atomically(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert names_in(file.parent) == ["note.txt"]


def test_a_small_file_that_cannot_be_written_leaves_nothing_hidden(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "report.json", "text")
    assert names_in(tmp_path) == ["report.json"]
