"""How is a corpus built, so that a killed build goes on and a finished one is whole?"""

import errno
import fcntl
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from realm.artifact import checksum_of, create_artifact, fingerprint_of
from realm.corpus.columns import SCHEMAS, Batch, CorpusWriter, open_numbers
from realm.corpus.cutting import cut_in_order
from realm.corpus.documents import fingerprint_sources, read_pages
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import KIND, TOKENIZER, PassageStore
from realm.corpus.tokenizer import load_tokenizer
from realm.errors import ResourceError, SourceError

COMMIT_SECONDS = 5.0


def build_corpus(
    sources: Sequence[str | Path],
    path: Path,
    *,
    tokenizer_file: Path,
    settings: CorpusSettings,
    min_passages: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> PassageStore:
    """Read, cut and store all documents; `on_progress` gets numbers of documents and passages.

    A build that was killed goes on after its last commit when it is started again with the same
    sources, tokenizer and settings.

    Raises:
        SourceError: a source cannot be read, or all of them give fewer than `min_passages`.
        SettingError: the tokenizer file is no tokenizer.
        ResourceError: the disk is full, memory ran out, or another process builds this corpus.
    """
    vocabulary_size = load_tokenizer(tokenizer_file).get_vocab_size()
    inputs = {**fingerprint_sources(sources), "tokenizer": checksum_of(tokenizer_file)}
    kept = settings.model_dump(exclude={"num_workers"})  # they do not change the result
    with _unfinished_directory(path) as directory:
        key = fingerprint_of([kept, inputs, *map(str, SCHEMAS.values())])
        with CorpusWriter(directory, key, vocabulary_size=vocabulary_size) as writer:
            pages = islice(read_pages(sources), writer.num_documents, None)
            _write(writer, cut_in_order(pages, tokenizer_file, settings), on_progress)
            if writer.num_passages < min_passages:
                raise SourceError(
                    f"passages of all sources: {writer.num_passages}, needed are at least "
                    f"{min_passages}: add documents with text"
                )
            with create_artifact(path, KIND, settings=kept, inputs=inputs) as staging:
                writer.finish(staging.path)
                shutil.copyfile(tokenizer_file, staging.path / TOKENIZER)
                staging.counts = counts_of(staging.path)
    return PassageStore.open(path)


def _write(
    writer: CorpusWriter, batches: Iterable[Batch], on_progress: Callable[[int, int], None] | None
) -> None:
    last_commit = time.monotonic()
    for batch in batches:
        writer.append(batch)
        if time.monotonic() - last_commit > COMMIT_SECONDS:
            writer.commit()
            last_commit = time.monotonic()
        if on_progress is not None:
            on_progress(writer.num_documents, writer.num_passages)


def counts_of(directory: Path) -> dict[str, int | float]:
    """What the manifest of a corpus says of its size."""
    num_documents = len(open_numbers(directory, "title_token_offsets")) - 1
    document_rows = open_numbers(directory, "document_rows")
    return {
        "num_documents": num_documents,
        "num_documents_without_text": num_documents - len(np.unique(document_rows)),
        "num_passages": len(document_rows),
        "num_tokens": len(open_numbers(directory, "token_ids")),
    }


@contextmanager
def _unfinished_directory(path: Path) -> Iterator[Path]:
    """The directory beside `path` where a build can go on; it is gone when the block succeeds."""
    directory = path.with_name(f".{path.name}.unfinished")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot write at {path} ({error}): give another path") from error
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another process is building {path}: wait for it or give another path"
            raise ResourceError(message) from error
        try:
            yield directory
        except OSError as error:
            if error.errno == errno.ENOSPC:
                message = f"the disk is full while writing {path}: free some space and start again"
                raise ResourceError(message) from error
            raise
        except SourceError:
            shutil.rmtree(directory)  # once the source is mended, nothing here can be used
            raise
        shutil.rmtree(directory)
