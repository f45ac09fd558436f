"""Which salient spans does every passage of a corpus hold?

Named entities of a tagger and dates, each inside one sentence and made of whole tokens, so
that masking a span is replacing its tokens. Where the source of a document names its spans, as
the published pre-training data does, they take the place of both. Stored as one flat array in
the order of the passages and the offsets where each passage begins: reading is slicing a
memory map.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from realm.artifact import Manifest, create_artifact, open_artifact
from realm.config import Settings
from realm.corpus.annotated import GivenSpan
from realm.corpus.store import PassageStore
from realm.spans.dates import find_dates
from realm.spans.entities import EntityTagger, RuleTagger, Span
from realm.spans.model_tagger import ModelTagger

KIND = "spans"
SPAN = np.dtype(
    [
        ("sentence", "<i4"),  # number of the sentence in its passage
        ("start", "<i4"),  # characters of the passage's normalised text
        ("end", "<i4"),
        ("token_start", "<i4"),  # tokens of the passage's body
        ("token_end", "<i4"),
        ("label_id", "<i4"),  # position in `SpanStore.labels`
    ]
)

LABEL_COUNT = "num_spans_"  # begins the names of the counts by label
_SPANS, _OFFSETS, _LABELS = "spans.bin", "row_offsets.npy", "labels.json"
_ROWS_AT_ONCE = 512
# More passages teach the rules nothing new, and the counts of their words have to fit in memory.
_MAX_FIT_PASSAGES = 200_000
# Shorter ones are headings ("Early life.") and fragments: nothing is left to predict a span from.
_MIN_SENTENCE_WORDS = 5


class SpanSettings(Settings):
    """How salient spans are found."""

    tagger: str = "rules"
    """`rules`, or the path or name of a token classification model.

    Documents whose source names its spans keep those, whatever the tagger.
    """


class SpanStore:
    """The salient spans of a corpus, by row of the passage."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.labels: list[str] = json.loads((path / _LABELS).read_text(encoding="utf-8"))
        self._offsets: NDArray[np.int64] = np.load(path / _OFFSETS, mmap_mode="r")
        # A file of no bytes cannot be mapped.
        self._spans = (
            np.memmap(path / _SPANS, dtype=SPAN, mode="r")
            if self._offsets[-1]
            else np.empty(0, dtype=SPAN)
        )

    @classmethod
    def open(cls, path: str | Path) -> "SpanStore":
        """Map the spans into memory.

        Raises:
            ArtifactError: there is no finished span artifact at `path`.
        """
        return cls(Path(path), open_artifact(Path(path), KIND))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.path,)

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def num_spans_by_label(self) -> dict[str, int]:
        """How many spans each label has."""
        return {label: int(self.manifest.counts[_count_name(label)]) for label in self.labels}

    def rows_with_spans(self) -> NDArray[np.int64]:
        """Rows of the passages that have at least one span, ascending."""
        return np.flatnonzero(np.diff(self._offsets))

    def of(self, row: int) -> NDArray[Any]:
        """The spans of a passage by their place, a read-only array of `SPAN` records."""
        return self._spans[self._offsets[row] : self._offsets[row + 1]]


def annotate(
    store: PassageStore,
    path: str | Path,
    *,
    settings: SpanSettings | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> SpanStore:
    """Find the spans of all passages; `on_progress` gets the number of passages done.

    Raises:
        ArtifactError, ResourceError: the model of the tagger cannot be loaded.
    """
    path, settings = Path(path), settings or SpanSettings()
    with create_artifact(
        path, KIND, settings=settings.model_dump(), inputs={"corpus": store.fingerprint}
    ) as staging:
        annotator = _Annotator(store, cache(partial(_make_tagger, store, settings)))
        with (staging.path / _SPANS).open("wb") as stream:
            for begin in range(0, len(store), _ROWS_AT_ONCE):
                rows = range(begin, min(begin + _ROWS_AT_ONCE, len(store)))
                stream.write(annotator.annotate(rows).tobytes())
                if on_progress is not None:
                    on_progress(rows.stop)
        offsets = np.concatenate([[0], np.cumsum(annotator.num_by_row)]).astype("<i8")
        np.save(staging.path / _OFFSETS, offsets)
        labels = json.dumps(list(annotator.label_ids), ensure_ascii=False)
        (staging.path / _LABELS).write_text(labels, encoding="utf-8")
        staging.counts = annotator.counts()
    return SpanStore.open(path)


def keep_longest(spans: Sequence[Span]) -> list[Span]:
    """Of spans that overlap keep the longest (of equal ones the first given), in text order."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start - span.end):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept)


class _Sentence(NamedTuple):
    row: int
    number: int
    start: int
    text: str


class _Annotator:
    """Annotates runs of rows and keeps the counts."""

    def __init__(self, store: PassageStore, make_tagger: Callable[[], EntityTagger]) -> None:
        self._store = store
        self._make_tagger = make_tagger  # when the first passage needs it
        self.num_by_row: list[int] = []
        self.label_ids: dict[str, int] = {}
        self._num_by_label: Counter[str] = Counter()
        self._num_sentences = self._num_sentences_with_spans = 0
        self._num_short = self._num_cut = 0
        self._last_document = -1
        self._published: Counter[str] = Counter()

    def annotate(self, rows: range) -> NDArray[Any]:
        """Return the spans of the rows as `SPAN` records in order."""
        sentences = [sentence for row in rows for sentence in _sentences(self._store, row)]
        self._num_short += sum(len(self._store.sentences(row)) for row in rows) - len(sentences)
        self._count_published(rows)
        found = []
        for sentence, spans in zip(sentences, self._spans_of(sentences), strict=True):
            for start, end, label in keep_longest(spans):
                label_id = self.label_ids.setdefault(label, len(self.label_ids))
                start, end = sentence.start + start, sentence.start + end
                found.append((sentence.row, sentence.number, start, end, 0, 0, label_id))
        records = np.array(found, dtype=[("row", "<i8"), *SPAN.descr])
        self._num_cut += len(found)
        records = _align(records, [self._store.token_spans(row) for row in rows], rows.start)
        self._count(records, rows, len(sentences))
        return records[list(SPAN.names or ())].astype(SPAN)

    def _spans_of(self, sentences: Sequence[_Sentence]) -> list[list[Span]]:
        """Published spans of the sentences that have them, dates and entities of the others."""
        published = {row: self._store.published_spans(row) for row in {s.row for s in sentences}}
        untold = [s for s in sentences if published[s.row] is None]
        texts = [s.text for s in untold]
        documents = [self._store.document_row(s.row) for s in untold]
        tagged = iter(self._make_tagger().tag(texts, documents) if texts else ())
        result = []
        for sentence in sentences:
            given = published[sentence.row]
            if given is None:
                result.append([*_dates(sentence.text), *next(tagged)])
            else:
                inside = _inside(sentence, given)
                self._published["num_inside"] += len(inside)
                self._published["num_overlapping_spans"] += len(inside) - len(keep_longest(inside))
                result.append(inside)
        return result

    def _count_published(self, rows: range) -> None:
        """Count what the source names in the documents that begin in these rows."""
        for row in rows:
            document = self._store.document_row(row)
            if document != self._last_document:
                number, num_broken = self._store.num_published_spans(document)
                self._published["num_published_spans"] += number
                self._published["num_broken_spans"] += num_broken
                self._last_document = document

    def counts(self) -> dict[str, int | float]:
        """What the manifest says of the spans."""
        return {
            "num_spans": sum(self.num_by_row),
            "num_passages": len(self.num_by_row),
            "num_passages_with_spans": sum(map(bool, self.num_by_row)),
            "num_sentences": self._num_sentences,
            "num_sentences_with_spans": self._num_sentences_with_spans,
            "num_short_sentences": self._num_short,
            "num_cut_spans": self._num_cut,
            **self._counts_of_published(),
            **{_count_name(label): self._num_by_label[label] for label in self.label_ids},
        }

    def _counts_of_published(self) -> dict[str, int]:
        """How many spans the source names, and why some of them are left out."""
        published = self._published
        number, num_broken = published["num_published_spans"], published["num_broken_spans"]
        if not number:
            return {}
        return {
            "num_published_spans": number,
            "num_broken_spans": num_broken,
            "num_crossing_spans": number - num_broken - published["num_inside"],
            "num_overlapping_spans": published["num_overlapping_spans"],
        }

    def _count(self, records: NDArray[Any], rows: range, num_sentences: int) -> None:
        self.num_by_row += np.bincount(records["row"] - rows.start, minlength=len(rows)).tolist()
        num_by_label_id = np.bincount(records["label_id"], minlength=len(self.label_ids)).tolist()
        self._num_by_label.update(dict(zip(self.label_ids, num_by_label_id, strict=True)))
        self._num_cut -= len(records)
        self._num_sentences += num_sentences
        self._num_sentences_with_spans += len(np.unique(records[["row", "sentence"]]))


def _make_tagger(store: PassageStore, settings: SpanSettings) -> EntityTagger:
    if settings.tagger != "rules":
        return ModelTagger(settings.tagger)
    step = -(-len(store) // _MAX_FIT_PASSAGES)
    rows = range(0, len(store), step)
    return RuleTagger.fit(sentence.text for row in rows for sentence in _sentences(store, row))


def _sentences(store: PassageStore, row: int) -> Iterator[_Sentence]:
    text, tokens = store.text(row), store.token_spans(row)
    for number, (first, last) in enumerate(store.sentences(row).tolist()):
        if last > first:
            start, end = int(tokens[first, 0]), int(tokens[last - 1, 1])
            if text.count(" ", start, end) >= _MIN_SENTENCE_WORDS - 1:
                yield _Sentence(row, number, start, text[start:end])


def _inside(sentence: _Sentence, spans: Sequence[GivenSpan]) -> list[Span]:
    """The spans of a passage that lie in one of its sentences, counted from its beginning."""
    first, last = sentence.start, sentence.start + len(sentence.text)
    return [Span(s - first, e - first, label) for s, e, label in spans if first <= s and e <= last]


def _dates(text: str) -> Iterator[Span]:
    return (Span(start, end, "date") for start, end in find_dates(text))


def _align(records: NDArray[Any], tokens: list[NDArray[np.int64]], first_row: int) -> NDArray[Any]:
    """Fill in the whole tokens inside each span; spans without one are left out."""
    offsets = np.concatenate([[0], np.cumsum([len(spans) for spans in tokens])])
    rows = records["row"] - first_row
    # Row and character in one ascending number: one search serves all passages.
    row_of_token = np.repeat(np.arange(len(tokens)), np.diff(offsets)) << 32
    starts, ends = np.concatenate(tokens).T
    first = np.searchsorted(row_of_token + starts, (rows << 32) + records["start"], side="left")
    last = np.searchsorted(row_of_token + ends, (rows << 32) + records["end"], side="right")
    records["token_start"], records["token_end"] = first - offsets[rows], last - offsets[rows]
    has_token: NDArray[np.bool_] = first < last
    return np.compress(has_token, records)


def _count_name(label: str) -> str:
    return LABEL_COUNT + label
