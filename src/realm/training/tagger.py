"""How does an encoder learn to tag the entities that pre-training hides (section 3.4)?

The paper's tagger is a BERT fine-tuned on CoNLL-2003. This one starts from any trunk and learns
from any files of tagged words, also several whose annotators looked for different labels: where
a file says "no entity", that is no word against the labels that it never uses. Before them it may
learn from articles that mark themselves. The result is an ordinary token classification folder of
`transformers`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn

from realm.artifact import create_artifact, fingerprint_of
from realm.config import Settings
from realm.index.trunk_vectors import names_of
from realm.kernels import use_attention, use_quick_dropout
from realm.machine import default_device
from realm.models.precision import ComputeSettings, choose_compute, shape_of
from realm.models.trunk import load_trunk, max_positions, read_tokenizer
from realm.progress import Advance, Progress, no_progress
from realm.spans.capitals import with_capitals
from realm.spans.conll import TaggedFile, TaggedSentence
from realm.spans.entities import NO_ENTITY, words_of
from realm.training.average import WeightAverage
from realm.training.distributed import ProcessGroup
from realm.training.optim import Optimizer, OptimSettings, rate_factor
from realm.training.unfinished import Unfinished

KIND = "tagger"
STEPS_BETWEEN_SAVES = 100
_ALONE = ProcessGroup()  # minutes on one machine need no group
# Batches of sentences of like length hold little padding; more at once would make them alike.
_BATCHES_SORTED_TOGETHER = 16
_SENTENCE_TOKENS = 32  # of a typical sentence, for the choice of what is quickest


class TaggerSettings(Settings):
    """How long and how fast a tagger learns."""

    num_epochs: int = Field(default=7, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = 2e-4
    dropout: float = 0.1
    num_articles: int = Field(default=8000, ge=4)
    """Articles that are learned from before the files, where any are given."""
    num_trainings: int = Field(default=1, ge=1)
    """Trainings on the files, in other orders and with other dropout; the tagger is their mean."""
    seed: int = 0


@dataclass(frozen=True)
class _Example:
    """A sentence in wordpieces; for the first one of each word, which tags are right."""

    ids: np.ndarray
    positions: np.ndarray
    is_right: np.ndarray


@dataclass(frozen=True)
class _Lesson:
    """What is learned from with one rise and fall of the rate."""

    examples: list[_Example]
    num_epochs: int
    seed: int
    is_averaged: bool
    """Whether it is one of the trainings whose mean the tagger is."""

    def num_steps(self, batch_size: int) -> int:
        return self.num_epochs * -(-len(self.examples) // batch_size)


def train_tagger(
    path: Path,
    files: Sequence[TaggedFile],
    trunk: Path,
    settings: TaggerSettings,
    progress: Progress = no_progress,
    *,
    articles: TaggedFile | None = None,
) -> None:
    """Train on the sentences of all files and write the tagger to `path`.

    `trunk` is the folder of an encoder; `articles` are read once, before the files. A training
    that was stopped goes on from what stands beside `path` as `NAME.unfinished`, and ends as if
    it had not been.

    Raises:
        ResourceError: the trunk lacks weights.
        ArtifactError: the unfinished training had other settings, another trunk or other files.
    """
    everything = [*files, *([articles] if articles else [])]
    tags = tags_of(everything)
    tokenizer = with_capitals(read_tokenizer(trunk))
    find = partial(_examples, tags=tags, tokenizer=tokenizer, limit=max_positions(trunk))
    examples, seeds = find(files), range(settings.seed, settings.seed + settings.num_trainings)
    lessons = [_Lesson(examples, settings.num_epochs, seed, is_averaged=True) for seed in seeds]
    if articles:
        lessons.insert(0, _Lesson(find([articles]), 1, settings.seed, is_averaged=False))
    torch.manual_seed(settings.seed)
    model = _new_model(trunk, tags, settings.dropout)
    inputs = {"trunk": trunk.name, "data": ", ".join(file.name for file in everything)}
    learned_from = {
        "weights": names_of(model.base_model)["trunk"],
        "sentences": _fingerprint(everything),
    }
    unfinished = Unfinished(path, settings.model_dump(), {**inputs, **learned_from})
    optimizer, unfinished.compute = _start(model, settings, unfinished.compute)
    num_steps = sum(lesson.num_steps(settings.batch_size) for lesson in lessons)
    with progress("tagger steps", num_steps) as advance:
        average = _learn(model, optimizer, lessons, settings, unfinished, advance)
    with create_artifact(path, KIND, settings=settings.model_dump(), inputs=inputs) as staging:
        read_once = sum(len(lesson.examples) for lesson in lessons if not lesson.is_averaged)
        staging.counts.update(num_sentences=read_once + len(examples), num_steps=num_steps)
        model.float().load_state_dict(average.weights(), strict=False)
        model.save_pretrained(staging.path)
        _as_ordinary(tokenizer, trunk).save_pretrained(staging.path)
    unfinished.remove()


def _learn(
    model: Any,
    optimizer: Optimizer,
    lessons: Sequence[_Lesson],
    settings: TaggerSettings,
    unfinished: Unfinished,
    advance: Advance,
) -> WeightAverage:
    """Take every step that is left, and average what the trainings come to."""
    average = WeightAverage(settings.num_trainings)
    begin = unfinished.restore(optimizer, average)
    for step, (place, batch) in islice(enumerate(_steps(lessons, settings)), begin, None):
        if place.is_averaged and place.is_first:
            average.begin(optimizer)
        torch.manual_seed(settings.seed * 1_000_003 + step)
        loss = _loss(model, batch)
        loss.backward()
        optimizer.step(place.factor, _ALONE)
        if place.is_averaged and place.is_last:
            average.end(optimizer)
        if (step + 1) % STEPS_BETWEEN_SAVES == 0:
            unfinished.save(step + 1, optimizer, average)
        advance(step + 1, f"loss {float(loss.detach()):.3f}")
    return average


def _fingerprint(files: Sequence[TaggedFile]) -> str:
    return fingerprint_of([list(file.sentences) for file in files])


def tags_of(files: Sequence[TaggedFile]) -> list[str]:
    """The tags of a model for these files: `O` first, then two for each label."""
    labels = sorted({label for file in files for label in file.labels})
    return [NO_ENTITY, *(prefix + label for label in labels for prefix in ("B-", "I-"))]


def tag_loss(
    logits: Float[Tensor, "words tags"], is_right: Bool[Tensor, "words tags"]
) -> Float[Tensor, ""]:
    """Mean over the words of -log of the probability that one of the right tags is given."""
    log_probs = logits.float().log_softmax(dim=-1)
    return -log_probs.masked_fill(~is_right, -torch.inf).logsumexp(dim=-1).mean()


def _new_model(trunk: Path, tags: Sequence[str], dropout: float) -> Any:
    from transformers import AutoModelForTokenClassification

    encoder = load_trunk(trunk, dropout=dropout)
    config: Any = encoder.config
    config.id2label = dict(enumerate(tags))
    config.label2id = {tag: number for number, tag in enumerate(tags)}
    model = AutoModelForTokenClassification.from_config(config)
    model.base_model.load_state_dict(encoder.state_dict(), strict=False)
    # Half of a small trunk, of which a few thousand sentences show few rows.
    model.get_input_embeddings().requires_grad_(False)
    return model


def _start(
    model: nn.Module, settings: TaggerSettings, compute: dict[str, str]
) -> tuple[Optimizer, dict[str, str]]:
    """Take the masters, then let the model compute as before, or in what is quickest here."""
    model.to(default_device(), torch.float32)
    optimizer = Optimizer(model, OptimSettings(learning_rate=settings.learning_rate))
    wanted = ComputeSettings.model_validate(compute)
    chosen = choose_compute(wanted, shape_of(model), "training", _SENTENCE_TOKENS)
    use_attention(model, chosen.attention)
    use_quick_dropout(model)
    model.to(chosen.dtype).train()
    return optimizer, {"precision": chosen.precision, "attention": chosen.attention}


def _examples(
    files: Sequence[TaggedFile], tags: Sequence[str], tokenizer: Tokenizer, limit: int
) -> list[_Example]:
    tokenizer.enable_truncation(limit)
    examples = []
    for file in files:
        # "No entity" leaves open what the annotators of this file did not look for.
        is_outside = np.array([tag[2:] not in file.labels for tag in tags])
        right_by_tag = {NO_ENTITY: is_outside}
        right_by_tag |= {tag: np.array(tags) == tag for tag in tags[1:]}
        sentences = file.sentences
        encodings = tokenizer.encode_batch([sentence.text for sentence in sentences])
        for sentence, encoding in zip(sentences, encodings, strict=True):
            found = list(_tags_of_words(sentence, encoding))
            if found:  # a text of which nothing is known teaches nothing
                positions = np.array([position for position, _ in found])
                is_right = np.array([right_by_tag[tag] for _, tag in found])
                examples.append(_Example(np.array(encoding.ids), positions, is_right))
    tokenizer.no_truncation()
    return examples


def _tags_of_words(sentence: TaggedSentence, encoding: Encoding) -> Iterator[tuple[int, str]]:
    """The wordpiece of each word that `entities.join_tags` reads, with its tag."""
    begun = None
    for position, start, _ in words_of(encoding.offsets, encoding.word_ids):
        span = next((s for s in sentence.spans if s.start <= start < s.end), None)
        if span is not None:
            yield position, ("I-" if span is begun else "B-") + span.label
        elif not any(begin <= start < end for begin, end in sentence.unsure):
            yield position, NO_ENTITY
        begun = span


class _Place(NamedTuple):
    """Where in a lesson a step is, and at which share of the full rate it moves."""

    is_averaged: bool
    is_first: bool
    is_last: bool
    factor: float


def _steps(
    lessons: Sequence[_Lesson], settings: TaggerSettings
) -> Iterator[tuple[_Place, list[_Example]]]:
    """Every batch of all lessons."""
    warmup_share = OptimSettings().warmup_share
    for lesson in lessons:
        num_steps = lesson.num_steps(settings.batch_size)
        for step, batch in enumerate(_batches(lesson, settings.batch_size)):
            factor = rate_factor(step, num_steps, warmup_share)
            yield _Place(lesson.is_averaged, step == 0, step + 1 == num_steps, factor), batch


def _batches(lesson: _Lesson, size: int) -> Iterator[list[_Example]]:
    examples = lesson.examples
    for epoch in range(lesson.num_epochs):
        generator = np.random.default_rng((lesson.seed, epoch))
        order = generator.permutation(len(examples))
        lengths = np.array([len(examples[number].ids) for number in order])
        group = np.arange(len(order)) // (size * _BATCHES_SORTED_TOGETHER)
        order = order[np.lexsort((lengths, group))]
        begins = generator.permutation(range(0, len(order), size))
        for begin in begins.tolist():
            yield [examples[number] for number in order[begin : begin + size].tolist()]


def _loss(model: Any, batch: Sequence[_Example]) -> Tensor:
    device = default_device()
    ids, is_token = _pad(batch)
    logits = model(input_ids=ids.to(device), attention_mask=is_token.to(device)).logits
    rows = np.repeat(np.arange(len(batch)), [len(example.positions) for example in batch])
    positions = np.concatenate([example.positions for example in batch])
    is_right = torch.from_numpy(np.concatenate([example.is_right for example in batch]))
    return tag_loss(logits[rows, positions], is_right.to(device))


def _pad(
    batch: Sequence[_Example],
) -> tuple[Int[Tensor, "sentences length"], Int[Tensor, "sentences length"]]:
    length = max(len(example.ids) for example in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    is_token = torch.zeros_like(ids)
    for row, example in enumerate(batch):
        ids[row, : len(example.ids)] = torch.from_numpy(example.ids)
        is_token[row, : len(example.ids)] = 1
    return ids, is_token


def _as_ordinary(tokenizer: Tokenizer, trunk: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # Of no class that knows a model: such a one would put its own normaliser back.
    special = AutoTokenizer.from_pretrained(trunk, local_files_only=True).special_tokens_map
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_positions(trunk), **special
    )
