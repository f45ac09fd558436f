"""Which state does the database tell of, and what happened since the one that is known?"""

from pathlib import Path

from realm.corpus.documents import Document
from realm.corpus.store import PassageStore
from realm.living.documents import MemoryStore, from_bytes
from realm.living.journal import Entry, Journal
from realm.living.segment import open_segment
from realm.living.state import State, opened


def read_state(base: PassageStore, journal: Journal, folder: Path) -> State:
    """All of it, inside a transaction."""
    facts, entries = journal.facts(), journal.entries()
    recent = {}
    for entry in entries:
        store = _recent(entry, base, journal)
        if store is not None:
            recent[entry.document_id] = store
    segment = open_segment(folder / facts.segment) if facts.segment else None
    return opened(base, facts, entries, recent, segment)


def newest(state: State, journal: Journal, folder: Path) -> State:
    """A state with what other processes did since, inside a transaction."""
    facts = journal.facts()
    if facts.segment != state.segment_name:
        return read_state(state.base, journal, folder)
    if facts.sequence == state.sequence:
        return state
    entries = journal.entries(after=state.sequence)
    return state.with_edits([(entry, _recent(entry, state.base, journal)) for entry in entries])


def _recent(entry: Entry, base: PassageStore, journal: Journal) -> MemoryStore | None:
    if not entry.is_recent:
        return None
    text, blob = journal.content(entry.sequence)
    document = Document(entry.document_id, entry.title or "", text)
    return MemoryStore([document], [from_bytes(blob, text)], entry.first_passage_id, base)
