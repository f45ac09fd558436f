"""How do all cores cut passages while the documents keep their order?

Batches of documents go to worker processes and come back in order. Only a few are on their way
at once, so memory does not grow with the corpus, and the result does not depend on the number
of workers.
"""

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from tokenizers import Tokenizer

from realm.corpus.columns import Batch, make_batch
from realm.corpus.documents import Page, to_document
from realm.corpus.passages import CorpusSettings, cut_documents
from realm.corpus.tokenizer import load_tokenizer
from realm.corpus.wikipedia import Article
from realm.errors import ResourceError

BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 500_000
# A worker needs about a second to start: less text than this is cut here in the meantime.
NUM_BATCHES_WITHOUT_WORKERS = 4


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
    except (EOFError, ConnectionError) as error:
        raise ResourceError(
            "a process that cuts passages ended early, most often for lack of memory: "
            "set corpus.num_workers to a smaller number and start again"
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
    """Deal the batches out in turn, so that the results are collected in the same turn.

    Each worker has a connection of its own. A pool of the standard library shares one among its
    workers, and waits for ever when a worker is killed while it writes a result (Python 3.11).
    """
    context = multiprocessing.get_context("spawn")
    connections: list[Connection] = []
    processes: list[SpawnProcess] = []
    waiting: deque[Connection] = deque()
    try:
        for _ in range(num_workers):
            connection, other_end = context.Pipe()
            process = context.Process(target=_work, args=(other_end, tokenizer_file, settings))
            connections.append(connection)
            processes.append(process)
            process.start()
            other_end.close()  # now only the worker holds it: its death ends the connection
        for number, batch in enumerate(batches):
            waiting.append(connections[number % num_workers])
            waiting[-1].send(batch)
            if len(waiting) == 2 * num_workers:
                yield _receive(waiting.popleft())
        while waiting:
            yield _receive(waiting.popleft())
    finally:
        for connection in connections:
            connection.close()  # the workers end themselves
        for process in processes:
            if process.pid is not None:
                process.join()


def _receive(connection: Connection) -> Batch:
    result: Batch | Exception = connection.recv()
    if isinstance(result, Exception):
        raise result
    return result


def _work(connection: Connection, tokenizer_file: Path, settings: CorpusSettings) -> None:
    """What a worker process does until its connection ends."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes use the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    received: SimpleQueue[list[Page]] = SimpleQueue()
    Thread(target=_receive_all, args=(connection, received), daemon=True).start()
    tokenizer = load_tokenizer(tokenizer_file)
    while True:
        result: Batch | Exception
        try:
            result = _cut_batch(received.get(), tokenizer, settings)
        except Exception as error:  # noqa: BLE001 - the parent raises it
            error.add_note(traceback.format_exc())
            result = error
        with suppress(OSError):  # the parent is gone; the other thread ends the process
            connection.send(result)


def _receive_all(connection: Connection, received: "SimpleQueue[list[Page]]") -> None:
    """Take what the parent sends at any time, so that both never wait for each other to read.

    When the parent has finished or was killed, the process ends whatever it is doing.
    """
    with suppress(EOFError, OSError):
        while True:
            received.put(connection.recv())
    os._exit(0)


def _cut_batch(pages: list[Page], tokenizer: Tokenizer, settings: CorpusSettings) -> Batch:
    documents = list(map(to_document, pages))
    return make_batch(documents, cut_documents(documents, tokenizer, settings))
