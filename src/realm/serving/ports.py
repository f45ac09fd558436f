"""What does the service ask of the corpus that it serves?

Exactly this much, so that any corpus can be served and tests can hold one in memory.
"""

from collections.abc import Sequence
from typing import Protocol

from realm.corpus.documents import Document
from realm.openqa.answerer import Answerer


class Edit(Protocol):
    """What became of one document; `action` is added, replaced or removed."""

    @property
    def id(self) -> str:
        """The document's id."""

    @property
    def action(self) -> str:
        """What was done."""

    @property
    def num_passages(self) -> int:
        """Passages that came or went."""


class DocumentSummary(Protocol):
    """A document in a list; `origin` is base or edited."""

    @property
    def id(self) -> str:
        """The document's id."""

    @property
    def title(self) -> str:
        """The document's title; may be empty."""

    @property
    def num_passages(self) -> int:
        """Passages that it was cut into."""

    @property
    def origin(self) -> str:
        """Where it came from."""


class View(Protocol):
    """The corpus of one moment, unmoved by edits."""

    @property
    def version(self) -> str:
        """As the corpus's at that moment."""

    @property
    def answerer(self) -> Answerer:
        """Answers from the documents of that moment."""


class Corpus(Protocol):
    """Documents that come and go while others ask."""

    @property
    def version(self) -> str:
        """The base's fingerprint and the sequence number of the last edit."""

    @property
    def num_documents(self) -> int:
        """Documents now."""

    @property
    def num_passages(self) -> int:
        """Passages now."""

    def put(self, documents: Sequence[Document]) -> Sequence[Edit]:
        """Add or replace them, all or none; durable on return."""

    def remove(self, ids: Sequence[str]) -> Sequence[Edit]:
        """Remove them, all or none; SourceError for an unknown id."""

    def document(self, id: str) -> Document:
        """The document with this id; SourceError where there is none."""

    def summary(self, id: str) -> DocumentSummary:
        """What `list` says of the document with this id; SourceError where there is none."""

    def list(
        self, *, text: str = "", after: str = "", limit: int = 50
    ) -> "Sequence[DocumentSummary]":
        """Documents with `text` in id, title or text, in the order of ids: those after `after`."""

    def view(self) -> View:
        """The corpus as it is now."""

    def close(self, timeout: float | None = None) -> None:
        """Let go of files, within so many seconds; nobody may use the corpus any more."""
