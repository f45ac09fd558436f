"""Which texts, sentences and salient spans does the published pre-training data hold?

The TFRecord files of `salient_span_wikipedia` (TensorFlow Datasets), with passages (documents)
or single sentences (sentences), and those that REALM's own code reads, which name the same
features otherwise. Their offsets count bytes of UTF-8; ours count characters.
"""

from collections.abc import Iterator, Sequence
from io import BufferedIOBase

import numpy as np

from realm.corpus.tfrecords import Feature, parse_example, read_records
from realm.errors import SourceError

GivenSpan = tuple[int, int, str]
"""First character, the one after the last, and what the span names.

Empty, at 0, where the bytes of a published span are no whole characters of its text.
"""

AnnotatedRow = tuple[str, str, str, tuple[GivenSpan, ...], tuple[int, ...]]
"""Id, title, text, spans, and the characters with which sentences begin."""

_SPELLINGS = (
    ("spans/start", "spans/limit", "spans/type"),
    ("span_byte_start", "span_byte_limit", "span_type"),
)
_SENTENCES = (
    ("sentences/start", "sentences/limit"),
    ("sentence_byte_start", "sentence_byte_limit"),
)
_NO_TYPE = "entity"


def read_annotated(stream: BufferedIOBase, name: str, document_id: str) -> Iterator[AnnotatedRow]:
    """Stream the texts of a TFRecord file; without a `uid` their place in the file names them.

    Raises:
        SourceError: the file is damaged or holds something else; the message names the record.
    """
    first_place, has_spans = "", False
    for number, (content, place) in enumerate(read_records(stream, name), start=1):
        features = parse_example(content, place)
        first_place = first_place or place
        has_spans = has_spans or _spelling(features) is not None
        text = _bytes(features, "text", place)
        uid = _bytes(features, "uid", place) if "uid" in features else b""
        yield (
            _decode(uid, place) or f"{document_id}#{number}",
            _decode(_bytes(features, "title", place), place) if "title" in features else "",
            _decode(text, place),
            tuple(_spans(features, text, place)),
            _sentence_starts(features, text, place),
        )
    if first_place and not has_spans:
        known = " or ".join(keys[0] for keys in _SPELLINGS)
        raise SourceError(
            f"{first_place} has no spans, and no other has any: a feature {known} is needed"
        )


def _spelling(features: dict[str, Feature]) -> tuple[str, str, str] | None:
    return next((keys for keys in _SPELLINGS if any(key in features for key in keys)), None)


def _spans(features: dict[str, Feature], text: bytes, place: str) -> Iterator[GivenSpan]:
    keys = _spelling(features)
    if keys is None:
        return  # in a tf.train.Example an empty list may be left out
    pairs = _characters(features, text, keys[:2], place)
    types = _texts(features, keys[2], place) or [_NO_TYPE.encode()] * len(pairs)
    if len(pairs) != len(types):
        raise SourceError(f"{place}: numbers of {', '.join(keys)} differ: replace the file")
    for (start, end), label in zip(pairs, types, strict=True):
        yield start, end, _decode(label, place) or _NO_TYPE


def _sentence_starts(features: dict[str, Feature], text: bytes, place: str) -> tuple[int, ...]:
    """Where the sentences begin, in order; nothing where none is named, as in single sentences."""
    keys = next((keys for keys in _SENTENCES if keys[0] in features), None)
    pairs = _characters(features, text, keys, place) if keys else []
    return tuple(sorted({start for start, end in pairs if start < end}))


def _characters(
    features: dict[str, Feature], text: bytes, keys: Sequence[str], place: str
) -> list[tuple[int, int]]:
    """Byte offsets as characters; (0, 0) for what does not begin and end with a character."""
    starts, limits = (_numbers(features, key, place) for key in keys)
    if len(starts) != len(limits):
        raise SourceError(f"{place}: numbers of {', '.join(keys)} differ: replace the file")
    begins = np.append((np.frombuffer(text, dtype=np.uint8) & 0xC0) != 0x80, True)
    number = np.cumsum(begins) - 1
    pairs = []
    for start, limit in zip(starts, limits, strict=True):
        fits = 0 <= start < limit <= len(text) and begins[start] and begins[limit]
        pairs.append((int(number[start]), int(number[limit])) if fits else (0, 0))
    return pairs


def _bytes(features: dict[str, Feature], name: str, place: str) -> bytes:
    values = _texts(features, name, place)
    if len(values) != 1:
        raise SourceError(f"{place} has no {name}: give a file of salient_span_wikipedia")
    return values[0]


def _texts(features: dict[str, Feature], name: str, place: str) -> list[bytes]:
    values = [value for value in features.get(name, []) if isinstance(value, bytes)]
    _check_number(len(values), features, name, place)
    return values


def _numbers(features: dict[str, Feature], name: str, place: str) -> list[int]:
    values = [value for value in features.get(name, []) if isinstance(value, int)]
    _check_number(len(values), features, name, place)
    return values


def _check_number(count: int, features: dict[str, Feature], name: str, place: str) -> None:
    if count != len(features.get(name, [])):
        raise SourceError(f"{place}: {name} is of another type: replace the file")


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{place}: byte {error.start} of a text is not UTF-8") from error
