"""How do stages hand results to each other without ever showing half of one?

An artifact is a directory with a manifest. It is written in a staging directory beside its
final place, its files are synced and checksummed, and one rename makes it appear whole. A
reader takes settings from the manifest, never from flags. Opening compares sizes only;
`verify` compares checksums (rule 12 of the design: opening is cheap).
"""

import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realm.errors import ArtifactError, ResourceError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What an artifact is, what it was made from and what it holds."""

    kind: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    counts: dict[str, int | float]
    files: dict[str, dict[str, Any]]
    fingerprint: str


@dataclass
class Staging:
    """A directory that is being filled; `counts` may be set until the block ends."""

    path: Path
    counts: dict[str, int | float] = field(default_factory=dict)


@contextmanager
def create_artifact(
    path: Path, kind: str, *, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> Iterator[Staging]:
    """Fill a staging directory inside the block; it becomes `path` when the block succeeds.

    An artifact that stood at `path` is replaced; one of the same kind, settings and inputs that
    another writer finished meanwhile stays. A block that fails leaves nothing behind.

    Raises:
        ArtifactError: another writer put something else there meanwhile.
        ResourceError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Staging(_hidden(path, "staging"))
    _sweep(path)
    try:
        staging.path.mkdir()
        stood_before = path.exists()
        yield staging
        _write_manifest(staging, kind, dict(settings), dict(inputs))
        # A directory cannot replace a full one in a single step: the old one steps aside first. A
        # crash between the two leaves no artifact at `path`, never half of one.
        aside = _set_aside(path) if stood_before else None
        _appear(staging.path, path)
        if aside is not None:
            _delete(aside)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = f"the disk is full while writing {path}: free some space and start again"
            raise ResourceError(message) from error
        raise
    finally:
        shutil.rmtree(staging.path, ignore_errors=True)


def open_artifact(path: Path, kind: str) -> Manifest:
    """Read the manifest of a finished artifact and compare the sizes of its files.

    Raises:
        ArtifactError: nothing there, another kind or format version, or a file was cut short.
    """
    manifest = read_manifest(path)
    if manifest.kind != kind:
        raise ArtifactError(f"{path} holds a {manifest.kind}, not a {kind}: give another path")
    for name, facts in manifest.files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            raise ArtifactError(
                f"{file} is missing or cut short: delete {path} and run its stage again"
            )
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Read what an artifact says of itself, without looking at its files."""
    file = path / MANIFEST
    if not file.is_file():
        raise ArtifactError(
            f"there is no finished artifact at {path}: run the stage that makes it first"
        )
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        version = facts.pop("format_version")
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format version {version}, this program reads {FORMAT_VERSION}: "
                "delete it and run its stage again"
            )
        manifest = Manifest(**facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file} is damaged: delete {path} and run its stage again") from error
    if manifest.fingerprint != _fingerprint(facts):
        raise ArtifactError(f"{file} was altered: delete {path} and run its stage again")
    return manifest


def is_finished(path: Path) -> bool:
    """Whether an artifact was completed at `path`."""
    return (path / MANIFEST).is_file()


def verify(path: Path) -> int:
    """Compare every file with its checksum and return how many were compared."""
    manifest = read_manifest(path)
    for name, facts in manifest.files.items():
        file = path / name
        if not file.is_file() or checksum_of(file) != facts["sha256"]:
            raise ArtifactError(
                f"{file} differs from its checksum: delete {path} and run its stage again"
            )
    return len(manifest.files)


def remove_artifact(path: Path) -> None:
    """Let an artifact vanish at once for all who look, then free its space."""
    _delete(_set_aside(path))


def _set_aside(path: Path) -> Path:
    aside = _hidden(path, "old")
    with suppress(FileNotFoundError):  # somebody else removed it
        path.rename(aside)
    return aside


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old or the new text, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _hidden(path, "staging")
    try:
        with staging.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)  # a full disk, or a folder where the file should be
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make sure that what was made or renamed in a directory is found there after a crash."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def let_others_read(folder: Path) -> None:
    """Give the files in a folder the rights that the folder has: safetensors are made private."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def fingerprint_of(value: object) -> str:
    """A short name for any JSON value: equal values have equal fingerprints."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def checksum_of(file: Path) -> str:
    """The SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_manifest(
    staging: Staging, kind: str, settings: dict[str, Any], inputs: dict[str, str]
) -> None:
    files = {}
    let_others_read(staging.path)
    for file in sorted(p for p in staging.path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        name = file.relative_to(staging.path).as_posix()
        files[name] = {"bytes": file.stat().st_size, "sha256": checksum_of(file)}
    facts: dict[str, Any] = {
        "kind": kind,
        "settings": json.loads(json.dumps(settings, default=str)),
        "inputs": inputs,
        "counts": staging.counts,
        "files": files,
    }
    facts["fingerprint"] = _fingerprint(facts)
    text = json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=1, ensure_ascii=False)
    write_atomically(staging.path / MANIFEST, text + "\n")


def _fingerprint(facts: Mapping[str, Any]) -> str:
    return fingerprint_of({name: value for name, value in facts.items() if name != "fingerprint"})


def _appear(staging: Path, path: Path) -> None:
    try:
        staging.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        ours, theirs = read_manifest(staging), read_manifest(path)
        if any(getattr(ours, n) != getattr(theirs, n) for n in ("kind", "settings", "inputs")):
            message = f"{path} was made meanwhile from something else: let one process write there"
            raise ArtifactError(message) from error
    sync_directory(path.parent)


def _hidden(path: Path, purpose: str) -> Path:
    """A name beside `path` that tells which process, of which machine, uses it."""
    return path.with_name(f".{path.name}.{purpose}-{socket.gethostname()}-{os.getpid()}")


def _sweep(path: Path) -> None:
    """Remove what crashed writers of this machine left beside this artifact.

    Machines that share a file system cannot see whether each other's processes are alive.
    """
    host = socket.gethostname()
    for leftover in path.parent.glob(".*-*"):
        name, _, writer = leftover.name.rpartition("-")
        if not name.endswith((f".staging-{host}", f".old-{host}")) or not writer.isdigit():
            continue
        # Our own number on our own name is that of an earlier process that had it too.
        is_ours = leftover in (_hidden(path, "staging"), _hidden(path, "old"))
        if is_ours or not _is_alive(int(writer)):
            _delete(leftover)


def _delete(leftover: Path) -> None:
    if leftover.is_dir():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
