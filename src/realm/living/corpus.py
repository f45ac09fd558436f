"""How are documents added, replaced and removed while others search?

    RUN/living/edits.sqlite      every edit, durable when `put` and `remove` return
    RUN/living/segment-N/        what edits up to number N added, memory-mapped

An edit costs the embedding of its passages and a transaction, whatever the corpus holds. Questions
see views, which do not change. A search returns what an index built anew over the same documents
would; equal scores are ordered by passage id, and added passages have the higher ones. BM25 alone
keeps the word statistics of the base (words.py).
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from torch import Tensor

from realm.corpus.documents import Document
from realm.corpus.passages import DocumentCut
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.living.background import BackgroundMerger
from realm.living.documents import MemoryStore, checked, cut, to_bytes
from realm.living.embedded import Embedded
from realm.living.journal import Entry, Journal
from realm.living.latest import newest, read_state
from realm.living.listing import DocumentSummary, Listing
from realm.living.segment import (
    keep_segment_vectors,
    remove_segments_except,
    segment_name,
    write_segment,
)
from realm.living.state import Edit, State, UnknownDocument, passage_rows
from realm.living.view import View
from realm.openqa.answerer import Answerer
from realm.progress import Progress, no_progress
from realm.stages import Run

FOLDER = "living"
_DATABASE = "edits.sqlite"
_LOCK = "merge.lock"

Changes = list["_Change"]


@dataclass(frozen=True, slots=True)
class _Change:
    """What the database is told of an edit, and of the document that it added."""

    edit: Edit
    entry: Entry
    store: MemoryStore | None = None
    vectors: Tensor | None = None


class LivingCorpus:
    """The documents of a run and all that was edited in them since; safe to share by threads."""

    def __init__(
        self,
        folder: Path,
        base: PassageStore,
        load: Callable[[], Answerer],
        *,
        require_embedder: Callable[[], None] = lambda: None,
        progress: Progress = no_progress,
    ) -> None:
        """Open what is in a folder, or begin it; the model is loaded when it is first needed."""
        self._folder, self._base, self._progress = folder, base, progress
        self._load, self._require_embedder = load, require_embedder
        self._lock, self._loading = RLock(), RLock()
        self._embedded: Embedded | None = None
        self._view: View | None = None
        self._viewed: State | None = None
        self._taken_in = -1
        self._merger = BackgroundMerger(self.merge)
        self._listing = Listing(base)
        self._journal = Journal(folder / _DATABASE, base.fingerprint, len(base))
        with self._journal.one_moment():
            self._state = read_state(base, self._journal, folder)

    @classmethod
    def open(cls, run: Run, name: str = "") -> "LivingCorpus":
        """Open the living corpus of a run, with its furthest checkpoint or the named one.

        Raises:
            ArtifactError: the run has no corpus yet, or the edits are of another one.
            ResourceError: the folder cannot be written.
        """
        return cls(
            run.path / FOLDER,
            run.corpus(),
            lambda: run.searcher(name or run.newest_checkpoint()),
            require_embedder=lambda: run.require("passage embedder"),
            progress=run.progress,
        )

    @staticmethod
    def exists(run: Run) -> bool:
        """Whether documents of that run were ever edited."""
        return (run.path / FOLDER / _DATABASE).is_file()

    @property
    def version(self) -> str:
        """Fingerprint of the base corpus and number of the last edit."""
        return self._now().version

    @property
    def num_documents(self) -> int:
        """Documents that are there."""
        return self._now().num_documents

    @property
    def num_passages(self) -> int:
        """Passages that can be found."""
        return self._now().num_passages

    def put(self, documents: Sequence[Document]) -> list[Edit]:
        """Add documents, or replace those with the same ids: all of them, durably, or none.

        Raises:
            SourceError: an id is empty or given twice, or a document has no text.
            ArtifactError: the run has no passage embedder.
            ResourceError: the disk is full; nothing was changed.
        """
        documents = checked(documents)
        if not documents:
            return []
        self._require_embedder()
        cuts = cut(documents, self._base)
        vectors = self._model().embed(documents, cuts)
        known = self._base.document_row_by_id([d.document_id for d in documents])
        changes: Changes = []
        with self._editing(changes):
            for document, own, rows in zip(documents, cuts, vectors, strict=True):
                changes.append(self._put(document, own, rows, known))
        self._merger.merge_in_time(self._state)
        return [change.edit for change in changes]

    def remove(self, ids: Sequence[str]) -> list[Edit]:
        """Remove documents: all of them, durably, or none.

        Raises:
            UnknownDocument: there is no document with one of the ids, or one is given twice.
            ResourceError: the disk is full; nothing was changed.
        """
        known = self._base.document_row_by_id(ids)
        changes: Changes = []
        with self._editing(changes):
            for name in ids:
                if not self._has(name, known) or any(c.edit.id == name for c in changes):
                    raise UnknownDocument(name)
                changes.append(self._remove(name, known))
        return [change.edit for change in changes]

    def document(self, id: str) -> Document:
        """The document as it was put, or as the base has it.

        Raises:
            UnknownDocument: there is no document with that id.
        """
        return self._now().document(id)

    def summary(self, id: str) -> DocumentSummary:
        """What `list` says of one document.

        Raises:
            UnknownDocument: there is no document with that id.
        """
        return self._listing.summary(self._now(), id)

    def list(self, *, text: str = "", after: str = "", limit: int = 50) -> list[DocumentSummary]:
        """Documents in the order of their ids: the first ones after an id.

        With `text` those that hold it, in whichever case, in id, title or text.

        Raises:
            SourceError: the limit is below one.
        """
        if limit < 1:
            raise SourceError(f"a list of {limit} documents was asked for: ask for one at least")
        return self._listing.page(self._now(), text=text, after=after, limit=limit)

    def view(self) -> View:
        """The corpus as it is now, with the edits of other processes; it stays as it is.

        Waits for nobody: while an edit is being written, the view is the one before it.
        """
        self._model()  # loading it takes seconds, in which others may edit
        if self._lock.acquire(blocking=self._view is None):
            try:
                self._take_in()
                if self._viewed is not self._state:
                    self._adopt(self._state, is_shown=True)
            finally:
                self._lock.release()
        assert self._view is not None
        return self._view

    def merge(self) -> None:
        """Write all added documents into one segment, which takes the place of the one before.

        Questions and edits go on meanwhile. Where another process is merging, nothing is done.

        Raises:
            ResourceError: the disk is full; all edits are where they were.
        """
        with (self._folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._merge()

    def close(self, timeout: float | None = None) -> None:
        """Wait for a merge that is under way and let go of the files; views can still be read.

        A merge that takes longer than so many seconds is left alone, and ends with the process at
        the latest: no edit needs it.
        """
        if self._merger.wait(timeout):
            with self._lock:
                self._journal.close()

    @contextmanager
    def _editing(self, changes: Changes) -> Iterator[None]:
        """Make what the block writes durable, then let the next view know the changes."""
        with self._lock:
            with self._journal.transaction():
                self._state = newest(self._state, self._journal, self._folder)
                yield
            vectors = {c.entry.sequence: c.vectors for c in changes if c.vectors is not None}
            if vectors:
                self._model().learn(vectors)
            self._adopt(self._state.with_edits([(c.entry, c.store) for c in changes]))

    def _put(
        self, document: Document, own: DocumentCut, vectors: Tensor, known: dict[str, int]
    ) -> _Change:
        name, size, facts = document.document_id, len(own.passages), self._journal.facts()
        sequence, first = facts.sequence + 1, facts.next_passage_id
        entry = Entry(name, sequence, known.get(name), document.title, size, first, None)
        self._journal.write(entry, document.text, to_bytes(own))
        self._model().keep(self._journal, {sequence: vectors})
        edit = Edit(name, "replaced" if self._has(name, known) else "added", size)
        store = MemoryStore([document], [own], first, self._base)
        return _Change(edit, entry, store, vectors)

    def _remove(self, name: str, known: dict[str, int]) -> _Change:
        old = self._state.entry(name)
        size = old.num_passages if old else len(passage_rows(self._base, [known[name]]))
        number = self._journal.facts().sequence + 1
        entry = Entry(name, number, known.get(name), None, 0, 0, None)
        self._journal.write(entry)
        return _Change(Edit(name, "removed", size), entry)

    def _has(self, name: str, known: dict[str, int]) -> bool:
        entry = self._state.entry(name)
        return not entry.is_removed if entry else name in known

    def _now(self) -> State:
        if self._lock.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._lock.release()
        return self._state

    def _take_in(self) -> None:
        """Learn what other processes edited."""
        version = self._journal.version
        if version == self._taken_in:
            return
        with self._journal.one_moment():
            state = newest(self._state, self._journal, self._folder)
        self._adopt(state)
        self._taken_in = version  # not before: what failed is tried again

    def _adopt(self, state: State, *, is_shown: bool = False) -> None:
        """Take over a state and make its view now, so that `view` need not wait for it."""
        self._state = state
        if is_shown or self._view is not None:
            self._view, self._viewed = self._model().view(state, self._journal), state

    def _model(self) -> Embedded:
        with self._loading:
            if self._embedded is None:
                self._embedded = Embedded(
                    self._load(), self._folder, self._require_embedder, self._progress
                )
            return self._embedded

    def _merge(self) -> None:
        embedded = self._model()
        with self._lock:
            self._take_in()
            state = self._state
            vectors = embedded.vectors(state, self._journal)
        if not state.recent and not len(state.hidden_in_segment):
            return
        placed = state.placed()
        name = segment_name(state.sequence) if placed else ""
        if placed:
            path = self._folder / name
            store = write_segment(path, [place for _, place in placed], self._base)
            keep_segment_vectors(path, vectors, store, embedded.answerer.snapshot)
        with self._lock:
            with self._journal.transaction():
                self._journal.settle(name, [entry.sequence for entry, _ in placed])
                merged = read_state(self._base, self._journal, self._folder)
            self._adopt(merged)
        # Another process may be about to open the one before.
        remove_segments_except(self._folder, {name, state.segment_name})
