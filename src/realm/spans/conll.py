"""Which entities do files of tagged words name, and in which sentences of which documents?

One word a line with its columns, a blank line after a sentence (CoNLL). Columns are found by
what stands in them. A tag is read alike in IOB and IOB2: `B-` begins an entity, `I-` goes on
with one of the same label and begins one otherwise; the two notations differ only in what they
write, never in what the same tags mean.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realm.errors import SourceError
from realm.spans.entities import NO_ENTITY, Span, join_tags

_TAG = re.compile(r"O|[BI]-\S+")
_COMMENT = re.compile(r"#\s*(?:newdoc|newpar|[\w.]+\s*=)")
_NEW_DOCUMENT = re.compile(r"#\s*newdoc|-DOCSTART-")
# Names that the common data sets give to the four kinds of CoNLL-2003.
_LABELS = {
    **dict.fromkeys(("PER", "PERSON"), "PER"),
    **dict.fromkeys(("ORG", "ORGANIZATION", "ORGANISATION"), "ORG"),
    **dict.fromkeys(("LOC", "LOCATION", "PLACE", "GPE"), "LOC"),
    **dict.fromkeys(("MISC", "MISCELLANEOUS"), "MISC"),
}
# A file without marks of documents: neighbours that may be of one text stay together.
_SENTENCES_OF_UNMARKED = 20

_ATTACHED = frozenset(",.;:!?)]}%") | {"'s", "'", "n't", "'re", "'ll", "'ve", "'d", "'m", "..."}
_OPENING = frozenset("([{$")


class TaggedSentence(NamedTuple):
    """A sentence as it would be written, and the entities in it."""

    text: str
    spans: tuple[Span, ...]
    unsure: tuple[tuple[int, int], ...] = ()
    """Ranges of characters of which nobody says whether they are of an entity."""


class TaggedFile(NamedTuple):
    """The sentences of a file by document; `labels` are those that its annotators looked for."""

    name: str
    documents: list[list[TaggedSentence]]
    labels: frozenset[str]

    @property
    def sentences(self) -> list[TaggedSentence]:
        """The sentences of all documents in order."""
        return [sentence for document in self.documents for sentence in document]


def read_tagged(path: Path, renamed: Mapping[str, str] | None = None) -> TaggedFile:
    """Read a file of tagged words.

    Labels that mean a kind of CoNLL-2003 get its name (`person` becomes PER), others are written
    in capitals. `renamed` goes before that, by the label in the file; `O` drops a label.

    Raises:
        SourceError: the file cannot be read, or no column holds IOB tags.
    """
    documents = _read_rows(path)
    word, tag = _find_columns(path, documents)
    found = {row[tag][2:] for sentences in documents for rows in sentences for row in rows}
    unknown = sorted(set(renamed or ()) - found)
    if unknown:
        raise SourceError(f"{path} has no label {unknown[0]!r} to rename: it has {_listed(found)}")
    name_of = {label: (renamed or {}).get(label) or _name(label) for label in found if label}
    tagged = [
        [_sentence([row[word] for row in rows], [row[tag] for row in rows], name_of)
         for rows in sentences]
        for sentences in documents
    ]  # fmt: skip
    return TaggedFile(path.name, tagged, frozenset(name_of.values()) - {NO_ENTITY})


def split_held_out(file: TaggedFile, *, share: float, seed: int) -> tuple[TaggedFile, TaggedFile]:
    """Split a file by document into what trains and `share` of it that measures.

    Raises:
        SourceError: the file has a single document.
    """
    num_documents = len(file.documents)
    if num_documents < 2:
        raise SourceError(f"{file.name} has a single document: there is nothing to hold out")
    size = max(1, round(share * num_documents))
    held_out = set(np.random.default_rng(seed).permutation(num_documents)[:size].tolist())

    def part(is_held_out: bool) -> TaggedFile:
        documents = [
            document
            for number, document in enumerate(file.documents)
            if (number in held_out) == is_held_out
        ]
        return file._replace(documents=documents)

    return part(False), part(True)


def join_words(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Write words as a sentence, with the spaces of printed English; return where each stands."""
    text, offsets = "", []
    is_quoted, is_open = False, True
    for word in words:
        closes = word in _ATTACHED or (word == '"' and is_quoted)
        if not (closes or is_open):
            text += " "
        offsets.append((len(text), len(text) + len(word)))
        text += word
        is_quoted ^= word == '"'
        is_open = word in _OPENING or (word == '"' and is_quoted)
    return text, offsets


def _read_rows(path: Path) -> list[list[list[list[str]]]]:
    """The columns of every word, by document and sentence."""
    documents: list[list[list[list[str]]]] = [[]]
    rows: list[list[str]] = []
    is_marked = False
    for line in _lines(path):
        starts_document = _NEW_DOCUMENT.match(line) is not None
        if rows and (starts_document or not line.strip()):
            documents[-1].append(rows)
            rows = []
        if starts_document:
            is_marked = True
            documents.append([])
        elif line.strip() and not (not rows and _COMMENT.match(line)):
            rows.append(line.split("\t") if "\t" in line else line.split())
    if rows:
        documents[-1].append(rows)
    documents = [document for document in documents if document]
    if not is_marked and documents:
        whole, size = documents[0], _SENTENCES_OF_UNMARKED
        documents = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
    return documents


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no UTF-8 text: convert it first") from error


def _find_columns(path: Path, documents: list[list[list[list[str]]]]) -> tuple[int, int]:
    """Which column holds the words and which the tags; of several with tags the last."""
    sentences = [rows for document in documents for rows in document]
    width = min((len(row) for rows in sentences for row in rows), default=0)
    tags = [
        column
        for column in range(width)
        if all(_TAG.fullmatch(row[column]) for rows in sentences for row in rows)
    ]
    if not tags or tags[-1] == 0:
        raise SourceError(
            f"{path} has no column of IOB tags (O, B-PER, I-PER, ...) after a column of words: "
            "give a file in CoNLL format"
        )
    is_numbered = all(
        row[0] == str(number) for rows in sentences for number, row in enumerate(rows, start=1)
    )
    return (1 if is_numbered and tags[-1] > 1 else 0), tags[-1]


def _sentence(
    words: Sequence[str], tags: Sequence[str], name_of: Mapping[str, str]
) -> TaggedSentence:
    text, offsets = join_words(words)
    spans = join_tags(tags, offsets, range(len(words)))
    named = [span._replace(label=name_of[span.label]) for span in spans]
    return TaggedSentence(text, tuple(span for span in named if span.label != NO_ENTITY))


def _name(label: str) -> str:
    return _LABELS.get(label.upper(), label.upper())


def _listed(labels: set[str]) -> str:
    return ", ".join(sorted(labels - {""})) or "none"
