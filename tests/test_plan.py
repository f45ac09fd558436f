"""Does a plan add up, and does it follow the recipe?"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realm.costs import Costs, Trunk, trunk_of
from realm.errors import ResourceError
from realm.experiment import Experiment, with_overrides
from realm.machine import Shape
from realm.plan import Plan, make_plan
from realm.rates import EncoderRate, Machine, open_machine
from realm.workload import Workload
from tiny_settings import planned_experiment

WORK = Workload(
    num_passages=10_000, num_characters=5e6,
    passages=np.array([40]), sentences=np.array([20]), questions=np.array([12]),
    num_train_questions=100, dev_questions=(50,), notes=(),
)  # fmt: skip
# One layer reads 1,000 wordpieces a second forward and 250 backward as well.
RATE = EncoderRate(
    width=32, heads=2, inner=64, length=40, forward=1e3, training=250.0, kept_bytes=500.0
)


@pytest.fixture
def machine() -> Machine:
    return open_machine("2-core-epyc").model_copy(
        update={"encoders": (RATE,), "weights": 1e6, "num_threads": 2}
    )


@pytest.fixture
def experiment(trunk_folder: Path) -> Experiment:
    return planned_experiment(trunk_folder)


def seconds_of(plan: Plan) -> dict[str, float]:
    return {stage.name: stage.seconds for stage in plan.stages}


def test_the_shape_of_a_trunk_is_read_without_its_weights(trunk_folder: Path) -> None:
    tiny = trunk_of(str(trunk_folder))
    assert (tiny.shape, tiny.num_layers) == (Shape(32, 2, 64), 2)
    assert trunk_of("google-bert/bert-base-uncased").num_layers == 12
    # BERT-base has 109.5 million weights, its pooler of 0.6 million included.
    assert trunk_of("google-bert/bert-base-uncased").num_weights == pytest.approx(109e6, rel=0.01)
    with pytest.raises(ResourceError, match="not on this machine"):
        trunk_of("nobody/knows-this")


def test_a_trunk_that_names_its_shape_otherwise(tmp_path: Path) -> None:
    config = {
        "model_type": "distilbert", "dim": 48, "n_heads": 3, "n_layers": 5, "hidden_dim": 192,
        "vocab_size": 90,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert trunk_of(str(tmp_path)) == Trunk(Shape(48, 3, 192), 5, 90)


def test_embedding_the_corpus_by_hand(experiment: Experiment, machine: Machine) -> None:
    # 10,000 passages of 40 wordpieces through two layers at 1,000 a second each.
    costs = Costs(experiment, WORK, machine)
    assert costs.embedder == Trunk(Shape(32, 2, 64), 2, costs.embedder.vocab)
    assert costs.embed(WORK.passages, WORK.num_passages) == pytest.approx(800.0)


def test_a_reading_step_by_hand(experiment: Experiment, machine: Machine) -> None:
    settings = experiment.warm_start.reader.objective
    settings = settings.model_copy(update={"batch_size": 10, "null_share": 0.0})
    step = Costs(experiment, WORK, machine).reading(settings, experiment.warm_start.reader.loop)
    # 10 pairs of 20 + 40 - 1 wordpieces through two layers, 250 a second forward and backward at
    # length 40; the operations of a wordpiece grow with the length of its input.
    shape = Shape(32, 2, 64)
    rate = 250.0 * shape.layer_flops(40) / shape.layer_flops(59)
    assert step.seconds["trunks"] == pytest.approx(2 * 590 / rate)
    assert step.total == pytest.approx(sum(step.seconds.values()))
    assert step.seconds["optimiser"] == pytest.approx(
        Costs(experiment, WORK, machine).reader.num_weights / 1e6
    )


def test_half_of_the_layers_read_in_half_the_time(experiment: Experiment, machine: Machine) -> None:
    half = with_overrides(experiment, ["reader.num_layers=1"])
    settings, loop = experiment.warm_start.reader.objective, experiment.warm_start.reader.loop
    whole, less = (Costs(e, WORK, machine).reading(settings, loop) for e in (experiment, half))
    assert less.seconds["trunks"] == pytest.approx(whole.seconds["trunks"] / 2)
    assert less.seconds["optimiser"] < whole.seconds["optimiser"]


def test_passages_that_compete_whole_are_not_embedded_for_the_inverse_cloze_task(
    experiment: Experiment, machine: Machine
) -> None:
    warm = experiment.warm_start.embedder
    cut = warm.objective.model_copy(update={"batch_size": 10, "teacher_share": 0.0})
    whole = cut.model_copy(update={"removal_rate": 0.0, "corpus_passages": 4})
    costs = Costs(experiment, WORK, machine)
    first, second = (costs.inverse_cloze(each, warm.loop) for each in (cut, whole))
    # 10 sentences of 20 wordpieces through two layers at 1,000 a second, and 10 passages of 40; the
    # operations of a wordpiece grow with the length of its input.
    shape = Shape(32, 2, 64)
    sentences = 2 * 200 * shape.layer_flops(20) / shape.layer_flops(40) / 1e3
    assert second.seconds["trunks"] == pytest.approx(sentences)
    assert first.seconds["trunks"] == pytest.approx(sentences + 2 * 400 / 1e3)
    # 4 passages of 32 numbers to the embedding's width, and scored by 10 sentences; three times.
    operations = 3 * 2 * 4 * costs.width * (10 + 32)
    seconds = operations / (1e12 * machine.matrix_teraflops["fp32"])
    assert second.seconds["passages of the corpus"] == pytest.approx(seconds)


@pytest.fixture
def from_nothing(experiment: Experiment, trunk_folder: Path) -> Experiment:
    """One layer that is trained here, 32 wide as the tiny trunk is."""
    return with_overrides(
        experiment,
        ["trunk.shape={num_layers = 1, width = 32, num_heads = 2, inner_width = 64}",
         f"trunk.vocabulary_of='{trunk_folder}'", "trunk.loop={num_steps = 30, save_every = 10}",
         "embedder.trunk='own'", "reader.trunk='own'"],
    )  # fmt: skip


def test_a_step_of_masked_language_modelling_by_hand(
    from_nothing: Experiment, machine: Machine
) -> None:
    settings = from_nothing.trunk.objective.model_copy(update={"batch_size": 10})
    costs = Costs(from_nothing, WORK, machine)
    step = costs.masked_language(settings, from_nothing.trunk.loop)
    # 5 passages of 40 wordpieces, and 5 more behind sentences of 20, through one layer: of the last
    # one a sixth, the keys and values of all positions.
    shape = Shape(32, 2, 64)
    rate = 250.0 * shape.layer_flops(40) / shape.layer_flops(59)
    assert step.seconds["trunks"] == pytest.approx((10 * 59) / rate / 6, rel=1e-6)
    # 15% of 5 * 40 + 5 * 59 wordpieces, each a choice among the whole vocabulary.
    numbers = 0.15 * 495 * costs.reader.vocab
    seconds = 3 * 2 * numbers * 32 / machine.product_flops("training")
    assert step.seconds["masked head"] == pytest.approx(seconds + numbers / machine.span_numbers)
    assert step.seconds["optimiser"] == pytest.approx(costs.reader.num_weights / 1e6)


def test_a_trunk_from_nothing_is_counted_first(from_nothing: Experiment, machine: Machine) -> None:
    costs = Costs(from_nothing, WORK, machine)
    assert costs.reader == costs.embedder == Trunk(Shape(32, 2, 64), 1, costs.reader.vocab)
    names = [stage.name for stage in make_plan(from_nothing, WORK, machine).stages]
    assert names[:5] == ["corpus", "spans", "lexical", "trunk", "trunk-vectors"]
    stages = make_plan(from_nothing, WORK, machine).stages
    assert stages[3].detail.startswith("30 steps of ")
    # 50 passages in two batches of 32, at four checkpoints.
    measured = with_overrides(from_nothing, ["trunk.num_held_out=50"])
    settings = measured.trunk
    once = costs.masked_language(settings.objective, settings.loop, "forward").total
    longer = make_plan(measured, WORK, machine).stages[3].seconds - stages[3].seconds
    assert longer == pytest.approx(8 * once, rel=0.01)


def test_recomputation_takes_a_third_more_and_keeps_less(
    experiment: Experiment, machine: Machine
) -> None:
    settings = experiment.pretrain.objective.model_copy(update={"token_budget": 200})
    loop = experiment.pretrain.loop
    plain, again = (
        Costs(experiment, WORK, machine).realm(
            settings, loop.model_copy(update={"recompute": wanted})
        )
        for wanted in (False, True)
    )
    assert again.seconds["trunks"] == pytest.approx(4 / 3 * plain.seconds["trunks"])
    assert again.kept_bytes < plain.kept_bytes


def test_the_stages_are_those_of_a_run(experiment: Experiment, machine: Machine) -> None:
    plan = make_plan(experiment, WORK, machine)
    names = [stage.name for stage in plan.stages]
    assert names == [
        "corpus", "spans", "lexical", "trunk-vectors", "start", "warm-start-embedder",
        "reading-pairs", "warm-start-reader", "index-warm-start", "pretrain", "index",
        "finetune", "evaluate",
    ]  # fmt: skip
    assert plan.seconds == pytest.approx(sum(stage.seconds for stage in plan.stages))
    assert plan.gigabytes == max(stage.gigabytes for stage in plan.stages)
    shorter = with_overrides(
        experiment, ["warm_start.reader.loop.num_steps=0", "train_questions=[]", "dev_questions=[]"]
    )
    left = [stage.name for stage in make_plan(shorter, WORK, machine).stages]
    assert set(names) - set(left) == {
        "reading-pairs", "warm-start-reader", "finetune", "evaluate"
    }  # fmt: skip


def test_questions_are_looked_up_before_they_teach(
    experiment: Experiment, machine: Machine
) -> None:
    more = replace(WORK, num_train_questions=WORK.num_train_questions + 1_000)
    few, many = (seconds_of(make_plan(experiment, w, machine))["finetune"] for w in (WORK, more))
    embedded = Costs(experiment, WORK, machine).embed(WORK.questions, 1_000)
    assert many - few == pytest.approx(embedded, rel=0.05)


def test_twice_the_steps_take_twice_as_long(experiment: Experiment, machine: Machine) -> None:
    # Nothing but steps: no questions that are held out, and next to no saving.
    quick = machine.model_copy(update={"written_bytes": 1e15})
    once, twice = (
        seconds_of(
            make_plan(
                with_overrides(
                    experiment,
                    [f"pretrain.loop.num_steps={number}", "pretrain.num_held_out=0",
                     "pretrain.refresh.every=1000"],
                ),
                WORK, quick,
            )
        )["pretrain"]
        for number in (100, 200)
    )  # fmt: skip
    assert twice == pytest.approx(2 * once, rel=1e-3)


@pytest.mark.parametrize(
    ("mode", "lag", "expected"),
    [("inline", None, (0, 99)), ("process", 30, (30, 129))],
    ids=["training waits", "fixed"],
)
def test_the_age_of_a_snapshot(
    experiment: Experiment, machine: Machine, mode: str, lag: int | None, expected: tuple[int, int]
) -> None:
    assignments = [f"pretrain.refresh.mode='{mode}'"]
    if lag is not None:
        assignments.append(f"pretrain.refresh.adoption_lag={lag}")
    plan = make_plan(with_overrides(experiment, assignments), WORK, machine)
    assert (plan.refresh_age, plan.oldest) == expected


def test_a_refresh_beside_the_trainer_ages_by_the_steps_meanwhile(
    experiment: Experiment, machine: Machine
) -> None:
    trained = [
        "pretrain.refresh.mode='process'", "pretrain.objective.embedder_trains='all'",
        "warm_start.embedder.objective.trains='all'",
        "warm_start.embedder.objective.teacher_share=0.0",
    ]  # fmt: skip
    changed = with_overrides(experiment, trained)
    plan = make_plan(changed, WORK, machine)
    costs = Costs(changed, WORK, machine)
    step = costs.realm(changed.pretrain.objective, changed.pretrain.loop)
    # One of two threads refreshes: the corpus takes twice as long, and so do the trainer's trunks.
    step.seconds["trunks"] *= 2
    # A step is 1.3 times its parts.
    expected = 2 * costs.embed(WORK.passages, WORK.num_passages) / (1.3 * step.total)
    assert plan.refresh_age == pytest.approx(math.ceil(expected), abs=2)
    assert plan.oldest >= plan.refresh_age + changed.pretrain.refresh.every - 1


def test_a_step_without_retrieval_runs_the_reader_alone(
    experiment: Experiment, machine: Machine
) -> None:
    alone, of_one = (
        Costs(experiment, WORK, machine).realm(
            experiment.pretrain.objective.model_copy(
                update={"num_candidates": 1, "null_passage": is_null, "batch_size": 64}
            ),
            experiment.pretrain.loop,
        )
        for is_null in (True, False)
    )
    assert alone.seconds["search"] == 0 < of_one.seconds["search"]
    assert alone.seconds["trunks"] < of_one.seconds["trunks"]


def test_devices_share_a_batch(experiment: Experiment, machine: Machine) -> None:
    eight = machine.model_copy(update={"num_devices": 8, "weights": 1e15, "search_rows": 1e15})
    settings = experiment.pretrain.objective.model_copy(update={"batch_size": 64})
    alone, shared = (
        Costs(experiment, WORK, chosen).realm(settings, experiment.pretrain.loop)
        for chosen in (machine, eight)
    )
    assert alone.seconds["trunks"] == pytest.approx(8 * shared.seconds["trunks"], rel=0.1)


def test_what_does_not_fit_is_said(experiment: Experiment, machine: Machine) -> None:
    small = machine.model_copy(update={"memory_gigabytes": 0.1})
    assert any("will not fit" in note for note in make_plan(experiment, WORK, small).notes)
    assert make_plan(experiment, WORK, machine).notes == ()


def test_a_second_tower_needs_room(experiment: Experiment, machine: Machine) -> None:
    moving = with_overrides(experiment, [
        "pretrain.objective.embedder_trains='all'", "warm_start.embedder.objective.trains='all'",
        "warm_start.embedder.objective.teacher_share=0.0",
    ])  # fmt: skip
    apart = with_overrides(moving, ["embedder.shared_towers=false"])
    one, two = (
        {stage.name: stage for stage in make_plan(each, WORK, machine).stages}
        for each in (moving, apart)
    )
    weights = Costs(moving, WORK, machine).embedder.num_weights
    # Masters, two moments, gradients and the weights themselves in half precision.
    more = weights * (4 + 8 + 4 + 2) / 1e9
    for name in ("warm-start-embedder", "pretrain"):
        assert two[name].gigabytes - one[name].gigabytes == pytest.approx(more, rel=0.01)
    # Fine-tuning always gives the questions a tower of their own.
    assert two["finetune"].gigabytes == pytest.approx(one["finetune"].gigabytes, rel=0.01)
