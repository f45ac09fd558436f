"""Which rows have the paper's tables, and what does each change in a recipe?

A row is a value: the settings in which it differs from REALM itself, as the recipe has it. All
rows are fine-tuned by the same recipe ("the same reader"), so that they differ in nothing else.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from realm.config import value_of
from realm.corpus.store import PassageStore
from realm.errors import SettingError
from realm.experiment import Experiment, with_overrides
from realm.models.trunk import DEFAULT_TRUNK, OWN_TRUNK

REALM = "realm"
STALER = 30  # times between refreshes, as in table 2
_SEEDED = ("warm_start.embedder.loop", "warm_start.reader.loop", "pretrain.loop", "finetune.loop")
_SAMPLED_PASSAGES = 2000
_NO_PRETRAINING = {"pretrain.loop.num_steps": 0}
_TRUNK_AT_REST = {  # how the recipe `small` starts from a sentence encoder
    "packing.segments": "single",
    "warm_start.embedder.loop.num_steps": 200,
    "warm_start.embedder.loop.optim.learning_rate": 3e-3,
    "warm_start.embedder.objective.trains": "projection",
    "warm_start.embedder.objective.teacher_share": 0.95,
    "pretrain.objective.embedder_trains": "projection",
}
_SUPERVISED_RATE = 5e-5  # of a whole trunk, where the recipe moves projections alone


@dataclass(frozen=True)
class Row:
    """One system of a table."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings by dotted name, as `--set` takes them; what is not named is as in the recipe."""
    paper: Mapping[str, float] = field(default_factory=dict)
    """The paper's figures in percent, by what they measure."""
    note: str = ""
    """How the row is made, for a reader of the table."""
    is_repeated: bool = False
    """Whether several seeds are worth their time: the two rows that the claim is about."""
    masks: str = ""
    """The name of its curve in figure 4, where it has one."""

    def experiment(self, recipe: Experiment, seed: int) -> Experiment:
        """The recipe with the changes of this row; every training has the seed added to its own.

        Raises:
            SettingError: the recipe does not admit a change.
        """
        seeds = {f"{loop}.seed": value_of(recipe, f"{loop}.seed") + seed for loop in _SEEDED}
        # What is compared is what an embedder finds: BM25 helps where a row says so.
        changes = {**seeds, "retrieval.lexical": False, **self.changes}
        assignments = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
        return with_overrides(recipe, assignments)


@dataclass(frozen=True)
class MeanLengths:
    """Wordpieces of a query cut from the corpus, and of a passage with its title."""

    query: float
    passage: float


def mean_lengths(store: PassageStore, recipe: Experiment) -> MeanLengths:
    """Measure a corpus, its sentences in a sample; both with their special wordpieces."""
    rows = np.linspace(0, len(store) - 1, min(len(store), _SAMPLED_PASSAGES)).astype(int)
    sentences = np.concatenate([np.diff(store.sentences(int(row)), axis=1)[:, 0] for row in rows])
    query = np.minimum(sentences + 2, recipe.packing.query_tokens).mean()
    passage = np.mean([len(store.token_ids(int(row))) for row in rows])
    title = np.mean([len(store.title_token_ids(int(row))) for row in rows])
    return MeanLengths(float(query), float(passage + title + 3))


def rows_of(table: str, recipe: Experiment, lengths: MeanLengths) -> tuple[Row, ...]:
    """All rows of a table, in its order.

    Raises:
        SettingError: there is no such table, or the recipe leaves nothing to compare.
    """
    if table not in TABLES:
        raise SettingError(f"there is no table {table}: choose one of {', '.join(TABLES)}")
    if recipe.pretrain.loop.num_steps == 0:
        raise SettingError("a table compares pre-trainings: set pretrain.loop.num_steps above 0")
    if not (recipe.train_questions and recipe.dev_questions):
        raise SettingError(
            "a table needs questions to learn from and to be measured by: set train_questions and "
            "dev_questions in the recipe"
        )
    return TABLES[table](recipe, lengths)


def _table1(recipe: Experiment, lengths: MeanLengths) -> tuple[Row, ...]:
    return (
        _bm25(), _sentence_encoder(recipe), _supervised(recipe),
        _orqa(recipe, lengths, {"NQ": 33.3, "WQ": 36.4, "CT": 30.1}),
        _realm(recipe, {"NQ": 39.2, "WQ": 40.2, "CT": 46.8}),
        _realm_plus(recipe), _hybrid(), *_realm_from_sentence_encoder(recipe),
    )  # fmt: skip


def _table2(recipe: Experiment, lengths: MeanLengths) -> tuple[Row, ...]:
    return (
        _realm(recipe, _ablation(38.2, 38.5)),
        Row(
            "realm-retriever", "REALM retriever + baseline encoder",
            {"finetune.reader_from": "warm-start"}, _ablation(37.4, 38.5),
            "REALM's embedder beside the reader as it was before REALM.",
        ),
        Row(
            "realm-encoder", "Baseline retriever + REALM encoder",
            {"finetune.retriever_from": "warm-start"}, _ablation(35.3, 13.9),
            "REALM's reader beside the embedder as it was before REALM.",
        ),
        _orqa(recipe, lengths, _ablation(31.3, 13.9)),
        _masks("random-tokens", "REALM with random uniform masks", "random_token", (32.3, 24.2)),
        _masks("random-spans", "REALM with random span masks", "random_span", (35.3, 26.1)),
        _stale(recipe),
    )  # fmt: skip


TABLES = {"table1": _table1, "table2": _table2}


def num_refreshes(recipe: Experiment) -> int:
    """How often a pre-training that is not interrupted makes a new snapshot."""
    loop, refresh = recipe.pretrain.loop, recipe.pretrain.refresh
    return max(0, math.ceil(loop.num_steps / refresh.every) - 1)


# -- rows -----------------------------------------------------------------------------------


def _ablation(exact_match: float, recall: float) -> dict[str, float]:
    return {"EM": exact_match, "R@5": recall}


def _realm(recipe: Experiment, paper: Mapping[str, float]) -> Row:
    warm, loop = recipe.warm_start, recipe.pretrain.loop
    asked = warm.reader.objective.question_share
    made = f", {asked:.0%} of them questions made of a sentence," if asked else ""
    note = (
        f"The recipe as it stands: {_trunk(recipe, recipe.embedder.trunk)} to retrieve and "
        f"{_trunk(recipe, recipe.reader.trunk)} to read, {warm.embedder.loop.num_steps:,} steps "
        f"of the inverse cloze task, {warm.reader.loop.num_steps:,} of reading beside a passage "
        f"that holds what is hidden{made} and {loop.num_steps:,} of REALM. The other rows have "
        "what they do not say otherwise."
    )
    return Row(REALM, "REALM", {}, paper, note, is_repeated=True, masks="salient spans")


def _trunk(recipe: Experiment, name: str) -> str:
    if name != OWN_TRUNK:
        return name
    shape, steps = recipe.trunk.shape, recipe.trunk.loop.num_steps
    return (
        f"a trunk of {shape.num_layers} layers of {shape.width} from nothing ({steps:,} steps of "
        "masked language modelling on this corpus)"
    )


def _orqa(recipe: Experiment, lengths: MeanLengths, paper: Mapping[str, float]) -> Row:
    """The same number of steps and wordpieces, but nothing is retrieved."""
    pretrain, warm = recipe.pretrain, recipe.warm_start.embedder
    objective, loop = pretrain.objective, pretrain.loop
    query, passage, found = lengths.query, lengths.passage, objective.num_candidates - 1
    read = query + found * (query + passage)
    batch_size = max(1, round(objective.batch_size * read / query))
    embedded = loop.num_steps * objective.batch_size * (query + found * passage)
    more_steps = math.ceil(embedded / (warm.objective.batch_size * (query + passage)))
    changes = {
        "pretrain.objective.num_candidates": 1,
        "pretrain.objective.null_passage": True,
        "pretrain.objective.batch_size": batch_size,
        # What gets no gradient shall not decay either.
        "pretrain.loop.optim.embedder_learning_rate": 0.0,
        "warm_start.embedder.loop.num_steps": warm.loop.num_steps + more_steps,
        "selection.pretrain": "latest",  # utility, by which the best is chosen, is nought here
        **_refreshed_every(recipe, math.ceil(loop.num_steps / loop.save_every) * loop.save_every),
    }
    note = (
        f"No retrieval: {loop.num_steps:,} steps restore the same masks beside the null passage "
        f"alone, {batch_size:,} sentences a step instead of {objective.batch_size:,}, so that the "
        f"reader sees as many wordpieces; the embedder sees as many in {more_steps:,} further "
        "steps of the inverse cloze task."
    )
    return Row("orqa", "Baseline (ORQA)", changes, paper, note, is_repeated=True)


def _masks(name: str, title: str, masking: str, paper: tuple[float, float]) -> Row:
    curve = {"random_token": "random wordpieces", "random_span": "random spans"}[masking]
    changes = {"pretrain.objective.masking": masking}
    return Row(name, title, changes, _ablation(*paper), f"Hides {curve}.", masks=curve)


def _stale(recipe: Experiment) -> Row:
    every, refreshes = STALER * recipe.pretrain.refresh.every, num_refreshes(recipe)
    title, note = f"{STALER} times staler index", f"A new snapshot every {every:,} steps."
    if refreshes < STALER:
        title = "Index never refreshed"
        note = (
            f"Refreshes of REALM itself: {refreshes}; {STALER} times more seldom is never. The "
            f"paper's figures are those of a {STALER} times staler index."
        )
    return Row("stale-index", title, _refreshed_every(recipe, every), _ablation(28.7, 15.1), note)


def _bm25() -> Row:
    changes = {
        **_NO_PRETRAINING,
        "retrieval.lexical": True,
        "retrieval.embedder": False,
        # The scores of an embedder that does not rank shall not weigh its passages either.
        "finetune.objective.retrieval_weight": 0.0,
    }
    paper = {"NQ": 26.5, "WQ": 17.7, "CT": 21.3}
    note = "BM25 chooses the passages, in fine-tuning as well; the reader alone decides."
    return Row("bm25", "BM25 + the same reader", changes, paper, note)


def _sentence_encoder(recipe: Experiment) -> Row:
    changes: dict[str, Any] = {
        **_NO_PRETRAINING,
        "finetune.retriever_from": "start",
        "finetune.loop.optim.embedder_learning_rate": 0.0,
    }
    if recipe.embedder.trunk != DEFAULT_TRUNK:
        changes |= {
            "embedder.trunk": DEFAULT_TRUNK,
            "embedder.pooling": "mean",
            "warm_start.embedder.loop.num_steps": 0,
        }
    width = recipe.embedder.projection_width
    note = "A sentence encoder as published, trained on pairs of questions and answers"
    note += f"; its vectors cut to {width} principal components." if width else "."
    title = "all-MiniLM-L6-v2 zero-shot + the same reader"
    return Row("minilm", title, changes, note=note)


def _supervised(recipe: Experiment) -> Row:
    warm = recipe.warm_start.embedder
    moves = warm.objective.trains == "all"  # then the recipe knows a rate for the whole trunk
    changes = {
        **_NO_PRETRAINING,
        "warm_start.questions.depth": 100,
        "warm_start.embedder.objective.trains": "all",
        "warm_start.embedder.objective.teacher_share": 0.0,
        "warm_start.embedder.loop.num_steps": recipe.finetune.loop.num_steps,
        "warm_start.embedder.loop.optim.learning_rate": (
            warm.loop.optim.learning_rate if moves else _SUPERVISED_RATE
        ),
    }
    note = (
        "In-batch negatives and one hard negative of BM25 for each training question, "
        f"{recipe.finetune.loop.num_steps:,} steps of "
        f"{warm.objective.batch_size} questions through the whole trunk."
    )
    return Row("supervised", "Supervised dual encoder + the same reader", changes, note=note)


def _realm_plus(recipe: Experiment) -> Row:
    objective, retrieval = recipe.finetune.objective, recipe.retrieval
    changes = {
        "finetune.objective.batch_size": 2 * objective.batch_size,
        "finetune.objective.reader_passages": 2 * objective.reader_passages,
        "retrieval.reader_passages": 2 * retrieval.reader_passages,
    }
    note = (
        f"The fine-tuning of REALM++: {2 * objective.batch_size} questions a step, "
        f"{2 * objective.reader_passages} passages read in training and "
        f"{2 * retrieval.reader_passages} to answer, twice as many each as in the other rows."
    )
    return Row("realm-plus", "REALM with the fine-tuning of REALM++", changes, note=note)


def _hybrid() -> Row:
    note = "REALM's own ranking and that of BM25, joined by reciprocal rank when answering."
    return Row("hybrid", "REALM + BM25", {"retrieval.lexical": True}, note=note)


def _realm_from_sentence_encoder(recipe: Experiment) -> tuple[Row, ...]:
    """REALM with a start that has seen questions; where the recipe has it, there is no such row."""
    if recipe.embedder.trunk == DEFAULT_TRUNK:
        return ()
    changes = {
        "embedder.trunk": DEFAULT_TRUNK,
        "embedder.pooling": "mean",
        "reader.trunk": DEFAULT_TRUNK,
        **_TRUNK_AT_REST,
    }
    note = (
        "REALM from all-MiniLM-L6-v2, which was trained on pairs of questions and answers; it "
        "rests in the embedder, whose projection alone learns, as in the recipe `small`."
    )
    return (Row("realm-minilm", "REALM from all-MiniLM-L6-v2", changes, note=note),)


def _refreshed_every(recipe: Experiment, every: int) -> dict[str, Any]:
    """Another interval between snapshots; a bound on their age moves with it."""
    refresh = recipe.pretrain.refresh
    changes = {"pretrain.refresh.every": every}
    if refresh.max_staleness is not None:
        changes["pretrain.refresh.max_staleness"] = every + (refresh.adoption_lag or 0)
    return changes
