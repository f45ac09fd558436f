"""What was edited, and how does it outlive a crash?

One SQLite database is the only truth of edits. Its log is synced before a transaction ends, so
what was acknowledged is on disk, and what was not has left nothing behind. Every edit of a
document has a sequence number of its own; the last edit of a document is the one that counts.
Several processes may write: each transaction is the only one of its moment.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from realm.artifact import sync_directory
from realm.errors import ArtifactError, ResourceError

FORMAT_VERSION = 1
_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    format_version INTEGER, corpus TEXT, sequence INTEGER, next_passage_id INTEGER, segment TEXT
);
CREATE TABLE IF NOT EXISTS documents (
    document_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL UNIQUE,
    base_row INTEGER,
    title TEXT,
    num_passages INTEGER NOT NULL,
    first_passage_id INTEGER NOT NULL,
    segment_row INTEGER,
    text TEXT,
    cut BLOB
);
CREATE TABLE IF NOT EXISTS vectors (
    sequence INTEGER NOT NULL, checkpoint TEXT NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (sequence, checkpoint)
);
"""
_ENTRY = "document_id, sequence, base_row, title, num_passages, first_passage_id, segment_row"


@dataclass(frozen=True, slots=True)
class Entry:
    """The last word on a document that was edited."""

    document_id: str
    sequence: int
    base_row: int | None
    """The document row of the base corpus that this edit hides, if it has the document too."""
    title: str | None
    """None where the document was removed."""
    num_passages: int
    first_passage_id: int
    """The passages of a document have consecutive ids."""
    segment_row: int | None
    """The document row of the segment that holds the text; until it does, the database has it."""

    @property
    def is_removed(self) -> bool:
        """Whether the edit took the document away."""
        return self.title is None

    @property
    def is_recent(self) -> bool:
        """Whether no segment holds the document yet."""
        return self.title is not None and self.segment_row is None


@dataclass(frozen=True, slots=True)
class Facts:
    """The fingerprint of the base corpus, the counters, and the name of the segment, if any."""

    corpus: str
    sequence: int
    next_passage_id: int
    segment: str


class Journal:
    """The database of one run; its callers see to it that one thread uses it at a time."""

    def __init__(self, file: Path, corpus: str, num_passages: int) -> None:
        """Open or begin the edits of a base corpus with that fingerprint and so many passages.

        Raises:
            ArtifactError: the file is damaged, or holds edits of another corpus.
            ResourceError: the file cannot be written.
        """
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            sync_directory(file.parent.parent)
        except OSError as error:
            raise ResourceError(f"cannot write at {file.parent} ({error}): mend this") from error
        with self._plainly():
            self._connection = sqlite3.connect(
                file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            self._begin(corpus, num_passages)
            self._check(corpus)
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> int:
        """A number that is another one when another process wrote meanwhile."""
        with self._plainly():
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def facts(self) -> Facts:
        """The counters and the name of the segment."""
        with self._plainly():
            columns = "corpus, sequence, next_passage_id, segment"
            return Facts(*self._connection.execute(f"SELECT {columns} FROM facts").fetchone())

    def entries(self, after: int = 0) -> list[Entry]:
        """What was edited after that sequence number, in the order of the edits."""
        query = f"SELECT {_ENTRY} FROM documents WHERE sequence > ? ORDER BY sequence"
        with self._plainly():
            return [Entry(*row) for row in self._connection.execute(query, (after,))]

    def content(self, sequence: int) -> tuple[str, bytes]:
        """The text of a recent document and its passages as they were cut."""
        query = "SELECT text, cut FROM documents WHERE sequence = ?"
        with self._plainly():
            text, cut = self._connection.execute(query, (sequence,)).fetchone()
        return text, cut

    def vectors(self, checkpoint: str) -> dict[int, bytes]:
        """The embeddings of recent documents by one embedder, by sequence number."""
        query = "SELECT sequence, vectors FROM vectors WHERE checkpoint = ?"
        with self._plainly():
            return dict(self._connection.execute(query, (checkpoint,)).fetchall())

    def transaction(self) -> AbstractContextManager[None]:
        """All that is written in the block becomes durable at its end, or nothing does.

        Raises:
            ResourceError: the disk is full, or another process kept the database for a minute.
        """
        return self._block("BEGIN IMMEDIATE")

    def one_moment(self) -> AbstractContextManager[None]:
        """All that is read in the block is of the same moment, whatever others write meanwhile."""
        return self._block("BEGIN")

    @contextmanager
    def _block(self, begin: str) -> Iterator[None]:
        with self._plainly():
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends it by itself
                    self._connection.execute("ROLLBACK")
                raise

    def write(self, entry: Entry, text: str | None = None, cut: bytes | None = None) -> None:
        """Put the last word on a document in the place of what was said of it before."""
        execute = self._connection.execute
        execute(
            "DELETE FROM vectors WHERE sequence IN "
            "(SELECT sequence FROM documents WHERE document_id = ?)",
            (entry.document_id,),
        )
        row = (*astuple(entry), text, cut)
        execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        execute("UPDATE facts SET sequence = ?", (entry.sequence,))
        following = entry.first_passage_id + entry.num_passages
        execute("UPDATE facts SET next_passage_id = max(next_passage_id, ?)", (following,))

    def write_vectors(self, checkpoint: str, vectors: Mapping[int, bytes]) -> None:
        """Keep the embeddings of recent documents by one embedder."""
        rows = [(sequence, checkpoint, blob) for sequence, blob in vectors.items()]
        self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def settle(self, segment: str, sequences: Sequence[int]) -> None:
        """Name the segment that now holds these edits, in its order, and drop their content.

        Documents that were edited meanwhile have other sequence numbers and stay as they are.
        """
        execute = self._connection.execute
        execute("UPDATE facts SET segment = ?", (segment,))
        self._connection.executemany(
            "UPDATE documents SET segment_row = ?, text = NULL, cut = NULL WHERE sequence = ?",
            enumerate(sequences),
        )
        execute(
            "DELETE FROM vectors WHERE sequence IN "
            "(SELECT sequence FROM documents WHERE segment_row IS NOT NULL)"
        )
        # Nothing is left to be hidden of these.
        execute("DELETE FROM documents WHERE title IS NULL AND base_row IS NULL")

    def close(self) -> None:
        """Let go of the file; nothing is waiting to be written."""
        self._connection.close()

    def _begin(self, corpus: str, num_passages: int) -> None:
        with self._plainly():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self.transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._connection.execute(statement)
            if not self._connection.execute("SELECT 1 FROM facts").fetchone():
                facts = (FORMAT_VERSION, corpus, 0, num_passages, "")
                self._connection.execute("INSERT INTO facts VALUES (?, ?, ?, ?, ?)", facts)

    def _check(self, corpus: str) -> None:
        with self._plainly():
            version = self._connection.execute("SELECT format_version FROM facts").fetchone()[0]
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{self.file} has format version {version}, this program reads {FORMAT_VERSION}: "
                "use the program that wrote it"
            )
        if self.facts().corpus != corpus:
            raise ArtifactError(
                f"{self.file} holds edits of another corpus than the run has now: put that corpus "
                f"back, or move {self.file.parent} away and add the documents again"
            )

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ResourceError(
                f"{self.file} cannot be used ({error}): nothing was changed; free some space or "
                "mend this, and try again"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"{self.file} is damaged ({error}): bring a copy of it back, or move it away and "
                "add the documents again"
            ) from error
