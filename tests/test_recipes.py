"""Do the recipes that ship load, and do they say what they mean to?"""

from pathlib import Path

import pytest

from realm import experiment
from realm.errors import SettingError
from realm.experiment import read_recipe

RECIPES = sorted((Path(experiment.__file__).parent / "recipes").glob("*.toml"))


def test_the_promised_recipes_ship() -> None:
    assert {"demo", "laptop", "mini", "small", "tables", "paper"} <= {file.stem for file in RECIPES}


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_recipes_load_by_name_and_by_path(file: Path) -> None:
    by_path = read_recipe(str(file))
    assert read_recipe(file.stem) == read_recipe(file.name) == by_path
    # `laptop` is for documents that are named on the command line.
    assert bool(by_path.sources) is (file.stem != "laptop")
    # A snapshot is made from a checkpoint that has to be there.
    assert by_path.pretrain.refresh.every % by_path.pretrain.loop.save_every == 0


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_unknown_keys_are_refused_with_the_nearest(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.toml"
    copy.write_text(file.read_text("utf-8").replace("passage_tokens", "pasage_tokens", 1), "utf-8")
    with pytest.raises(SettingError, match="did you mean 'passage_tokens'"):
        read_recipe(str(copy))


def test_the_paper_is_quoted_right() -> None:
    paper = read_recipe("paper")
    assert paper.corpus.passage_tokens == 288
    assert paper.pretrain.loop.num_steps == 200_000
    assert paper.pretrain.objective.batch_size == 512
    assert paper.pretrain.objective.num_candidates == 8
    assert not paper.finetune.objective.null_passage


def test_the_small_recipes_cut_alike() -> None:
    recipes = [read_recipe(name) for name in ("demo", "mini", "small")]
    assert {recipe.corpus.passage_tokens for recipe in recipes} == {160}


@pytest.mark.parametrize("name", ["mini", "tables"])
def test_the_fair_start_is_fair(name: str) -> None:
    fair, small = read_recipe(name), read_recipe("small")
    assert (fair.sources, fair.corpus) == (small.sources, small.corpus)
    # No retriever that somebody else trained, and no teacher but the text.
    assert fair.embedder.trunk == "own"
    assert fair.warm_start.embedder.objective.teacher_share == 0.0
    assert fair.trunk.shape.max_tokens >= fair.packing.query_tokens + fair.corpus.passage_tokens


def test_on_a_gpu_nothing_rests_and_nothing_is_from_elsewhere() -> None:
    tables = read_recipe("tables")
    assert tables.reader.trunk == "own"
    assert tables.warm_start.embedder.objective.trains == "all"
    assert tables.pretrain.objective.embedder_trains == "all"


def test_assignments_change_a_recipe() -> None:
    changed = read_recipe("demo", ["pretrain.loop.num_steps=7", "retrieval.lexical=true"])
    assert changed.pretrain.loop.num_steps == 7
    assert changed.retrieval.lexical
    with pytest.raises(SettingError, match="num_steps"):
        read_recipe("demo", ["pretrain.loop.num_steps=many"])


def test_an_unknown_recipe_names_the_known() -> None:
    with pytest.raises(SettingError, match="demo, laptop, mini, paper, small"):
        read_recipe("nothing")


@pytest.mark.parametrize(
    "assignment",
    [
        "pretrain.loop.seed=-1", "pretrain.loop.optim.clip_norm=0",
        "pretrain.loop.optim.learning_rate=-1e-4", "pretrain.loop.optim.warmup_share=1.5",
        "pretrain.loop.optim.betas=[0.9, 1.0]", "pretrain.loop.optim.epsilon=0",
        "pretrain.objective.batch_size=0", "pretrain.objective.max_masks=0",
        "pretrain.objective.token_budget=0", "pretrain.num_held_out=-1",
        "warm_start.embedder.objective.batch_size=0", "warm_start.reader.objective.depth=0",
        "warm_start.embedder.objective.removal_rate=2", "embedder.score_scale=0",
        "embedder.projection_width=0", "embedder.projection_dropout=1", "reader.dropout=1.5",
        "reader.max_answer_tokens=0", "reader.span_width=0", "index.probes=0",
        "retrieval.reader_passages=0", "finetune.objective.reader_passages=0",
        "finetune.objective.retriever_passages=0", "finetune.objective.unanswered_share=-0.5",
    ],
)  # fmt: skip
def test_a_number_out_of_bounds_is_refused_by_name(assignment: str) -> None:
    with pytest.raises(SettingError, match=assignment.partition("=")[0]):
        read_recipe("demo", [assignment])
