"""Does each row change what it says, and nothing else?"""

import pytest

from realm.config import differing
from realm.corpus.store import PassageStore
from realm.errors import SettingError
from realm.experiment import Experiment, read_recipe, with_overrides
from realm.tables.row import MeanLengths, Row, mean_lengths
from realm.tables.rows import TABLES, rows_of

LENGTHS = MeanLengths(query=30.0, passage=130.0)
# Without BM25, which the rows leave out unless they are about it.
SMALL = read_recipe("small", ["retrieval.lexical=false"])


def rows_by_name(table: str, recipe: Experiment = SMALL) -> dict[str, Row]:
    return {row.name: row for row in rows_of(table, recipe, LENGTHS)}


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_a_recipe_and_has_a_name_of_its_own(table: str) -> None:
    rows = rows_of(table, SMALL, LENGTHS)
    assert len({row.name for row in rows}) == len({row.title for row in rows}) == len(rows)
    assert len(rows) == {"table1": 7, "table2": 8}[table]
    wholes = [row.experiment(SMALL, 0) for row in rows]
    assert all(first != second for i, first in enumerate(wholes) for second in wholes[:i])
    assert [row.name for row in rows if row.is_repeated] in (["realm", "orqa"], ["orqa", "realm"])
    assert all(row.note for row in rows)
    joined = with_overrides(SMALL, ["retrieval.lexical=true"])
    assert [row.experiment(joined, 0) for row in rows_of(table, joined, LENGTHS)] == wholes


def test_realm_is_the_recipe_and_a_seed_moves_what_comes_after_the_warm_start() -> None:
    realm = rows_by_name("table2")["realm"]
    assert realm.experiment(SMALL, 0) == SMALL
    changed = realm.experiment(with_overrides(SMALL, ["pretrain.loop.seed=7"]), 2)
    assert changed.pretrain.loop.seed == 9
    assert differing(SMALL.model_dump(), changed.model_dump()) == [
        "pretrain.loop.seed",
        "finetune.loop.seed",
    ]


def test_orqa_sees_as_many_wordpieces_by_hand() -> None:
    """REALM reads 30 + 4 * 160 = 670 for each query, ORQA 30: 8 * 670 / 30 = 178.7 queries.

    The warm start reads 1,500 * 16 pairs of 160: 3,840,000, which are 715.1 steps of 179 * 30.
    REALM embeds 30 + 4 * 130 = 550 for each of 400 * 8 queries: 1,760,000, which are 343.75
    batches of 32 sentences of 30 and passages of 130.
    """
    row = rows_by_name("table2")["orqa"]
    made = row.experiment(SMALL, 0)
    assert made.pretrain.objective.batch_size == 179
    assert made.pretrain.objective.num_candidates == 1
    assert made.pretrain.loop.num_steps == SMALL.pretrain.loop.num_steps + 716 == 1116
    assert made.pretrain.loop.optim.learning_rate == 2e-4
    assert made.warm_start.embedder.loop.num_steps == 200 + 344
    assert made.warm_start.reader.loop.num_steps == 0
    assert made.finetune == SMALL.finetune
    assert made.pretrain.num_refreshes == 0
    assert "1,116 steps restore the same masks in 179 sentences each" in row.note
    assert "344 further steps" in row.note
    assert dict(row.changes) == dict(rows_by_name("table1")["orqa"].changes)


def test_the_warm_start_alone_is_realm_without_realm() -> None:
    made = rows_by_name("table2")["warm-start"].experiment(SMALL, 0)
    assert differing(SMALL.model_dump(), made.model_dump()) == ["pretrain.loop.num_steps"]
    assert made.pretrain.loop.num_steps == 0


@pytest.mark.parametrize(
    ("num_steps", "title", "left"),
    [(1500, "Index never refreshed", 0), (1550, "30 times staler index", 1)],
)
def test_a_stale_index_is_called_what_it_is(num_steps: int, title: str, left: int) -> None:
    # A refresh every 50 steps: 29 times in 1,500 steps and 30 times in 1,550.
    changes = [f"pretrain.loop.num_steps={num_steps}", "pretrain.refresh.max_staleness=60"]
    recipe = with_overrides(SMALL, changes)
    row = rows_by_name("table2", recipe)["stale-index"]
    made = row.experiment(recipe, 0)
    assert (row.title, made.pretrain.num_refreshes) == (title, left)
    assert made.pretrain.refresh.every == made.pretrain.refresh.max_staleness == 1500


def test_masks_differ_in_masks_alone() -> None:
    rows = rows_by_name("table2")
    for name in ("random-tokens", "random-spans"):
        made = rows[name].experiment(SMALL, 0)
        names = differing(SMALL.model_dump(), made.model_dump())
        assert names == ["pretrain.objective.masking"]
    assert {row.masks for row in rows.values()} == {
        *("salient spans", "random spans", "random wordpieces", ""),
    }


def test_baselines_of_table_1_are_not_pretrained() -> None:
    rows = rows_by_name("table1")
    made = {name: row.experiment(SMALL, 0) for name, row in rows.items()}
    is_pretrained = {name: bool(run.pretrain.loop.num_steps) for name, run in made.items()}
    assert [name for name, is_it in is_pretrained.items() if not is_it] == [
        *("bm25", "minilm", "supervised"),
    ]
    assert not made["bm25"].retrieval.embedder
    assert made["minilm"].warm_start.embedder.loop.num_steps == 0
    assert made["supervised"].warm_start.questions is not None
    plus, plain = made["realm-plus"], SMALL
    assert plus.finetune.objective.batch_size == 32
    for ours, theirs in (
        (plus.finetune.objective, plain.finetune.objective), (plus.retrieval, plain.retrieval)
    ):  # fmt: skip
        assert ours.reader_passages == 2 * theirs.reader_passages
    # What does not rank or stays as published is not moved, and does not weigh what others found.
    assert made["minilm"].finetune.loop.optim.embedder_learning_rate == 0.0
    assert made["bm25"].finetune.objective.retrieval_weight == 0.0
    assert made["orqa"].pretrain.loop.optim.embedder_learning_rate == 0.0
    # The same reader: what is fine-tuned, and how long, is the same.
    loops = {name: run.finetune.loop.num_steps for name, run in made.items()}
    assert set(loops.values()) == {SMALL.finetune.loop.num_steps}


def test_another_trunk_does_not_stand_in_for_the_sentence_encoder() -> None:
    own = with_overrides(SMALL, ["embedder.trunk='our-trunk'", "embedder.pooling='cls'"])
    made = rows_by_name("table1", own)["minilm"].experiment(own, 0)
    assert made.embedder.trunk == SMALL.embedder.trunk
    assert made.embedder.pooling == "mean"
    assert made.reader.trunk == own.reader.trunk


def test_a_sentence_encoder_is_a_row_of_its_own_where_rows_start_from_another_trunk() -> None:
    assert "realm-minilm" not in rows_by_name("table1")
    mini = read_recipe("mini")
    rows = rows_by_name("table1", mini)
    made = rows["realm-minilm"].experiment(mini, 0)
    assert made.embedder.trunk == made.reader.trunk == SMALL.embedder.trunk
    assert made.warm_start.embedder.objective.teacher_share == 0.95
    assert made.pretrain.loop.num_steps == mini.pretrain.loop.num_steps
    assert "a trunk of 6 layers of 384 from nothing (1,500 steps" in rows["realm"].note
    half = rows_by_name("table1", with_overrides(mini, ["reader.num_layers=3"]))
    assert f"the first 3 layers of {mini.reader.trunk} to read" in half["realm"].note


@pytest.mark.parametrize(("name", "what"), [("mini", "the projection"), ("tables", "the whole")])
def test_a_supervised_retriever_learns_with_what_the_others_learn(name: str, what: str) -> None:
    recipe = read_recipe(name)
    row = rows_by_name("table1", recipe)["supervised"]
    ours, theirs = (each.warm_start.embedder for each in (recipe, row.experiment(recipe, 0)))
    assert theirs.objective.trains == ours.objective.trains
    assert theirs.loop.optim == ours.loop.optim
    assert f"in which {what}" in row.note


def test_what_leaves_nothing_to_compare_is_refused() -> None:
    with pytest.raises(SettingError, match="no table table3: choose one of table1, table2"):
        rows_of("table3", SMALL, LENGTHS)
    with pytest.raises(SettingError, match=r"set pretrain\.loop\.num_steps above 0"):
        rows_of("table2", with_overrides(SMALL, ["pretrain.loop.num_steps=0"]), LENGTHS)
    with pytest.raises(SettingError, match="needs questions to learn from"):
        rows_of("table2", with_overrides(SMALL, ["dev_questions=[]"]), LENGTHS)


def test_mean_lengths_of_the_small_world(small_store: PassageStore) -> None:
    lengths = mean_lengths(small_store, with_overrides(SMALL, ["packing.query_tokens=9"]))
    sentences = [
        min(int(end - start) + 2, 9)
        for row in range(12)
        for start, end in small_store.sentences(row)
    ]
    assert lengths.query == pytest.approx(sum(sentences) / len(sentences))
    passages = [
        len(small_store.token_ids(row)) + len(small_store.title_token_ids(row)) + 3
        for row in range(12)
    ]
    assert lengths.passage == pytest.approx(sum(passages) / 12)
