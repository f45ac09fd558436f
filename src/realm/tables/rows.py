"""Which rows have the paper's tables, and what does each change in a recipe?

All rows are fine-tuned by the same recipe ("the same reader"), so that they differ in nothing but
what they say.
"""

import math
from collections.abc import Mapping
from typing import Any

from realm.errors import SettingError
from realm.experiment import Experiment
from realm.models.trunk import DEFAULT_TRUNK, OWN_TRUNK
from realm.tables.row import MeanLengths, Row

REALM = "realm"
STALER = 30  # times between refreshes, as in table 2
_NO_PRETRAINING = {"pretrain.loop.num_steps": 0}
_TRUNK_AT_REST = {  # how the recipe `small` starts from a sentence encoder
    "packing.segments": "single",
    "warm_start.embedder.loop.num_steps": 200,
    "warm_start.embedder.loop.optim.learning_rate": 3e-3,
    "warm_start.embedder.objective.trains": "projection",
    "warm_start.embedder.objective.teacher_share": 0.95,
    "pretrain.objective.embedder_trains": "projection",
    "pretrain.loop.optim.embedder_learning_rate": 1e-4,
    "finetune.loop.optim.embedder_learning_rate": 5e-5,
}


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
        _warm_start(recipe), _orqa(recipe, lengths, _ablation(31.3, 13.9)),
        _masks("random-tokens", "REALM with random uniform masks", "random_token", (32.3, 24.2)),
        _masks("random-spans", "REALM with random span masks", "random_span", (35.3, 26.1)),
        _stale(recipe),
    )  # fmt: skip


TABLES = {"table1": _table1, "table2": _table2}


def _ablation(exact_match: float, recall: float) -> dict[str, float]:
    return {"EM": exact_match, "R@5": recall}


def _realm(recipe: Experiment, paper: Mapping[str, float]) -> Row:
    warm, loop = recipe.warm_start, recipe.pretrain.loop
    asked = warm.reader.objective.question_share
    made = f", {asked:.0%} of them questions made of a sentence," if asked else ""
    note = (
        f"The recipe as it stands: {_trunk(recipe, recipe.embedder.trunk)} to retrieve and "
        f"{_readers_trunk(recipe)} to read, {warm.embedder.loop.num_steps:,} steps "
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


def _readers_trunk(recipe: Experiment) -> str:
    layers, trunk = recipe.reader.num_layers, _trunk(recipe, recipe.reader.trunk)
    return f"the first {layers} layers of {trunk}" if layers else trunk


def _warm_start(recipe: Experiment) -> Row:
    note = (
        f"Without the {recipe.pretrain.loop.num_steps:,} steps in which both halves learn "
        "together: inverse cloze, and reading beside a passage that holds what is hidden. It is "
        "the baseline that the two rows above name."
    )
    return Row("warm-start", "REALM's warm start alone", _NO_PRETRAINING, note=note)


def _orqa(recipe: Experiment, lengths: MeanLengths, paper: Mapping[str, float]) -> Row:
    """Inverse cloze and masked words, as many wordpieces; no passage is read before fine-tuning."""
    pretrain, warm = recipe.pretrain, recipe.warm_start
    objective, loop, optim = pretrain.objective, pretrain.loop, pretrain.loop.optim
    query, passage, found = lengths.query, lengths.passage, objective.num_candidates - 1
    read = query + found * (query + passage)
    batch_size = max(1, round(objective.batch_size * read / query))
    warm_read = warm.reader.loop.num_steps * warm.reader.objective.batch_size * (query + passage)
    num_steps = loop.num_steps + math.ceil(warm_read / (batch_size * query))
    embedded = loop.num_steps * objective.batch_size * (query + found * passage)
    cloze = warm.embedder
    more_cloze = math.ceil(embedded / (cloze.objective.batch_size * (query + passage)))
    changes = {
        "warm_start.reader.loop.num_steps": 0,
        "pretrain.objective.num_candidates": 1,
        "pretrain.objective.null_passage": True,
        "pretrain.objective.batch_size": batch_size,
        "pretrain.loop.num_steps": num_steps,
        # As quick as REALM's reader learns where it learns quickest.
        "pretrain.loop.optim.learning_rate": max(
            optim.learning_rate, warm.reader.loop.optim.learning_rate
        ),
        # What gets no gradient shall not decay either.
        "pretrain.loop.optim.embedder_learning_rate": 0.0,
        "warm_start.embedder.loop.num_steps": cloze.loop.num_steps + more_cloze,
        "selection.pretrain": "latest",  # utility, by which the best is chosen, is nought here
        **_refreshed_every(recipe, math.ceil(num_steps / loop.save_every) * loop.save_every),
    }
    note = (
        f"No passage is read before fine-tuning: {num_steps:,} steps restore the same masks in "
        f"{batch_size:,} sentences each, so that the reader sees as many wordpieces as in REALM "
        f"and its warm start; the embedder sees as many in {more_cloze:,} further steps of the "
        "inverse cloze task."
    )
    return Row("orqa", "Baseline (ORQA)", changes, paper, note, is_repeated=True)


def _masks(name: str, title: str, masking: str, paper: tuple[float, float]) -> Row:
    curve = {"random_token": "random wordpieces", "random_span": "random spans"}[masking]
    changes = {"pretrain.objective.masking": masking}
    return Row(name, title, changes, _ablation(*paper), f"Hides {curve}.", masks=curve)


def _stale(recipe: Experiment) -> Row:
    every, refreshes = STALER * recipe.pretrain.refresh.every, recipe.pretrain.num_refreshes
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
        "embedder.trunk": DEFAULT_TRUNK,
        "embedder.pooling": "mean",
        "warm_start.embedder.loop.num_steps": 0,
        "finetune.loop.optim.embedder_learning_rate": 0.0,
    }
    width = recipe.embedder.projection_width
    note = "A sentence encoder as published, trained on pairs of questions and answers"
    softened = recipe.warm_start.embedder.projection_start == "half-whitened"
    space = " of the half-whitened space" if softened else ""
    note += f"; its vectors cut to {width} principal components{space}." if width else "."
    title = "all-MiniLM-L6-v2 zero-shot + the same reader"
    return Row("minilm", title, changes, note=note)


def _supervised(recipe: Experiment) -> Row:
    warm = recipe.warm_start.embedder
    learns = "the whole trunk" if warm.objective.trains == "all" else "the projection"
    changes = {
        **_NO_PRETRAINING,
        "warm_start.questions.depth": 100,
        "warm_start.embedder.objective.teacher_share": 0.0,
        "warm_start.embedder.loop.num_steps": recipe.finetune.loop.num_steps,
    }
    note = (
        "In-batch negatives and one hard negative of BM25 for each training question, "
        f"{recipe.finetune.loop.num_steps:,} steps of {warm.objective.batch_size} questions, in "
        f"which {learns} learns, as in the other rows."
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
