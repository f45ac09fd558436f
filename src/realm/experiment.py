"""What does a whole experiment consist of?

Every stage's settings in one value, read from a recipe (TOML), changed by `--set a.b=c` and kept
in the run. No stage imports this: each is given its own settings.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from realm.config import Settings, override, read_settings, read_toml
from realm.corpus.passages import CorpusSettings
from realm.errors import SettingError
from realm.examples.packing import PackingSettings
from realm.index.snapshot import IndexSettings
from realm.models.embedder import EmbedderSettings
from realm.models.own_trunk import TrunkShape
from realm.models.precision import ComputeSettings
from realm.models.reader import ReaderSettings
from realm.models.trunk import DEFAULT_TRUNK, OWN_TRUNK
from realm.openqa.objective import OpenQaSettings
from realm.openqa.question_pairs import QuestionPairSettings
from realm.pretraining.masked_language import MaskedLanguageSettings
from realm.pretraining.reading import ReadingSettings
from realm.pretraining.run import PretrainSettings
from realm.pretraining.warm_start import InverseClozeSettings
from realm.retrieval.lexical import LexicalSettings
from realm.retrieval.retriever import RetrievalSettings
from realm.spans.annotate import SpanSettings
from realm.training.loop import LoopSettings

BEST_FINETUNED_BY = "development_exact_match"
"""What the best fine-tuned checkpoint is greatest in."""
_RECIPES = Path(__file__).parent / "recipes"
_DEMO = Path(__file__).parent / "demo"


class PackingChoices(Settings):
    """What a recipe may choose of the packing; the passage length is the corpus's own."""

    query_tokens: int = Field(default=64, ge=8)
    title_in_passage: bool = True
    joint_tokens: int | None = Field(default=None, ge=16)
    title_in_joint: bool = True
    segments: str = Field(default="single", pattern="^(single|separate)$")


class TrunkSettings(Settings):
    """The trunk that a run trains from nothing: for `embedder.trunk` or `reader.trunk` = "own"."""

    shape: TrunkShape = TrunkShape()
    vocabulary_of: str = DEFAULT_TRUNK
    """The trunk, by name or path, whose tokenizer is taken; its weights are not."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """While it is trained; the halves that start from it have their own."""
    loop: LoopSettings = LoopSettings(num_steps=0)
    objective: MaskedLanguageSettings = MaskedLanguageSettings()
    num_held_out: int = Field(default=0, ge=0)
    """Passages, of documents that do not train, on which the loss is measured at every checkpoint;
    where it rises while the loss in training falls, the corpus is too small for the steps."""


class EmbedderWarmStart(Settings):
    """The first half of the warm start: where the embedder starts, and the inverse cloze task."""

    principal_components_sample: int = Field(default=4000, ge=0)
    """Passages from whose trunk vectors the projection starts; 0 leaves it random."""
    projection_start: Literal["components", "half-whitened"] = "components"
    """Of the sample's vectors as they are, or after a few directions that all passages share are
    softened: a trunk that has only restored words has little else in its first components."""
    loop: LoopSettings = LoopSettings(num_steps=200)
    objective: InverseClozeSettings = InverseClozeSettings()


class ReaderWarmStart(Settings):
    """The second half of the warm start: reading beside evidence."""

    loop: LoopSettings = LoopSettings(num_steps=600)
    objective: ReadingSettings = ReadingSettings()


class WarmStartSettings(Settings):
    """Both halves of the warm start."""

    embedder: EmbedderWarmStart = EmbedderWarmStart()
    questions: QuestionPairSettings | None = None
    """Where given, the embedder learns from the training questions instead of the inverse cloze
    task, in the same loop and batches: a supervised retriever, to compare with."""
    reader: ReaderWarmStart = ReaderWarmStart()


class FinetuneSettings(Settings):
    """Fine-tuning on questions."""

    loop: LoopSettings = LoopSettings(num_steps=1000)
    objective: OpenQaSettings = OpenQaSettings()
    retriever_from: Literal["start", "warm-start", "pretrain"] = "pretrain"
    """The checkpoint whose retriever is fine-tuned; an earlier one undoes REALM (table 2)."""
    reader_from: Literal["start", "warm-start", "pretrain"] = "pretrain"
    """The checkpoint whose reader is fine-tuned."""
    reader_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Dropout in the reader's trunk while questions are few; None leaves it as in pre-training."""
    num_development_questions: int = Field(default=0, ge=0)
    """Questions of the first of `dev_questions` on which exact match is measured at every
    checkpoint; 0 measures none."""


class SelectionSettings(Settings):
    """Which checkpoint of a finished training is used."""

    pretrain: Literal["latest", "best"] = "latest"
    """`best` in retrieval utility of held-out passages."""
    finetune: Literal["latest", "best"] = "latest"
    """`best` in exact match of the development questions, as released."""


class Experiment(ComputeSettings):
    """All settings of a run, by stage, in the order in which data passes through.

    What to compute with is for embedding and answering; a training has its own in its `loop`.
    """

    sources: tuple[str, ...] = ()
    """Documents: folders, files or `hub:` data sets."""
    pretrain_sources: tuple[str, ...] = ()
    """Documents that pre-training's queries come from (X of the paper), where they are others than
    those that are retrieved (Z)."""
    train_questions: tuple[str, ...] = ()
    dev_questions: tuple[str, ...] = ()
    corpus: CorpusSettings = CorpusSettings(passage_tokens=160)
    spans: SpanSettings = SpanSettings()
    lexical: LexicalSettings = LexicalSettings()
    packing: PackingChoices = PackingChoices()
    trunk: TrunkSettings = TrunkSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    reader: ReaderSettings = ReaderSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    index: IndexSettings = IndexSettings()
    pretrain: PretrainSettings = PretrainSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    selection: SelectionSettings = SelectionSettings()

    @model_validator(mode="after")
    def _best_is_measured(self) -> Self:
        if self.selection.pretrain == "best" and not self.pretrain.num_held_out:
            raise ValueError('selection.pretrain = "best" needs pretrain.num_held_out')
        return self

    @model_validator(mode="after")
    def _own_trunk_is_trained(self) -> Self:
        if self.has_own_trunk and not self.trunk.loop.num_steps:
            raise ValueError('a trunk = "own" has to be trained: set trunk.loop.num_steps')
        if self.embedder.trunk == OWN_TRUNK and self.embedder.pooling == "pooler":
            raise ValueError('trunk = "own" trains no pooler: set embedder.pooling to cls or mean')
        return self

    @property
    def has_own_trunk(self) -> bool:
        """Whether a half starts from a trunk that the run trains itself."""
        return OWN_TRUNK in (self.embedder.trunk, self.reader.trunk)

    @property
    def is_pretrained_here(self) -> bool:
        """Whether the documents teach the run anything: those of an import do not."""
        warm = self.warm_start
        loops = (warm.embedder.loop, warm.reader.loop, self.pretrain.loop)
        return any(loop.num_steps for loop in loops)

    @property
    def vocabulary_of(self) -> str:
        """The trunk whose tokenizer cuts the corpus."""
        own = self.embedder.trunk == OWN_TRUNK
        return self.trunk.vocabulary_of if own else self.embedder.trunk

    @property
    def packing_settings(self) -> PackingSettings:
        """The packing of this run, with the passage length of its corpus."""
        choices = self.packing.model_dump()
        return PackingSettings(passage_tokens=self.corpus.passage_tokens, **choices)


def read_recipe(name: str, assignments: Sequence[str] = ()) -> Experiment:
    """Read a recipe by path, or by the name of one that ships with the package."""
    values = read_toml(_find_recipe(name))
    return read_settings(Experiment, override(values, assignments), origin=f"recipe {name}")


def with_overrides(experiment: Experiment, assignments: Sequence[str]) -> Experiment:
    """The same experiment with some settings changed."""
    values: dict[str, Any] = experiment.model_dump(mode="json")
    return read_settings(Experiment, override(values, assignments), origin="--set")


def expand(path: str) -> str:
    """Fill in `${REALM_DATA}`, data for experiments, and `${REALM_DEMO}`, which ships."""
    data = os.environ.get("REALM_DATA", "../shared/data")
    return path.replace("${REALM_DATA}", data).replace("${REALM_DEMO}", str(_DEMO))


def _find_recipe(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    shipped = _RECIPES / f"{path.stem}.toml"
    if not shipped.is_file():
        known = ", ".join(sorted(file.stem for file in _RECIPES.glob("*.toml")))
        raise SettingError(f"there is no recipe {name}: give a file or one of {known}")
    return shipped
