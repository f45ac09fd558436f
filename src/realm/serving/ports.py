"""What does the service ask of the corpus that it serves?

Exactly this much, so that any corpus can be served and tests can hold one in memory.
"""

from collections.abc import Sequence
from typing import Protocol

from realm.corpus.documents import Document
from realm.living.listing import DocumentSummary
from realm.living.state import Edit
from realm.living.view import View


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
