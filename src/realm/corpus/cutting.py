"""How do all cores cut passages while the documents keep their order?

Batches of documents go to worker processes and come back in order. Only a few are on their way
at once, so memory does not grow with the corpus, and the result does not depend on the number
of workers.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from pathlib import Path

from tokenizers import Tokenizer

from realm.corpus.columns import Batch, make_batch
from realm.corpus.documents import Page, to_document
from realm.corpus.passages import CorpusSettings, cut_documents
from realm.corpus.wikipedia import Article
from realm.errors import ResourceError, SettingError

BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 500_000
# A worker needs about a second to start: less text than this is cut here in the meantime.
NUM_BATCHES_WITHOUT_WORKERS = 4


def load_tokenizer(file: Path) -> Tokenizer:
    """Read a `tokenizer.json` so that it neither truncates nor pads.

    Raises:
        SettingError: there is no such file, or it is no tokenizer.
    """
    if not file.is_file():
        raise SettingError(f"there is no tokenizer file {file}: give the path of a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more exact
        raise SettingError(f"{file} is no tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def cut_in_order(
    pages: Iterable[Page], tokenizer_file: Path, settings: CorpusSettings
) -> Iterator[Batch]:
    """Cut a stream of documents into batches of columns, in the order of the documents.

    Raises:
        ResourceError: a worker process was killed.
    """
    batches = _batches(pages)
    first = list(islice(batches, NUM_BATCHES_WITHOUT_WORKERS + 1))
    num_workers = settings.num_workers or os.cpu_count() or 1
    if num_workers == 1 or len(first) <= NUM_BATCHES_WITHOUT_WORKERS:
        tokenizer = load_tokenizer(tokenizer_file)
        for batch in chain(first, batches):
            yield _cut_batch(batch, tokenizer, settings)
        return
    try:
        yield from _cut_in_processes(chain(first, batches), tokenizer_file, settings, num_workers)
    except BrokenProcessPool as error:
        raise ResourceError(
            "a process that cuts passages was killed, most often for lack of memory: "
            "set num_workers to a smaller number and start again"
        ) from error


def _batches(pages: Iterable[Page]) -> Iterator[list[Page]]:
    batch: list[Page] = []
    num_characters = 0
    for page in pages:
        batch.append(page)
        num_characters += len(page.wikitext if isinstance(page, Article) else page.text)
        if len(batch) == BATCH_DOCUMENTS or num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _cut_in_processes(
    batches: Iterable[list[Page]],
    tokenizer_file: Path,
    settings: CorpusSettings,
    num_workers: int,
) -> Iterator[Batch]:
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer_file, settings),
    )
    waiting: deque[Future[Batch]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(_cut_in_worker, batch))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_cutter: tuple[Tokenizer, CorpusSettings] | None = None  # what a worker process was started with


def _start_worker(tokenizer_file: Path, settings: CorpusSettings) -> None:
    global _cutter
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    _cutter = load_tokenizer(tokenizer_file), settings
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End a worker whose parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _cut_in_worker(pages: list[Page]) -> Batch:
    if _cutter is None:
        raise RuntimeError("the worker was not started")
    return _cut_batch(pages, *_cutter)


def _cut_batch(pages: list[Page], tokenizer: Tokenizer, settings: CorpusSettings) -> Batch:
    documents = list(map(to_document, pages))
    return make_batch(documents, cut_documents(documents, tokenizer, settings))
