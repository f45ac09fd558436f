"""What do the scores of a token classification model say of the words of a text?

As in the paper (section 3.4: a BERT tagger trained on CoNLL-2003), with any such model of
`transformers`. Two things are asked of the tags beyond being likely one by one: nothing goes on as
another kind than it began, and what is written alike in one document is of one kind.
"""

import importlib
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from realm.errors import ArtifactError, ResourceError
from realm.spans.entities import (
    BEGINNING,
    NO_ENTITY,
    Span,
    TaggedWord,
    join_tags,
    split_tag,
    words_of,
)

Floats = NDArray[np.float32]
# Of BERT and its kin; some tokenizers on the hub know no limit of their own.
_MOST_POSITIONS = 512


class _Scored(NamedTuple):
    """The words of a text, and the log probabilities of their tags, one row a word."""

    words: list[TaggedWord]
    log_probs: Floats


class ModelTagger:
    """Tags with a token classification model, a folder or a name known to `transformers`."""

    def __init__(self, name: str, *, batch_size: int = 32) -> None:
        """Load the model.

        Raises:
            ResourceError: transformers or torch is not installed.
            ArtifactError: there is no such model, or it is not made for token classification.
        """
        self.name = name
        self._batch_size = batch_size
        try:
            self._torch = importlib.import_module("torch")
            transformers = importlib.import_module("transformers")
        except ModuleNotFoundError as error:
            message = f"the tagger {name!r} needs {error.name}: install it, or use tagger = 'rules'"
            raise ResourceError(message) from error
        # The program has progress bars of its own, and looks for itself at what was not loaded.
        transformers.logging.disable_progress_bar()
        transformers.logging.set_verbosity_error()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            model, report = transformers.AutoModelForTokenClassification.from_pretrained(
                name, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            message = (
                f"there is no token classification model {name!r} with weights in safetensors: "
                "check its path or name (other files are not read, since unpickling may run code)"
            )
            raise ArtifactError(message) from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])[0]
            raise ArtifactError(
                f"the model {name!r} was not trained to tag words (it lacks {missing}): train one "
                "from it with `realm spans train --trunk`"
            )
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        self._tags = [model.config.id2label[number] for number in range(model.config.num_labels)]
        labels = [split_tag(tag)[1] for tag in self._tags]
        self._labels = sorted(set(labels) - {NO_ENTITY})
        self._is_of = np.array(
            [[label == own for label in self._labels] for own in labels], dtype=np.float32
        )
        self._is_allowed = may_follow(self._tags)

    def tag(self, texts: Sequence[str], documents: Sequence[int] | None = None) -> list[list[Span]]:
        """Return the spans of each sentence in order; what the model cannot hold is not tagged.

        `documents` numbers the document of each: names written alike in one are of one kind.
        """
        # Sentences of like length are run together, since a batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        scored: dict[int, _Scored] = {}
        for begin in range(0, len(order), self._batch_size):
            numbers = order[begin : begin + self._batch_size]
            batch = self._score([texts[number] for number in numbers])
            scored.update(zip(numbers, batch, strict=True))
        in_order = [scored[number] for number in range(len(texts))]
        spans = [self._spans(words, log_probs) for words, log_probs in in_order]
        if documents is None:
            return spans
        shares = [self._shares(*pair) for pair in zip(in_order, spans, strict=True)]
        return agree_in_documents(texts, spans, shares, documents, self._labels)

    def _score(self, texts: list[str]) -> list[_Scored]:
        batch = self._tokenizer(
            texts, padding=True, truncation=True, return_offsets_mapping=True, return_tensors="pt",
            max_length=min(self._tokenizer.model_max_length, _MOST_POSITIONS),
        )  # fmt: skip
        offsets = batch.pop("offset_mapping").tolist()
        words = [words_of(row, batch.word_ids(number)) for number, row in enumerate(offsets)]
        with self._torch.inference_mode():
            logits = self._model(**batch.to(self._device)).logits.float()
            log_probs = logits.log_softmax(dim=-1).cpu().numpy()
        return [
            _Scored(found, row[[word.position for word in found]])
            for found, row in zip(words, log_probs, strict=True)
        ]

    def _spans(self, words: Sequence[TaggedWord], log_probs: Floats) -> list[Span]:
        tags = [self._tags[number] for number in likeliest_tags(log_probs, self._is_allowed)]
        return join_tags(tags, [(word.start, word.end) for word in words], range(len(words)))

    def _shares(self, scored: _Scored, spans: Sequence[Span]) -> list[Floats]:
        starts = np.array([word.start for word in scored.words])
        return [
            label_shares(
                scored.log_probs[(starts >= span.start) & (starts < span.end)], self._is_of
            )
            for span in spans
        ]


def may_follow(tags: Sequence[str]) -> NDArray[np.bool_]:
    """Which tag (column) may stand behind which (row): nothing goes on as another kind."""
    parts = [split_tag(tag) for tag in tags]
    return np.array(
        [
            [prefix in ("", *BEGINNING) or before in (label, NO_ENTITY) for prefix, label in parts]
            for _, before in parts
        ]
    )


def likeliest_tags(log_probs: Floats, is_allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The likeliest sequence of tags in which each may follow the last (Viterbi).

    `log_probs` has a row for each word and a column for each tag.
    """
    best: NDArray[np.int64] = log_probs.argmax(axis=1)
    if is_allowed[best[:-1], best[1:]].all():
        return best
    barred = np.where(is_allowed, 0.0, -np.inf)
    score, origins = log_probs[0], []
    for row in log_probs[1:]:
        reached = score[:, None] + barred
        origins.append(reached.argmax(axis=0))
        score = reached.max(axis=0) + row
    best[-1] = score.argmax()
    for number in range(len(origins), 0, -1):
        best[number - 1] = origins[number - 1][best[number]]
    return best


def label_shares(log_probs: Floats, is_of: Floats) -> Floats:
    """The share of each label in a span, from its words; `is_of` has tags as rows."""
    by_label = np.log(np.exp(log_probs) @ is_of + 1e-12).sum(axis=0)
    shares: Floats = np.exp(by_label - by_label.max())
    shares /= shares.sum()
    return shares


def agree_in_documents(
    texts: Sequence[str],
    spans: Sequence[Sequence[Span]],
    shares: Sequence[Sequence[Floats]],
    documents: Sequence[int],
    labels: Sequence[str],
) -> list[list[Span]]:
    """Give all names written alike in a document the label that they have on average.

    Every text has its spans and, for each of them, the shares of the labels.
    """
    totals: dict[tuple[int, str], Floats] = {}
    names = [
        [(document, text[span.start : span.end]) for span in found]
        for document, text, found in zip(documents, texts, spans, strict=True)
    ]
    for name, share in zip(chain.from_iterable(names), chain.from_iterable(shares), strict=True):
        totals[name] = totals[name] + share if name in totals else share
    return [
        [
            span._replace(label=labels[int(totals[name].argmax())])
            for span, name in zip(found, own, strict=True)
        ]
        for found, own in zip(spans, names, strict=True)
    ]
