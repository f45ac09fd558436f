"""How does a reader learn to use a passage before REALM begins?

It reads sentences with a hidden salient span beside another passage that holds the hidden
words, and is asked for them twice: by the masked head, and by pointing at them with the span
head. The passages are found by BM25. After a few hundred steps the reader copies, and from the
first REALM step on a helpful passage makes a difference.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from realm.artifact import create_artifact, open_artifact
from realm.config import Settings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.cloze_question import OTHER, QUESTION_WORDS, ClozeQuestionMaker
from realm.examples.held_out import split_rows
from realm.examples.masked_query import MaskedQuery, mask_query, stack_targets
from realm.examples.masking import Masking, SalientSpanMasker
from realm.examples.packing import Packed
from realm.examples.stream import generator_at
from realm.examples.wordpieces import occurrences
from realm.index.encode import pack_joint
from realm.models.checkpoint import Model
from realm.models.marginal import mean_over_targets, positive_log_likelihood
from realm.models.reader import masked_log_probs, read, span_scores
from realm.retrieval.candidates import NULL_ROW
from realm.retrieval.lexical import LexicalIndex
from realm.spans.annotate import SpanStore
from realm.training.distributed import join_group

KIND = "reading-pairs"
_PAIRS = "pairs.npy"
_AT_ONCE = 256
_NO_TARGETS = np.empty(0, dtype=np.int64)
_PAIR = np.dtype([("row", "<i8"), ("span", "<i4"), ("evidence", "<i8")])


class ReadingSettings(Settings):
    """Where reading pairs come from and how they are read."""

    batch_size: int = Field(default=16, ge=1)
    num_queries: int = Field(default=20_000, ge=1)
    """Masked sentences for which evidence is looked for."""
    depth: int = Field(default=20, ge=1)
    """How far down BM25's ranking evidence is looked for."""
    null_share: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of examples read beside the null passage, to keep plain guessing calibrated."""
    question_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of examples that are made questions, answered by pointing alone; none in the paper."""
    question_words: dict[str, tuple[str, ...]] = QUESTION_WORDS
    """How a made question begins, by the label of what is asked for; `other` for the rest."""
    max_masks: int = Field(default=10, ge=1)
    token_budget: int = Field(default=4096, ge=1)

    @model_validator(mode="after")
    def _shares_and_words_suffice(self) -> Self:
        if self.null_share + self.question_share > 1:
            raise ValueError("null_share and question_share are shares of one whole: at most 1")
        if not self.question_words.get(OTHER) or not all(self.question_words.values()):
            raise ValueError(f"question_words needs words for every label, and for {OTHER!r}")
        return self


class ReadingExample(NamedTuple):
    """What is read, and where in its body the answer stands: first wordpieces and widths."""

    query: MaskedQuery
    joint: Packed
    places: list[tuple[int, int]]


def mine_reading_pairs(
    path: Path,
    store: PassageStore,
    spans: SpanStore,
    lexical: LexicalIndex,
    settings: ReadingSettings,
    *,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Look for evidence for randomly chosen salient spans; `on_progress` gets queries done."""
    inputs = {
        "corpus": store.fingerprint,
        "spans": spans.manifest.fingerprint,  # a pair names its span by number
        "lexical": lexical.manifest.fingerprint,
    }
    with create_artifact(path, KIND, settings=settings.model_dump(), inputs=inputs) as staging:
        chosen = _choose_spans(store, spans, settings.num_queries, seed)
        found: list[tuple[int, int, int]] = []
        for begin in range(0, len(chosen), _AT_ONCE):
            found += _with_evidence(
                chosen[begin : begin + _AT_ONCE], store, spans, lexical, settings
            )
            if on_progress is not None:
                on_progress(min(begin + _AT_ONCE, len(chosen)))
        if not found:
            raise SourceError(
                "no masked name or date stands in a second passage: this corpus repeats nothing, "
                "so there is nothing to learn retrieval from; add documents that overlap"
            )
        np.save(staging.path / _PAIRS, np.array(found, dtype=_PAIR))
        staging.counts.update(num_queries=len(chosen), num_pairs=len(found))
    return open_reading_pairs(path)


def open_reading_pairs(path: Path) -> np.ndarray:
    """Masked spans, each with another passage in which the same words stand."""
    open_artifact(path, KIND)
    pairs: np.ndarray = np.load(path / _PAIRS)
    return pairs


class ReadingObjective:
    """Restore the hidden words, and point at them, beside a passage that holds them."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        spans: SpanStore,
        pairs: np.ndarray,
        settings: ReadingSettings,
        *,
        seed: int,
    ) -> None:
        self.model, self.settings = model, settings
        self._store, self._spans, self._pairs = store, spans, pairs
        self._masker = SalientSpanMasker(store, spans)
        self._asker = ClozeQuestionMaker(store, spans, settings.question_words)
        self._rows = _rows_to_learn_from(store, spans)
        self._seed, self._group = seed, join_group()

    def trainable(self) -> nn.Module:
        """The reader alone."""
        return nn.ModuleDict({"reader": self.model.reader})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of a hidden wordpiece, plus that of pointing at the words."""
        model, settings, size = self.model, self.settings, self.settings.batch_size
        chosen = self._group.batch_at(len(self._pairs), size, step=step, seed=self._seed)
        examples = [self._example(self._pairs[i], int(i), step) for i in chosen]
        targets = stack_targets([example.query for example in examples])
        joints = [example.joint for example in examples]
        groups = read(model.reader, joints, packer=model.packer, token_budget=settings.token_budget)
        log_probs = masked_log_probs(
            model.reader, groups, targets.positions, targets.ids, targets.is_target
        )
        is_target = targets.is_target.to(log_probs.device)
        masked = -mean_over_targets(log_probs, is_target)
        scores, _ = span_scores(model.reader, groups)
        gold = torch.zeros_like(scores, dtype=torch.bool)
        for number, example in enumerate(examples):
            for first, width in example.places:
                gold[number, first, width - 1] = True
        pointed = _mean_pointing_loss(scores.flatten(1), gold.flatten(1))
        return masked + pointed, {
            "masked_loss": float(masked.detach()),
            "span_loss": float(pointed.detach()),
        }

    def _example(self, pair: np.void, index: int, step: int) -> ReadingExample:
        generator = generator_at(step, self._seed, index)
        draw = generator.random()
        if draw >= 1 - self.settings.question_share:
            return self._question(generator)
        row, evidence = int(pair["row"]), int(pair["evidence"])
        masking = self._masker.masking(row, self._spans.of(row)[pair["span"]])
        query = mask_query(
            self._store, self.model.packer, row, masking, max_masks=self.settings.max_masks
        )
        if draw < self.settings.null_share:
            return ReadingExample(query, self._joint(query.ids, NULL_ROW), [])
        joint = self._joint(query.ids, evidence)
        return ReadingExample(
            query, joint, self._places(joint, self._store.token_ids(row)[masking.hidden])
        )

    def _question(self, generator: np.random.Generator) -> ReadingExample:
        row = int(self._rows[generator.integers(len(self._rows))])
        question, answer = self._asker.ask(row, generator)
        joint = self._joint(question, row)
        query = MaskedQuery(row, question, positions=_NO_TARGETS, targets=_NO_TARGETS)
        return ReadingExample(query, joint, self._places(joint, answer))

    def _joint(self, query: np.ndarray, row: int) -> Packed:
        return pack_joint(self._store, self.model.packer, query, row)

    def _places(self, joint: Packed, answer: np.ndarray) -> list[tuple[int, int]]:
        """Where the answer stands in what is shown; nowhere if it is too long to point at."""
        if len(answer) > self.model.reader.settings.max_answer_tokens:
            return []
        shown = joint.ids[joint.body_start : joint.body_end]
        return [(int(place), len(answer)) for place in occurrences(shown, answer)]


def _rows_to_learn_from(store: PassageStore, spans: SpanStore) -> np.ndarray:
    """Passages with a span; those that measure pre-training are left out."""
    train, _ = split_rows(spans.rows_with_spans(), store)
    return train


def _choose_spans(
    store: PassageStore, spans: SpanStore, num_queries: int, seed: int
) -> list[tuple[int, int]]:
    """Passages in random order with a random span each; a small corpus is gone through again."""
    rows = np.random.default_rng((seed, 30)).permutation(_rows_to_learn_from(store, spans)).tolist()
    chosen: dict[tuple[int, int], None] = {}
    for turn in range(-(-num_queries // max(1, len(rows)))):
        for row in rows[: num_queries - turn * len(rows)]:
            span = int(generator_at(turn, seed, row).integers(len(spans.of(row))))
            chosen[row, span] = None
    return list(chosen)


def _with_evidence(
    chosen: Sequence[tuple[int, int]],
    store: PassageStore,
    spans: SpanStore,
    lexical: LexicalIndex,
    settings: ReadingSettings,
) -> list[tuple[int, int, int]]:
    """For each span, the best other passage of the ranking that holds its words."""
    hashes, masker = store.content_hashes(), SalientSpanMasker(store, spans)
    maskings = [masker.masking(row, spans.of(row)[span]) for row, span in chosen]
    texts = [
        sentence_text(store, row, masking)
        for (row, _), masking in zip(chosen, maskings, strict=True)
    ]
    rankings, _ = lexical.search(texts, settings.depth + 1)
    result = []
    for (row, span), masking, ranking in zip(chosen, maskings, rankings, strict=True):
        wanted = store.token_ids(row)[masking.hidden]
        others = (int(r) for r in ranking if r >= 0 and hashes[r] != hashes[row])
        evidence = next((r for r in others if len(occurrences(store.token_ids(r), wanted))), None)
        if evidence is not None:
            result.append((row, span, evidence))
    return result


def sentence_text(store: PassageStore, row: int, masking: Masking) -> str:
    """The text of a masked sentence, without what is hidden in it."""
    spans, text = store.token_spans(row), store.passage(row).text
    start, end = spans[masking.sentence_start][0], spans[masking.sentence_end - 1][1]
    first, last = spans[masking.hidden[0]][0], spans[masking.hidden[-1]][1]
    return f"{text[start:first]} {text[last:end]}"


def _mean_pointing_loss(scores: Tensor, gold: Tensor) -> Tensor:
    """Mean over the examples that have something to point at."""
    count = gold.any(dim=-1).sum().clamp(min=1)
    # Examples beside the null passage have no spans at all: their -inf rows are left out.
    has_spans = scores.isfinite().any(dim=-1)
    if not has_spans.any():  # a zero with a gradient, as other processes have one
        return scores.masked_fill(scores.isinf(), 0.0).sum()
    return -positive_log_likelihood(scores[has_spans], gold[has_spans]).sum() / count
