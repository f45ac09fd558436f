"""What can be read as documents, and in which order do they come?

A source is a folder, a file or `hub:NAME`. Documents are read as a stream, in the order of the
sources, the files of a folder in the order of their paths.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import zstandard

from realm.artifact import checksum_of
from realm.corpus import annotated, block_records, files, office, tables, wikipedia, wikitext
from realm.corpus.compressed import COMPRESSIONS, open_compressed
from realm.errors import SourceError

HUB = "hub:"
_FILE_READERS = {
    ".txt": files.read_text,
    ".md": files.read_markdown,
    ".markdown": files.read_markdown,
    ".html": files.read_html,
    ".htm": files.read_html,
    **dict.fromkeys(office.OFFICE_SUFFIXES, office.read_office),
}
_STREAM_SUFFIXES = (".jsonl", ".csv", ".tsv", ".xml")
RECORDS = ".tfrecord"
_RECIPE, _OF_A_RUN = "recipe.json", b'"warm_start"'
# Sets of files number their parts, before or after the suffix: x.tfrecord-00000-of-00512.
_RECORD_FILE = re.compile(r"\.tfrecords?(?:-\d+-of-\d+)?(\.gz)?$")
KNOWN_SUFFIXES = (*_FILE_READERS, *_STREAM_SUFFIXES, ".parquet", RECORDS)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of the user; all offsets count characters of `text`."""

    document_id: str
    title: str
    text: str
    spans: tuple[annotated.GivenSpan, ...] | None = None
    """The salient spans, where the source itself names them."""
    sentence_starts: tuple[int, ...] = ()
    """Where the sentences begin, where the source itself says so."""


Page = Document | wikipedia.Article
"""A document, or an article whose markup is still to be removed."""


def read_documents(sources: Sequence[str | Path], below: Sequence[Path] = ()) -> Iterator[Document]:
    """Stream the documents of all sources; a file in a folder of `below` has its id from there.

    Raises:
        SourceError: a source is missing, empty, of an unknown kind or damaged, or an id
            occurs twice.
        ResourceError: a source needs a package that is not installed.
    """
    return map(to_document, read_pages(sources, below))


def read_pages(sources: Sequence[str | Path], below: Sequence[Path] = ()) -> Iterator[Page]:
    """As `read_documents`, but leave the removal of wiki markup, which is slow, to the caller."""
    if not sources:
        raise SourceError("no sources are given: name at least one folder or file of documents")
    seen: set[str] = set()
    for source in sources:
        num_before = len(seen)
        for page, name in _read_source(source, below):
            if name in seen:
                raise SourceError(
                    f"{source}: the document id {_id_of(page)!r} occurs twice: "
                    "give every document an id of its own"
                )
            if name:
                seen.add(name)
            yield page
        if len(seen) == num_before:
            raise SourceError(f"{source} holds no documents: give a source that has some")


def to_document(page: Page) -> Document:
    """Remove what markup there is."""
    if isinstance(page, wikipedia.Article):
        return Document(page.page_id, page.title, wikitext.plain_text(page.wikitext))
    return page


def fingerprint_sources(sources: Sequence[str | Path]) -> dict[str, str]:
    """A checksum of each source's content; of a data set on the hub, its name.

    Raises:
        SourceError: a source is missing, empty or of an unknown kind.
    """
    fingerprints = {}
    for number, source in enumerate(sources):
        name = str(source)
        checksum = hashlib.sha256()
        if name.startswith(HUB):
            checksum.update(name.encode())
        else:
            name = Path(source).resolve().name
            for document_id, file in source_files(Path(source)):
                checksum.update(document_id.encode("utf-8", "surrogateescape"))
                checksum.update(_checksum(file))
        fingerprints[f"source {number}: {name}"] = checksum.hexdigest()
    return fingerprints


def _checksum(file: Path) -> bytes:
    try:
        return bytes.fromhex(checksum_of(file))
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({error}): repair or replace it") from error


def _read_source(source: str | Path, below: Sequence[Path] = ()) -> Iterator[tuple[Page, str]]:
    """The documents of a source, each with the name that may not occur twice, if any."""
    if str(source).startswith(HUB):
        yield from _named((_document(*row) for row in tables.read_hub(str(source))), None)
        return
    for document_id, path in source_files(Path(source), below):
        try:
            yield from _named(_read_file(path, document_id), _counted_from(path, document_id))
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise SourceError(f"{path} cannot be read ({error}): repair or replace it") from error
        except ElementTree.ParseError as error:
            raise SourceError(f"{path} is not a complete MediaWiki dump ({error})") from error


def _counted_from(path: Path, document_id: str) -> str | None:
    """What ids begin with in a file that names its documents by their place."""
    if _is_block_records(path):
        return f"{document_id}:"
    return f"{document_id}#" if kind_of(path)[0] == RECORDS else None


def _named(pages: Iterator[Page], counted_from: str | None) -> Iterator[tuple[Page, str]]:
    """Each page with its id; ids that count places have one name, which the first of them gets.

    Such ids cannot be equal inside a file, and 13 million of them are not kept to be compared.
    """
    is_first = True
    for page in pages:
        name = _id_of(page)
        if counted_from is not None and name.startswith(counted_from):
            name, is_first = counted_from if is_first else "", False
        yield page, name


def _id_of(page: Page) -> str:
    return page.page_id if isinstance(page, wikipedia.Article) else page.document_id


def _is_block_records(source: str | Path) -> bool:
    return Path(source).suffix == block_records.SUFFIX and Path(source).is_file()


def _read_block_records(path: Path) -> Iterator[Document]:
    """Texts without titles; they were cut before, so each of them is a document of its own."""
    for number, text in enumerate(block_records.read_block_records(path)):
        yield _document(f"{path.name}:{number}", "", text)


def source_files(path: Path, below: Sequence[Path] = ()) -> list[tuple[str, Path]]:
    """The files at a path that are read, each with its id as a document, in their order.

    Raises:
        SourceError: there is nothing there, or nothing of a known kind.
    """
    if path.is_file():
        if kind_of(path)[0] not in KNOWN_SUFFIXES and not _is_block_records(path):
            known = " ".join(KNOWN_SUFFIXES)
            raise SourceError(
                f"{path} is of an unknown kind: known are {known}, some also compressed"
            )
        return [(_id_below(path, below) or path.name, path)]
    if not path.is_dir():
        raise SourceError(f"there is no file or folder {path}: check the path")
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not _is_passed_by(Path(folder, name))]
        visible = [Path(folder, name) for name in names if not name.startswith(".")]
        found.extend(f for f in visible if kind_of(f)[0] in KNOWN_SUFFIXES and f.is_file())
    if not found:
        raise SourceError(f"{path} holds no documents: known files are {' '.join(KNOWN_SUFFIXES)}")
    return sorted(
        (_id_below(file, below) or file.relative_to(path).as_posix(), file) for file in found
    )


def _id_below(path: Path, folders: Sequence[Path]) -> str:
    """What a file of one of the folders is called there; empty for one from elsewhere."""
    # A link is a document of its own, at its place: only what it lies in is followed.
    path = path.parent.resolve() / path.name
    for folder in (folder.resolve() for folder in folders if folder.is_dir()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return ""


def _is_passed_by(folder: Path) -> bool:
    """Whether a folder is hidden, or a run: its files are no documents. Cooks have recipes too."""
    if folder.name.startswith("."):
        return True
    recipe = folder / _RECIPE
    return recipe.is_file() and _OF_A_RUN in recipe.read_bytes()


def count_documents(path: Path) -> int | None:
    """How many documents a file says that it holds; None where it does not say.

    Raises:
        SourceError: it is damaged.
        OSError: it cannot be read.
    """
    if _is_block_records(path):
        return block_records.count_block_records(path)
    return tables.count_parquet_rows(path) if kind_of(path)[0] == ".parquet" else None


def kind_of(path: Path) -> tuple[str, str]:
    """The suffix that tells the kind of a file, and that of its compression or nothing."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        for suffix in _STREAM_SUFFIXES:
            if name.endswith(suffix + compression):
                return suffix, compression
    if records := _RECORD_FILE.search(name):
        return RECORDS, records[1] or ""
    return path.suffix.lower(), ""


def _read_file(path: Path, document_id: str) -> Iterator[Page]:
    suffix, compression = kind_of(path)
    if suffix in _FILE_READERS:
        yield _document(document_id, *_FILE_READERS[suffix](path))
        return
    if suffix == block_records.SUFFIX:
        yield from _read_block_records(path)
        return
    if suffix == ".parquet":
        yield from (_document(*row) for row in tables.read_parquet(path))
        return
    with open_compressed(path, compression) as stream:
        if suffix == ".xml":
            yield from wikipedia.read_articles(stream)
        elif suffix == ".jsonl":
            yield from (_document(*row) for row in tables.read_json_lines(stream, str(path)))
        elif suffix == RECORDS:
            annotated_rows = annotated.read_annotated(stream, str(path), document_id)
            yield from (Document(*row) for row in annotated_rows)
        else:
            delimiter = "\t" if suffix == ".tsv" else ","
            rows = tables.read_csv(stream, str(path), delimiter=delimiter)
            yield from (_document(*row) for row in rows)


def replace_surrogates(text: str) -> str:
    """Half of a surrogate pair, which JSON can spell, is no character that could be stored.

    One character takes its place, so that offsets stay.
    """
    return _SURROGATE.sub("\ufffd", text)


def _document(document_id: str, title: str, text: str) -> Document:
    document_id, title, text = map(replace_surrogates, (document_id, title, text))
    return Document(document_id, title, text)
