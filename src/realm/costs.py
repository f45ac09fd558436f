"""What does one step of a training cost, and one pass over a corpus?

Counted from the lengths that texts have, batched and padded as the program does it: operations
of the trunks, of both heads, of the search and of the optimiser, at the rates of a machine.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from realm.errors import ResourceError
from realm.examples.packing import length_batches
from realm.experiment import Experiment, TrunkSettings
from realm.index.encode import BLOCK
from realm.machine import PASSES, Shape, Use
from realm.models.embedder import quick_token_budget
from realm.models.precision import shape_of_config
from realm.models.trunk import OWN_TRUNK, find_trunk
from realm.openqa.objective import OpenQaSettings
from realm.pretraining.masked_language import MaskedLanguageSettings
from realm.pretraining.objective import RealmSettings
from realm.pretraining.reading import ReadingSettings
from realm.pretraining.warm_start import TEACHER_SENTENCES, InverseClozeSettings
from realm.rates import Machine
from realm.training.loop import LoopSettings
from realm.workload import Workload

_DRAWS = 8  # steps that stand for all: lengths differ from batch to batch
_MASKS = 2.7  # wordpieces of a hidden span, on average of names and dates in Wikipedia
_LEFT_OUT = 5 / 6  # of a layer, whose keys and values alone are needed of every position
_RECOMPUTED = 4 / 3  # a training pass that runs forward twice
_NULL_JOINT = 1  # what it adds to a query
_KNOWN_TRUNKS = {"google-bert/bert-base-uncased": (768, 12, 3072, 12, 30522)}


@dataclass(frozen=True)
class Trunk:
    """What the cost of an encoder depends on."""

    shape: Shape
    num_layers: float
    """Of the last one a part, where only a few of its states are computed."""
    vocab: int

    @property
    def num_weights(self) -> float:
        """Of the layers and the word embeddings, positions included."""
        width = self.shape.width
        layer = 4 * width**2 + 2 * width * self.shape.inner + 9 * width + self.shape.inner
        return self.num_layers * layer + (self.vocab + 514) * width


@dataclass
class Step:
    """Seconds by part, and bytes that stand between forward and backward."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    kept_bytes: float = 0.0

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(self.seconds.values())

    def longest(self, number: int) -> list[tuple[str, float]]:
        """The parts that take most of the time."""
        return sorted(self.seconds.items(), key=lambda part: -part[1])[:number]


def trunk_of(name: str) -> Trunk:
    """Read a trunk's shape, without its weights and without a download.

    Raises:
        ResourceError: it is not on this machine.
    """
    from transformers import AutoConfig

    folder = find_trunk(name)
    if folder is not None:
        # The file itself may call these by other names: DistilBERT's width is its "dim".
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return Trunk(shape_of_config(config), int(config.num_hidden_layers), int(config.vocab_size))
    if name not in _KNOWN_TRUNKS:
        raise ResourceError(f"the trunk {name} is not on this machine: plan with a local folder")
    width, heads, inner, num_layers, vocab = _KNOWN_TRUNKS[name]
    return Trunk(Shape(width, heads, inner), num_layers, vocab)


def own_trunk(settings: TrunkSettings) -> Trunk:
    """The trunk that a run trains itself, with the vocabulary of another one."""
    shape = settings.shape
    layer = Shape(shape.width, shape.num_heads, shape.inner_width)
    return Trunk(layer, shape.num_layers, trunk_of(settings.vocabulary_of).vocab)


def trunks_of(experiment: Experiment) -> tuple[Trunk, Trunk]:
    """The trunks that the embedder and the reader start from.

    Raises:
        ResourceError: one of them is not on this machine.
    """
    embedder, reader = (
        own_trunk(experiment.trunk) if half.trunk == OWN_TRUNK else trunk_of(half.trunk)
        for half in (experiment.embedder, experiment.reader)
    )
    num_layers = experiment.reader.num_layers or reader.num_layers
    return embedder, replace(reader, num_layers=num_layers)


class Costs:
    """The work of one recipe on one machine."""

    def __init__(self, experiment: Experiment, work: Workload, machine: Machine) -> None:
        self.experiment, self.work, self.machine = experiment, work, machine
        self.embedder, self.reader = trunks_of(experiment)
        self.width = experiment.embedder.projection_width or self.embedder.shape.width
        self.trunk_rests = experiment.warm_start.embedder.objective.trains == "projection"
        self._draw = np.random.default_rng(0)

    def rests_throughout(self, settings: RealmSettings) -> bool:
        """Whether the embedder's trunk stays as it came, in pre-training too."""
        return self.trunk_rests and settings.embedder_trains == "projection"

    def keeps_vectors(self, settings: RealmSettings) -> bool:
        """Whether a pre-training step projects vectors that the trunk made before it."""
        return self.rests_throughout(settings) and not self.experiment.embedder.dropout

    def masked_language(
        self, settings: MaskedLanguageSettings, loop: LoopSettings, use: Use = "training"
    ) -> Step:
        """Passages alone or behind a sentence, with a share of them asked for."""
        step, size = Step(), self._own_share(settings.batch_size)
        trunk, num_pairs = own_trunk(self.experiment.trunk), round(size * settings.pair_share)
        alone = self._draw.choice(self.work.passages, size - num_pairs)
        texts = np.concatenate((alone, self._joints(self.work.sentences, num_pairs, 0)))
        asked = _at_few_places(trunk)
        self._encode(step, asked, texts, len(texts), use, settings.token_budget, loop)
        self._fill_masks(step, trunk, settings.masked_share * float(texts.sum()), use)
        if use == "training":
            self._move(step, trunk.num_weights)
        return step

    def inverse_cloze(self, settings: InverseClozeSettings, loop: LoopSettings) -> Step:
        """Sentences and the passages that they come from; perhaps a teacher's rankings."""
        use: Use = "training" if settings.trains == "all" else "forward"
        step, size = Step(), self._own_share(settings.batch_size)
        are_kept = use == "forward" and settings.removal_rate == 0  # the passages, as they are
        for lengths in (self.work.sentences, *([] if are_kept else [self.work.passages])):
            self._encode(step, self.embedder, lengths, size, use, settings.token_budget, loop)
        if settings.corpus_passages:
            rates = self.machine.matrix_teraflops
            width, products = self.width, size + self.embedder.shape.width
            operations = 6.0 * settings.corpus_passages * width * products
            step.seconds["passages of the corpus"] += operations / (1e12 * rates["fp32"])
        if settings.teacher_share:
            shape, pairs = self.embedder.shape, settings.teacher_queries * settings.teacher_passages
            operations = 2.0 * pairs * (3 * self.width + shape.width)
            operations += 6.0 * settings.teacher_passages * shape.width * self.width
            step.seconds["teacher"] += operations / (1e12 * self.machine.matrix_teraflops["fp32"])
            step.seconds["teacher"] += pairs / self.machine.span_numbers
        whole = self.embedder.num_weights * self.num_towers if use == "training" else 0.0
        self._move(step, whole + self.embedder.shape.width * self.width)
        return step

    def reading(self, settings: ReadingSettings, loop: LoopSettings) -> Step:
        """Masked sentences beside passages, asked for twice, and perhaps questions made of some."""
        step, size = Step(), self._own_share(settings.batch_size)
        alone = round(size * settings.null_share)
        joints = self._joints(self.work.sentences, size - alone, alone)
        tokens = self._encode(
            step, self.reader, joints, size, "training", settings.token_budget, loop
        )
        masked = size * (1 - settings.question_share)
        self._fill_masks(step, self.reader, masked * _MASKS, "training")
        self._point(step, tokens, "training")
        self._move(step, self.reader.num_weights)
        return step

    def realm(self, settings: RealmSettings, loop: LoopSettings, use: Use = "training") -> Step:
        """Queries, the passages that they retrieve, and each pair of them read."""
        step, budget = Step(), settings.token_budget
        size, found = self._own_share(settings.batch_size), settings.num_candidates - 1
        embedding: Use = use if settings.embedder_trains == "all" else "forward"
        if settings.retrieves:
            self._encode(step, self.embedder, self.work.sentences, size, embedding, budget, loop)
            self._search(step, size)
        run = 0 if self.keeps_vectors(settings) else size * found
        self._encode(step, self.embedder, self.work.passages, run, embedding, budget, loop)
        joints = self._joints(self.work.sentences, size * found, size)
        asked = _at_few_places(self.reader)
        self._encode(step, asked, joints, len(joints), use, budget, loop)
        self._fill_masks(step, self.reader, len(joints) * _MASKS, use)
        if use == "training":
            whole = self.embedder.num_weights * self.num_towers if embedding == use else 0.0
            self._move(step, self.reader.num_weights + whole + self.width * self.width)
        return step

    def open_qa(self, settings: OpenQaSettings, loop: LoopSettings, use: Use = "training") -> Step:
        """Questions, and the best passages of each read."""
        step, budget = Step(), settings.token_budget
        size = self._own_share(settings.batch_size)
        self._encode(step, self.embedder, self.work.questions, size, use, budget, loop)
        self._search(step, size)
        joints = self._joints(self.work.questions, size * settings.reader_passages, size)
        tokens = self._encode(step, self.reader, joints, len(joints), use, budget, loop)
        self._point(step, tokens, use)
        if use == "training":
            self._move(step, self.reader.num_weights + self.embedder.num_weights)
        return step

    def embed(self, lengths: np.ndarray, number: float) -> float:
        """Seconds of embedding so many texts in blocks, forward alone, on one device."""
        block = Step()
        size = round(min(number, BLOCK))
        if not size:
            return 0.0
        budget = quick_token_budget(self.machine.device)
        self._encode(block, self.embedder, lengths, size, "forward", budget, None)
        return block.total * number / size

    def teacher_sentences(self) -> float:
        """Seconds of reading the sentences that a teacher's queries are drawn from."""
        number = min(TEACHER_SENTENCES, 4 * self.work.num_passages)
        return self.embed(self.work.sentences, number)

    def project(self, number: float) -> float:
        """Seconds of projecting kept vectors, read from and written to the disk in half width."""
        widths = self.embedder.shape.width + self.width
        return 2.0 * number * widths / self.machine.written_bytes

    @property
    def num_towers(self) -> int:
        """Embedders that the model has: one for both sides, or one for each."""
        return 1 if self.experiment.embedder.shared_towers else 2

    def _own_share(self, batch_size: int) -> int:
        """What one of the devices takes of a batch."""
        return max(1, round(batch_size / self.machine.num_devices))

    def _joints(self, queries: np.ndarray, number: int, num_alone: int) -> np.ndarray:
        """Lengths of pairs, and of queries that are read beside the null passage."""
        drawn = self._draw.choice(queries, number + num_alone)
        passages = self._draw.choice(self.work.passages, number)
        if not self.experiment.packing.title_in_joint:
            passages = passages.clip(max=self.experiment.corpus.passage_tokens)
        added = np.concatenate((passages - 1, np.full(num_alone, _NULL_JOINT)))
        joints: np.ndarray = drawn + added
        return joints

    def _encode(
        self, step: Step, trunk: Trunk, lengths: np.ndarray, number: int, use: Use, budget: int,
        loop: LoopSettings | None,
    ) -> float:  # fmt: skip
        """Add a trunk's work on a batch of inputs; return its padded wordpieces."""
        if number == 0:  # where nothing is retrieved
            return 0.0
        padded = _padded(lengths, number, budget, self.machine.device, self._draw)
        tokens = sum(rows * length for rows, length in padded)
        is_recomputed = use == "training" and loop is not None and loop.recompute
        seconds = trunk.num_layers * sum(
            rows * length / self.machine.tokens_a_second(trunk.shape, length, use)
            for rows, length in padded
        )
        step.seconds["trunks"] += seconds * (_RECOMPUTED if is_recomputed else 1.0)
        if use == "training":
            # With recomputation only one part is held at a time.
            held = min(tokens, budget) if is_recomputed else tokens
            length = round(tokens / sum(rows for rows, _ in padded))
            kept = self.machine.kept_bytes(trunk.shape, length)
            step.kept_bytes += held * trunk.num_layers * kept
        return tokens

    def _fill_masks(self, step: Step, trunk: Trunk, num_masks: float, use: Use) -> None:
        width, numbers = trunk.shape.width, num_masks * trunk.vocab
        step.seconds["masked head"] += (
            PASSES[use] * 2.0 * numbers * width / self.machine.product_flops(use)
        )
        step.seconds["masked head"] += PASSES[use] / 3 * numbers / self.machine.span_numbers
        if use == "training":
            step.kept_bytes += 8.0 * numbers

    def _point(self, step: Step, tokens: float, use: Use) -> None:
        settings = self.experiment.reader
        numbers = tokens * settings.max_answer_tokens * settings.span_width
        step.seconds["span head"] += PASSES[use] / 3 * numbers / self.machine.span_numbers
        if use == "training":
            step.kept_bytes += 6.0 * numbers  # three tensors in half precision

    def _search(self, step: Step, num_queries: int) -> None:
        step.seconds["search"] += self.machine.search_seconds(
            self.work.num_passages, num_queries, self.width
        )

    def _move(self, step: Step, num_weights: float) -> None:
        step.seconds["optimiser"] += num_weights / self.machine.weights


def _at_few_places(trunk: Trunk) -> Trunk:
    """A trunk of whose last layer only the masked positions are computed."""
    return replace(trunk, num_layers=trunk.num_layers - _LEFT_OUT)


def _padded(
    lengths: np.ndarray, number: int, budget: int, device: str, draw: np.random.Generator
) -> Sequence[tuple[float, int]]:
    """Inputs of a mean batch by padded length, from a few batches that are drawn."""
    count: Counter[int] = Counter()
    for _ in range(_DRAWS):
        drawn = draw.choice(lengths, number) if number != len(lengths) else lengths
        for group in length_batches(drawn.tolist(), budget, device):
            count[int(drawn[group[0]])] += len(group)
    return [(rows / _DRAWS, length) for length, rows in count.items()]
