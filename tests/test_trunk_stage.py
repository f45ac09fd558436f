"""A run that starts from nothing trains its trunk first, and may share it."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from realm.artifact import read_manifest
from realm.errors import SettingError
from realm.evaluation.report import write_report
from realm.experiment import Experiment, with_overrides
from realm.json_lines import read_json_lines
from realm.models.checkpoint import load_model
from realm.models.trunk import load_trunk, read_masked_head
from realm.stages import Run, all_stages
from realm.swap import swap
from realm.training.loop import Training
from small_world import make_tokenizer, write_trunk
from tiny_settings import own_trunk_settings

LOOP = "{ num_steps = 2, save_every = 1, log_every = 1, precision = 'fp32' }"


@pytest.fixture
def experiment(corpus_source: Path, trunk_folder: Path) -> Experiment:
    """Nothing but the trunk is trained; its vocabulary is that of the tiny trunk."""
    values = {
        **own_trunk_settings(corpus_source, trunk_folder),
        "trunk.loop": LOOP,
        "warm_start.embedder.loop.num_steps": "0",
        "warm_start.reader.loop.num_steps": "0",
        "pretrain.loop.num_steps": "0",
    }
    return with_overrides(Experiment(), [f"{name}={value}" for name, value in values.items()])


def states_of(folder: Path) -> list[dict[str, torch.Tensor]]:
    """The weights of both halves' trunks in a checkpoint, without the pooler that is not used."""
    model = load_model(folder)
    trunks = (model.embedder.query_tower.trunk, model.reader.trunk)
    return [
        {name: weight for name, weight in trunk.state_dict().items() if "pooler" not in name}
        for trunk in trunks
    ]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_both_halves_start_from_the_trunk_of_the_run(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", experiment)
    start = run.warm_start()
    trunk = run.trunk()
    assert trunk == tmp_path / "run" / "trunk" / "model"
    embedder, reader = states_of(start)
    assert same(embedder, reader)
    loaded = load_trunk(trunk, dropout=0.0).state_dict()
    assert same(reader, {name: loaded[name] for name in reader})
    head = load_model(start).reader.masked_head.state_dict()
    assert same(head, read_masked_head(trunk))
    trained = load_model(tmp_path / "run" / "trunk" / "checkpoints" / "step-000000002").reader
    assert same(head, trained.masked_head.state_dict())
    assert read_manifest(start).inputs["trunk"] == read_manifest(trunk).fingerprint
    stages = [line.split('"')[3] for line in (run.path / "stages.jsonl").read_text().splitlines()]
    assert stages == ["corpus", "trunk", "start"]


def test_the_trunk_is_trained_by_its_own_seed(
    experiment: Experiment, tmp_path: Path, trained: list[Training]
) -> None:
    Run(tmp_path / "run", with_overrides(experiment, ["trunk.loop.seed=5"])).trunk()
    assert trained[0].settings.seed == cast(Any, trained[0].objective)._seed == 5


def test_held_out_text_is_measured_at_every_checkpoint(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", with_overrides(experiment, ["trunk.num_held_out=3"]))
    run.trunk()
    rows = read_json_lines(run.path / "trunk" / "metrics.jsonl")
    measured = [row["step"] for row in rows if row.get("held_out_loss", 0.0) > 0.0]
    assert measured == [0, 1, 2]
    assert "Trunk: loss of masked" in write_report(run.path).read_text(encoding="utf-8")


def test_a_second_start_trains_nothing(experiment: Experiment, tmp_path: Path) -> None:
    Run(tmp_path / "run", experiment).trunk()
    before = (tmp_path / "run" / "stages.jsonl").read_bytes()
    run = Run(tmp_path / "run", experiment)
    assert run.trunk() == tmp_path / "run" / "trunk" / "model"
    assert (tmp_path / "run" / "stages.jsonl").read_bytes() == before


def test_other_runs_start_from_its_folder(experiment: Experiment, tmp_path: Path) -> None:
    first = Run(tmp_path / "first", experiment)
    folder = f"'{first.trunk()}'"
    shared = with_overrides(experiment, [f"embedder.trunk={folder}", f"reader.trunk={folder}"])
    second = Run(tmp_path / "second", shared)
    starts = [states_of(run.start()) for run in (first, second)]
    assert all(same(one, other) for one, other in zip(*starts, strict=True))
    assert second.trunk() is None
    assert not (tmp_path / "second" / "trunk").exists()


def test_one_half_may_start_elsewhere(
    experiment: Experiment, trunk_folder: Path, tmp_path: Path
) -> None:
    other = with_overrides(experiment, [f"reader.trunk='{trunk_folder}'"])
    run = Run(tmp_path / "run", other)
    model = load_model(run.start())
    assert model.embedder.query_tower.trunk.config.hidden_size == 24  # type: ignore[union-attr]
    assert model.reader.trunk.config.hidden_size == 32  # type: ignore[union-attr]


def test_the_trunk_depends_on_no_head(experiment: Experiment, tmp_path: Path) -> None:
    other = with_overrides(experiment, ["embedder.projection_width=4", "reader.span_width=16"])
    trunks = [Run(tmp_path / n, e).trunk() for n, e in (("one", experiment), ("two", other))]
    one, two = (read_manifest(trunk).fingerprint for trunk in trunks if trunk is not None)
    assert one == two


def test_a_run_without_an_own_trunk_trains_none(
    experiment: Experiment, trunk_folder: Path, tmp_path: Path
) -> None:
    name = f"'{trunk_folder}'"
    plain = with_overrides(experiment, [f"embedder.trunk={name}", f"reader.trunk={name}"])
    run = Run(tmp_path / "run", plain)
    names = [stage for stage, _ in all_stages(run)]
    assert names.index("corpus") < names.index("trunk") < names.index("start")
    assert run.trunk() is None
    assert not run.path.exists()


def test_a_swapped_run_needs_no_trunk(
    experiment: Experiment, corpus_source: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", experiment)
    run.start()
    swapped = swap(run, [str(corpus_source)], tmp_path / "swapped")
    assert same(states_of(swapped.checkpoint("pretrain"))[1], states_of(run.checkpoint("start"))[1])
    assert "trunk" not in [stage for stage, _ in all_stages(swapped)]


def test_a_shape_changed_before_the_corpus_is_cut_is_taken(
    experiment: Experiment, tmp_path: Path
) -> None:
    Run(tmp_path / "run", experiment).untrained_trunk()
    wider = with_overrides(experiment, ["trunk.shape.width=48"])
    start = Run(tmp_path / "run", wider).start()
    assert load_model(start).reader.trunk.config.hidden_size == 48  # type: ignore[union-attr]


BAD: dict[str, tuple[list[str], str]] = {
    "no steps": (["trunk.loop.num_steps=0"], r"set trunk\.loop\.num_steps"),
    "pooler": (["embedder.pooling=pooler"], r"set embedder\.pooling"),
    "heads": (["trunk.shape.num_heads=5"], "5 heads cannot share a width of 24"),
    "no layer": (["trunk.shape.num_layers=0"], r"trunk\.shape\.num_layers"),
    "all masked": (["trunk.objective.masked_share=1.0"], r"trunk\.objective\.masked_share"),
    "misspelt": (["trunk.shape.layers=3"], "did you mean 'num_layers'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused(case: str, experiment: Experiment) -> None:
    assignments, message = BAD[case]
    with pytest.raises(SettingError, match=message):
        with_overrides(experiment, assignments)


def test_what_does_not_fit_is_refused_before_anything_is_made(
    experiment: Experiment, tmp_path: Path
) -> None:
    short = with_overrides(experiment, ["trunk.shape.max_tokens=80"])
    with pytest.raises(SettingError, match="the trunk reads 80 wordpieces at most"):
        Run(tmp_path / "run", short).corpus()
    assert not (tmp_path / "run" / "corpus").exists()


@pytest.mark.parametrize("half", ["embedder", "reader"])
def test_another_vocabulary_is_refused(half: str, experiment: Experiment, tmp_path: Path) -> None:
    tokenizer: Any = make_tokenizer()
    tokenizer.add_tokens(["zebra"])
    write_trunk(tmp_path / "other", tokenizer)
    mixed = with_overrides(experiment, [f"{half}.trunk='{tmp_path / 'other'}'"])
    with pytest.raises(SettingError, match="tokenizer"):
        Run(tmp_path / "run", mixed).start()
