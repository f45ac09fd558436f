"""What does a run accept as its own and as finished?"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from realm.errors import ArtifactError, SettingError
from realm.experiment import Experiment, with_overrides
from realm.run_folder import RunFolder
from realm.stages import Run
from small_world import make_tokenizer, write_trunk


@pytest.fixture
def experiment(corpus_source: Path, trunk_folder: Path) -> Experiment:
    """The small world; nothing but the embedder is taught before pre-training."""
    values = {
        "sources": f'["{corpus_source}"]',
        "corpus.passage_tokens": "64",
        "corpus.num_workers": "1",
        "packing.query_tokens": "40",
        "embedder.trunk": f"'{trunk_folder}'",
        "embedder.projection_width": "8",
        "reader.trunk": f"'{trunk_folder}'",
        "warm_start.embedder.loop.num_steps": "2",
        "warm_start.embedder.loop.save_every": "1",
        "warm_start.embedder.loop.precision": "'fp32'",
        "warm_start.embedder.objective.batch_size": "4",
        "warm_start.reader.loop.num_steps": "0",
    }
    return with_overrides(Experiment(), [f"{name}={value}" for name, value in values.items()])


def test_a_reader_that_needs_no_lessons_gets_none(experiment: Experiment, tmp_path: Path) -> None:
    run = Run(tmp_path, experiment)
    checkpoint = run.warm_start()
    assert checkpoint == run.checkpoint("warm-start") == run.warm_embedder()
    assert run.newest_checkpoint() == "warm-start"
    assert not any((tmp_path / name).exists() for name in ("spans", "lexical"))
    assert not (tmp_path / "warm-start" / "reader").exists()


def test_an_unfinished_training_is_no_model(experiment: Experiment, tmp_path: Path) -> None:
    finished = Run(tmp_path, experiment).warm_start()
    shutil.rmtree(finished)
    run = RunFolder(tmp_path, experiment)
    with pytest.raises(ArtifactError, match=r"step 1 of 2: go on with `realm warm-start --run"):
        run.checkpoint("warm-start")
    assert run.newest_checkpoint() == "start"
    with pytest.raises(ArtifactError, match="no pretrain checkpoint yet"):
        run.checkpoint("pretrain")


def test_a_trunk_with_another_tokenizer_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    Run(tmp_path / "run", experiment).corpus()
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["zebra"])
    write_trunk(tmp_path / "trunk", tokenizer)
    trunk = f"'{tmp_path / 'trunk'}'"
    other = with_overrides(experiment, [f"embedder.trunk={trunk}", f"reader.trunk={trunk}"])
    with pytest.raises(SettingError, match=r"not cut with the tokenizer of embedder\.trunk"):
        Run(tmp_path / "run", other).start()


@pytest.mark.parametrize("stage", [Run.spans, Run.lexical, Run.start, Run.reading_pairs])
def test_what_was_made_from_another_corpus_is_refused(
    stage: Callable[[Run], object], experiment: Experiment, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", experiment)
    stage(run)
    shutil.rmtree(tmp_path / "run" / "corpus")
    (tmp_path / "other.txt").write_text("Tavil is a port. " * 60, encoding="utf-8")
    other = experiment.model_copy(update={"sources": (str(tmp_path / "other.txt"),)})
    with pytest.raises(ArtifactError, match="was made from another corpus: delete it"):
        stage(Run(tmp_path / "run", other))
