"""How much text will a run read, before any of it is read?

The first megabytes of every source are cut as the run would cut them; the sizes of the files, or
the numbers of documents that they name, say how often that fits into the whole. What cannot be
looked at is assumed, and said to be.
"""

import bz2
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import zstandard
from tokenizers import Tokenizer

from realm.corpus.documents import (
    HUB,
    RECORDS,
    Document,
    count_documents,
    kind_of,
    read_documents,
    source_files,
)
from realm.corpus.passages import NUM_SPECIAL_TOKENS, DocumentCut, cut_documents
from realm.corpus.tfrecords import record_ends
from realm.errors import RealmError, SourceError
from realm.examples.question import read_questions
from realm.experiment import Experiment, expand
from realm.models.trunk import DEFAULT_TRUNK, find_trunk, locate_trunk, read_tokenizer

_MOST_TIMES = 50
_SAMPLE_BYTES = 1 << 20  # of each source on the disk; of text, where documents can be counted
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".bz2": bz2.BZ2Decompressor,
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_UNKNOWN_PASSAGES = 1_000_000
_FILL = 0.8  # of a passage's room, where no text can be looked at: whole sentences leave some
_SENTENCE_TOKENS, _QUESTION_TOKENS = 28, 12
_WORD_CHARACTERS = 4.6  # of a wordpiece and the space before it, in English
_MOST_QUESTIONS = 2000  # whose lengths are looked at

Lengths = np.ndarray
"""Packed inputs in wordpieces, special tokens included: a sample to draw from."""


@dataclass(frozen=True)
class Workload:
    """What the stages of a run will read."""

    num_passages: int
    num_characters: float
    passages: Lengths
    """Titles included, as the embedder sees them."""
    sentences: Lengths
    """Masked or plain, as queries."""
    questions: Lengths
    num_train_questions: int
    dev_questions: tuple[int, ...]
    """Questions of each file."""
    notes: tuple[str, ...]
    """What was assumed."""


@dataclass(frozen=True)
class _Sample:
    documents: list[DocumentCut]
    scale: float


def estimate_workload(experiment: Experiment, num_passages: int | None = None) -> Workload:
    """Look at the sources and questions of a recipe; `num_passages` overrules the count."""
    tokenizer = read_tokenizer(find_trunk(experiment.vocabulary_of) or locate_trunk(DEFAULT_TRUNK))
    notes: list[str] = []
    samples = [
        sample
        for source in experiment.sources
        if (sample := _sample_of(source, experiment, tokenizer, notes)).documents
    ]
    work = _sampled(samples, experiment.packing.query_tokens) if samples else _assumed(experiment)
    if num_passages is not None:
        share = num_passages / work.num_passages
        work = replace(work, num_passages=num_passages, num_characters=work.num_characters * share)
    elif not samples:
        notes.append(
            f"the sources cannot be looked at: {_UNKNOWN_PASSAGES:,} passages are assumed; say how "
            "many there are with --passages"
        )
    lengths, numbers = _questions(experiment.train_questions, tokenizer, notes)
    _, in_dev = _questions(experiment.dev_questions, tokenizer, notes)
    questions = np.array(lengths or [_QUESTION_TOKENS + 2])
    questions = questions.clip(max=experiment.packing.query_tokens)
    return replace(
        work, questions=questions, num_train_questions=sum(numbers), dev_questions=tuple(in_dev),
        notes=tuple(notes),
    )  # fmt: skip


def _assumed(experiment: Experiment) -> Workload:
    length = round(_FILL * experiment.corpus.passage_tokens)
    return _workload(
        _UNKNOWN_PASSAGES, _UNKNOWN_PASSAGES * length * _WORD_CHARACTERS,
        np.array([length]), np.array([_SENTENCE_TOKENS + 2]),
    )  # fmt: skip


def _sampled(samples: Sequence[_Sample], query_tokens: int) -> Workload:
    least = min(sample.scale for sample in samples)
    passages, sentences = list[int](), list[int]()
    num_passages = num_characters = 0.0
    for sample in samples:
        # What stands for more counts as often, within reason.
        times = min(_MOST_TIMES, round(sample.scale / least))
        cut = [passage for document in sample.documents for passage in document.passages]
        num_passages += sample.scale * len(cut)
        num_characters += sample.scale * sum(len(passage.text) for passage in cut)
        passages += times * [
            len(document.title_token_ids) + len(passage.token_ids) + NUM_SPECIAL_TOKENS
            for document in sample.documents for passage in document.passages
        ]  # fmt: skip
        sentences += times * [
            length + 2
            for passage in cut
            for length in np.diff(passage.sentence_ends, prepend=0).tolist()
        ]
    return _workload(
        round(num_passages), num_characters,
        np.array(passages), np.array(sentences).clip(max=query_tokens),
    )  # fmt: skip


def _workload(
    num_passages: int, num_characters: float, passages: Lengths, sentences: Lengths
) -> Workload:
    return Workload(num_passages, num_characters, passages, sentences, passages, 0, (), ())


def _sample_of(
    source: str, experiment: Experiment, tokenizer: Tokenizer, notes: list[str]
) -> _Sample:
    """Documents from the beginning of a source, and how often they fit into the whole."""
    cut: list[DocumentCut] = []
    sampled = total = 0.0
    for file in _files_of([source]):
        size = file.stat().st_size
        total += size
        if sampled >= _SAMPLE_BYTES:
            continue  # a folder of many files: those that come first speak for the others
        try:
            documents, share = _first_documents(file)
        except (RealmError, OSError, zlib.error, zstandard.ZstdError) as error:
            notes.append(f"{file.name} was not looked at ({error})")
            continue
        cut += cut_documents(documents, tokenizer, experiment.corpus)
        sampled += share * size
    return _Sample(cut, total / sampled if sampled else 0.0)


def _files_of(sources: Iterable[str]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        if source.startswith(HUB):
            continue
        with suppress(SourceError):  # sources that are not here are said to be assumed
            files += [file for _, file in source_files(Path(expand(source)))]
    return files


def _first_documents(file: Path) -> tuple[list[Document], float]:
    """Documents from the beginning of a file, and the share of it that they are."""
    number = _number_of_documents(file)
    if number == 0:
        return [], 1.0
    if number is None:
        with TemporaryDirectory() as folder:
            beginning, share = _beginning(file, Path(folder))
            return list(read_documents([beginning])), share
    documents: list[Document] = []
    num_characters = 0
    for document in read_documents([file]):
        documents.append(document)
        num_characters += len(document.text)
        if num_characters >= _SAMPLE_BYTES:
            return documents, len(documents) / number
    return documents, 1.0


def _number_of_documents(file: Path) -> float | None:
    """As the file says, or as its first records let expect; None where there is no telling."""
    if kind_of(file)[0] != RECORDS:
        return count_documents(file)
    text, share = _first_bytes(file)
    ends = record_ends(text)
    return len(ends) / (share * ends[-1] / len(text)) if ends else None


def _first_bytes(file: Path) -> tuple[bytes, float]:
    """What the first bytes on the disk stand for, and the share of the file that they are."""
    with file.open("rb") as stream:
        packed = stream.read(_SAMPLE_BYTES)
    return _unpack(packed, kind_of(file)[1]), len(packed) / max(1, file.stat().st_size)


def _beginning(file: Path, folder: Path) -> tuple[Path, float]:
    """A file with whole documents from the beginning of another, and the share that it is."""
    kind, compression = kind_of(file)
    if kind not in _ENDS or file.stat().st_size <= _SAMPLE_BYTES:
        return file, 1.0  # it is read whole: small, or of a kind that cannot be cut
    text, share = _first_bytes(file)
    end = _ENDS[kind](text)
    if not end:
        return file, 1.0  # the first document is longer than the sample
    beginning = folder / file.name[: len(file.name) - len(compression)]
    beginning.write_bytes(text[:end] + (b"</mediawiki>" if kind == ".xml" else b""))
    return beginning, share * end / len(text)


def _end_of_lines(text: bytes) -> int:
    return text.rfind(b"\n") + 1


def _end_of_rows(text: bytes) -> int:
    """Line breaks inside quotes end no row."""
    end = _end_of_lines(text)
    while text.count(b'"', 0, end) % 2:
        end = _end_of_lines(text[: end - 1])
    return end


def _end_of_pages(text: bytes) -> int:
    before, end, _ = text.rpartition(b"</page>")
    return len(before + end)


_ENDS: Mapping[str, Callable[[bytes], int]] = {
    **dict.fromkeys((".jsonl", ".txt", ".md", ".markdown"), _end_of_lines),
    **dict.fromkeys((".csv", ".tsv"), _end_of_rows),
    ".xml": _end_of_pages,
}
"""Of kinds of files that can be cut: where the last document ends that is whole; 0 for none."""


def _unpack(packed: bytes, compression: str) -> bytes:
    """What the beginning of a compressed file stands for; it may have several parts."""
    if not compression:
        return packed
    text = b""
    while packed:
        decompressor = _DECOMPRESSORS[compression]()
        text += decompressor.decompress(packed)
        packed = decompressor.unused_data
    return text


def _questions(
    files: Sequence[str], tokenizer: Tokenizer, notes: list[str]
) -> tuple[list[int], list[int]]:
    """Packed lengths of some of the questions, and how many each file holds."""
    lengths: list[int] = []
    numbers: list[int] = []
    for file in files:
        try:
            texts = [question.question for question in read_questions(Path(expand(file)))]
        except (RealmError, OSError):
            notes.append(f"{file} is not here: nothing is counted for its questions")
            texts = []
        numbers.append(len(texts))
        encodings = tokenizer.encode_batch(texts[:_MOST_QUESTIONS], add_special_tokens=False)
        lengths += [len(encoding.ids) + 2 for encoding in encodings]
    return lengths, numbers
