"""How does a document become passages of whole sentences that fit the encoder?

Sentences are packed greedily while [CLS] title [SEP] body [SEP] stays within `passage_tokens`
(288 wordpieces in the paper, section 4.3). A passage never crosses documents, and it is a slice
of its document: its text is `normalise(document.text[source_start:source_end]).text`.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sentencex import segment  # type: ignore[import-untyped]
from tokenizers import Encoding, Tokenizer

from realm.config import Settings
from realm.corpus.documents import Document

NUM_SPECIAL_TOKENS = 3  # [CLS] title [SEP] body [SEP]
# Offsets inside a passage are stored in 16 bits. Only text without words (an encoded image, say)
# comes near this limit; such text is cut by characters before it is cut by tokens.
MAX_PASSAGE_CHARACTERS = 65_535

_SPACES = re.compile(r"\s+")
# sentencex 1.0.32 takes every white space for one byte and ends the process at "R\u00a0.".
_ONE_BYTE_SPACES = {
    code: "\n" if chr(code) in "\x85\u2028\u2029" else " "
    for code in range(0x80, 0x3001)
    if chr(code).isspace()
}
_LONGEST_LINE = 16_384
# Ends at a word's end where it can.
_STRETCH = re.compile(rf"(?s).{{1,{_LONGEST_LINE}}}(?!\S)|.{{1,{_LONGEST_LINE}}}")

Integers = NDArray[np.int64]


class CorpusSettings(Settings):
    """How documents are cut into passages."""

    passage_tokens: int = Field(default=288, ge=16)
    """Length of the whole input, [CLS] title [SEP] body [SEP], in wordpieces."""
    language: str = "en"
    """Language whose abbreviations the sentence splitter knows, as an ISO 639-1 code."""
    cut: Literal["sentences", "documents"] = "sentences"
    """`documents` makes one passage of every document, for texts that were cut before: row by row
    they stay what they were. Encoders read as much of one as they have room for."""
    num_workers: int = Field(default=0, ge=0)
    """Processes that cut passages; 0 means one for each core. The result does not depend on it."""


@dataclass(frozen=True, slots=True)
class NormalisedText:
    """Text with single spaces that knows where each of its characters stood in the source."""

    text: str
    breaks: tuple[int, ...]
    """Offsets in `text` from which on the distance to the source is another one."""
    shifts: tuple[int, ...]
    """That distance: source offset minus offset in `text`."""

    def source_offset(self, offset: int) -> int:
        """Where the character at `offset` stood; the end of the text is one past its last one."""
        if offset >= len(self.text) > 0:
            return self.source_offset(len(self.text) - 1) + 1
        return offset + self.shifts[bisect_right(self.breaks, offset) - 1]

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters of a span that is not empty stood."""
        return self.source_offset(start), self.source_offset(end - 1) + 1

    def offset_of(self, source_offset: int) -> int:
        """Where a character of the source stands in `text`; a space that went, where it was."""
        sources = [offset + shift for offset, shift in zip(self.breaks, self.shifts, strict=True)]
        number = bisect_right(sources, source_offset) - 1
        if number < 0:
            return 0
        following = (*self.breaks, len(self.text))[number + 1]
        return min(source_offset - self.shifts[number], following)


@dataclass(frozen=True, slots=True)
class PassageCut:
    """One passage as it was cut; characters are offsets in `text` unless they say source."""

    source_start: int
    source_end: int
    text: str
    token_ids: Integers
    token_starts: Integers
    token_ends: Integers
    sentence_ends: Integers
    """Number of body tokens up to the end of each sentence."""


@dataclass(frozen=True, slots=True)
class DocumentCut:
    """The wordpieces of a title, a third of the input at most, and the passages below it."""

    title_token_ids: Integers
    passages: list[PassageCut]


@dataclass(frozen=True, slots=True)
class _Sentence:
    """Characters [start, end) of the normalised document, tokens [first, last)."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of a whole normalised document and their characters."""

    ids: Integers
    starts: Integers
    ends: Integers


def normalise(text: str) -> NormalisedText:
    """Turn every run of white space into one space and strip the ends, keeping the offsets."""
    shift = len(text) - len(text.lstrip())
    breaks, shifts = [0], [shift]
    for run in _SPACES.finditer(text, shift):
        if run.end() - run.start() > 1:
            shift += run.end() - run.start() - 1
            breaks.append(run.end() - shift)
            shifts.append(shift)
    return NormalisedText(" ".join(text.split()), tuple(breaks), tuple(shifts))


def cut_passages(
    document: Document, tokenizer: Tokenizer, settings: CorpusSettings
) -> list[PassageCut]:
    """Cut one document; text that yields no token gives no passage."""
    return cut_documents([document], tokenizer, settings)[0].passages


def cut_documents(
    documents: Sequence[Document], tokenizer: Tokenizer, settings: CorpusSettings
) -> list[DocumentCut]:
    """Cut several documents with one call of a tokenizer that neither truncates nor pads."""
    titles = tokenizer.encode_batch(
        [normalise(document.title).text for document in documents], add_special_tokens=False
    )
    is_whole = settings.cut == "documents"
    limit = MAX_PASSAGE_CHARACTERS if is_whole else None
    sources = [document.text[:limit] for document in documents]
    texts = [normalise(source) for source in sources]
    bounds = [
        _sentence_bounds(
            _slices(source, document.sentence_starts or _starts(source, settings.language))
        )
        for document, source in zip(documents, sources, strict=True)
    ]
    sentences = [
        text.text[start:end]
        for text, pairs in zip(texts, bounds, strict=True)
        for start, end in pairs
    ]
    encodings = iter(tokenizer.encode_batch(sentences, add_special_tokens=False))
    cuts = []
    for title, text, pairs in zip(titles, texts, bounds, strict=True):
        title_ids = np.array(title.ids[: settings.passage_tokens // 3], dtype=np.int64)
        budget = settings.passage_tokens - NUM_SPECIAL_TOKENS - len(title_ids)
        own = [next(encodings) for _ in pairs]
        passages = _cut_text(text, pairs, own, MAX_PASSAGE_CHARACTERS if is_whole else budget)
        if is_whole and not passages:
            passages = [_passage_of_nothing()]
        cuts.append(DocumentCut(title_ids, passages))
    return cuts


def _passage_of_nothing() -> PassageCut:
    none = np.empty(0, dtype=np.int64)
    return PassageCut(0, 0, "", none, none, none, np.zeros(1, dtype=np.int64))


def split_sentences(text: str) -> list[str]:
    """The sentences of an English text, each with single spaces."""
    plain = normalise(text).text
    bounds = _sentence_bounds(_slices(text, _starts(text, "en")))
    return [plain[start:end].lstrip() for start, end in bounds]


def _sentence_bounds(sentences: Iterable[str]) -> list[tuple[int, int]]:
    """Sentences of the source as offsets in the normalised text, each with the space before it.

    The source is split, not the normalised text: blank lines and list items end sentences. The
    space in front belongs to the sentence because tokenizers of bytes encode it in the first word.
    """
    bounds = []
    position, has_gap = 0, False
    for stretch in chain.from_iterable(map(_STRETCH.findall, sentences)):
        words = stretch.split()
        if words:
            start = position
            position += bool(start and (has_gap or stretch[0].isspace()))
            position += sum(map(len, words)) + len(words) - 1
            bounds.append((start, position))
        has_gap = stretch[-1].isspace() or (has_gap and not words)
    return bounds


def _slices(text: str, starts: Iterable[int]) -> Iterator[str]:
    """Slices of the text that make up all of it: what lies between goes with the one before."""
    for first, last in pairwise([0, *starts, len(text)]):  # an empty slice does no harm
        yield text[first:last]


def _starts(text: str, language: str) -> Iterator[int]:
    """Where the sentences of the text begin.

    The splitter drops a blank line here and there in long texts (sentencex 1.0.32, about every
    9,000 characters), so its sentences are looked up. Quotes that nobody closes cost it the square
    of a line's length, while no other thread runs: a line that no person wrote is cut before.
    """
    plain = text.translate(_ONE_BYTE_SPACES)
    is_long = max(map(len, plain.split("\n"))) > _LONGEST_LINE
    begin = 0
    for stretch in _STRETCH.findall(plain) if is_long else [plain]:
        end = 0
        for sentence in segment(language, stretch):
            start = stretch.find(sentence, end)
            if start >= 0:
                yield begin + start
                end = start + len(sentence)
        begin += len(stretch)


def _cut_text(
    text: NormalisedText,
    bounds: Sequence[tuple[int, int]],
    encodings: Sequence[Encoding],
    budget: int,
) -> list[PassageCut]:
    characters = np.frombuffer(text.text.encode("utf-32-le"), dtype=np.uint32)
    tokens = _join(bounds, encodings, characters)
    lasts = np.cumsum([len(encoding) for encoding in encodings], dtype=np.int64).tolist()
    pieces: list[_Sentence] = []
    for (start, end), first, last in zip(bounds, [0, *lasts], lasts, strict=False):
        if first < last:
            stripped = start + (text.text[start] == " ")
            pieces.extend(_split(_Sentence(stripped, end, first, last), tokens, characters, budget))
    return [_passage(group, tokens, text) for group in _pack(pieces, budget)]


def _join(
    bounds: Sequence[tuple[int, int]], encodings: Sequence[Encoding], characters: NDArray[np.uint32]
) -> _Tokens:
    """Tokens of all sentences with offsets in the document, without the space before a word."""
    ids = np.array([i for encoding in encodings for i in encoding.ids], dtype=np.int64)
    pairs = [pair for encoding in encodings for pair in encoding.offsets]
    offsets = np.fromiter(chain.from_iterable(pairs), dtype=np.int64, count=2 * len(pairs))
    lengths = [len(encoding) for encoding in encodings]
    beginnings = np.array([start for start, _ in bounds], dtype=np.int64)
    offsets = offsets.reshape(-1, 2) + np.repeat(beginnings, lengths)[:, None]
    starts, ends = offsets[:, 0], offsets[:, 1]
    if len(starts):
        starts += (characters[starts.clip(max=len(characters) - 1)] == ord(" ")) & (starts < ends)
    return _Tokens(ids, starts, ends)


def _split(
    sentence: _Sentence, tokens: _Tokens, characters: NDArray[np.uint32], budget: int
) -> Iterator[_Sentence]:
    """Divide a sentence that no passage can hold, between words where it is possible."""
    start, first = sentence.start, sentence.first
    while sentence.last - first > budget:
        candidates = tokens.starts[first + 1 : first + budget + 1]
        # Several tokens of one character (bytes) share its offsets: only the first begins a word.
        is_new = candidates > tokens.starts[first : first + budget]
        at_words = np.flatnonzero(is_new & (characters[candidates - 1] == ord(" ")))
        last = first + 1 + int(at_words[-1]) if len(at_words) else first + budget
        following = int(tokens.starts[last])
        yield _Sentence(start, following - (len(at_words) > 0), first, last)
        start, first = following, last
    yield _Sentence(start, sentence.end, first, sentence.last)


def _pack(pieces: Sequence[_Sentence], budget: int) -> Iterator[list[_Sentence]]:
    group: list[_Sentence] = []
    for piece in pieces:
        if group and (
            piece.last - group[0].first > budget
            or piece.end - group[0].start > MAX_PASSAGE_CHARACTERS
        ):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _passage(group: Sequence[_Sentence], tokens: _Tokens, text: NormalisedText) -> PassageCut:
    start, end = group[0].start, group[-1].end
    first, last = group[0].first, group[-1].last
    source_start, source_end = text.source_span(start, end)
    return PassageCut(
        source_start,
        source_end,
        text.text[start:end],
        tokens.ids[first:last],
        tokens.starts[first:last] - start,
        tokens.ends[first:last] - start,
        np.array([sentence.last - first for sentence in group], dtype=np.int64),
    )
