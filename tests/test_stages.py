"""What does a run accept as its own and as finished?"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from realm import stages
from realm.artifact import read_manifest
from realm.errors import ArtifactError, SettingError
from realm.evaluation.retrieval import hits
from realm.examples.question import Question
from realm.experiment import Experiment, SelectionSettings, with_overrides
from realm.json_lines import read_json_lines
from realm.openqa.answerer import Answerer
from realm.openqa.objective import OpenQaObjective
from realm.run_folder import RunFolder
from realm.stages import Run
from realm.tables.sharing import take_over
from realm.training.loop import Scalars, Training
from realm.training.state import steps_in
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


def test_one_reader_learns_to_read_for_all_embedders(
    experiment: Experiment, tmp_path: Path
) -> None:
    loop = "{ num_steps = 2, save_every = 1, log_every = 1, precision = 'fp32' }"
    taught = with_overrides(experiment, [f"warm_start.reader.loop={loop}"])
    first, second = Run(tmp_path / "narrow", taught), Run(
        tmp_path / "wide", with_overrides(taught, ["embedder.projection_width=16"])
    )  # fmt: skip
    weights = {}
    for run in (first, second):
        run.save_recipe()
        if run is second:
            assert "warm-start/reader" in take_over(second, [first])
        checkpoint = run.warm_start()
        assert checkpoint == run.checkpoint("warm-start") == run.warm_start()
        weights[run] = load_file(checkpoint / "weights.safetensors")
        own = load_file(run.warm_embedder() / "weights.safetensors")
        for name in own:
            if name.startswith("embedder."):
                assert torch.equal(weights[run][name], own[name])
    read = read_json_lines(second.path / "warm-start" / "reader" / "metrics.jsonl")
    assert [row["step"] for row in read] == [1, 2]
    untaught = load_file(second.start() / "weights.safetensors")
    readers = [name for name in weights[first] if name.startswith("reader.")]
    assert all(torch.equal(weights[first][name], weights[second][name]) for name in readers)
    assert any(not torch.equal(untaught[name], weights[second][name]) for name in readers)
    # It was not taken over because it happened to be the same: untaught they are alike as well.
    begun = load_file(first.start() / "weights.safetensors")
    assert all(torch.equal(begun[name], untaught[name]) for name in readers)
    assert second.snapshot("warm-start").manifest.settings["step"] == 0


def test_a_trunk_that_rests_reads_the_corpus_once(experiment: Experiment, tmp_path: Path) -> None:
    resting = ["warm_start.embedder.objective.trains='projection'"]
    moving = ["warm_start.embedder.objective.trains='all'",
              "warm_start.embedder.objective.teacher_share=0.0"]  # fmt: skip
    projections = []
    for name, assignments in (("resting", resting), ("moving", moving)):
        run = Run(tmp_path / name, with_overrides(experiment, assignments))
        projections.append(load_file(run.start() / "weights.safetensors"))
        kept = tmp_path / name / "start" / "trunk-vectors"
        assert kept.exists() == (name == "resting")
    # The kept vectors are in half width: the same components all the same.
    for key, weight in projections[0].items():
        torch.testing.assert_close(weight, projections[1][key], atol=5e-3, rtol=0)


def test_a_stage_leaves_the_next_one_all_threads(experiment: Experiment, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    alone = ["warm_start.embedder.loop.num_threads=1"]
    try:
        torch.set_num_threads(3)
        Run(tmp_path, with_overrides(experiment, alone)).warm_start()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_an_unfinished_training_is_no_model(experiment: Experiment, tmp_path: Path) -> None:
    finished = Run(tmp_path, experiment).warm_start()
    shutil.rmtree(finished)
    run = RunFolder(tmp_path, experiment)
    with pytest.raises(ArtifactError, match=r"step 1 of 2: go on with `realm warm-start --run"):
        run.checkpoint("warm-start")
    assert run.newest_checkpoint() == "start"
    with pytest.raises(ArtifactError, match="no pretrain checkpoint yet"):
        run.checkpoint("pretrain")


def test_an_unfinished_reader_is_told_as_well(experiment: Experiment, tmp_path: Path) -> None:
    reader = "{ num_steps = 2, save_every = 1, precision = 'fp32' }"
    taught = with_overrides(experiment, [f"warm_start.reader.loop={reader}"])
    run = Run(tmp_path, taught)
    composed = run.warm_start()
    shutil.rmtree(composed)
    with pytest.raises(ArtifactError, match="no warm-start checkpoint yet"):
        run.checkpoint("warm-start")  # both halves are there, and are still to be put together
    shutil.rmtree(tmp_path / "warm-start" / "reader" / "checkpoints" / "step-000000002")
    told = r"warm-start \(its reader\) of .* is at step 1 of 2: go on with `realm warm-start --run"
    with pytest.raises(ArtifactError, match=told):
        run.checkpoint("warm-start")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Two questions of the small world."""
    file = tmp_path / "questions.jsonl"
    file.write_text(
        '{"question": "Where is the port?", "answer": ["Tavil"]}\n'
        '{"question": "Who founded the observatory?", "answer": ["Edvard Lind"]}\n',
        encoding="utf-8",
    )
    return file


def changed(experiment: Experiment, questions: Path, **values: str) -> Experiment:
    """Nothing is taught before fine-tuning, which takes three steps."""
    loop = "{ num_steps = 3, save_every = 1, log_every = 1, precision = 'fp32' }"
    common = {
        "train_questions": f'["{questions}"]',
        "dev_questions": f'["{questions}"]',
        "warm_start.embedder.loop.num_steps": "0",
        "pretrain.loop.num_steps": "0",
        "finetune.loop": loop,
        "finetune.objective.batch_size": "2",
    }
    named = {name.replace("__", "."): value for name, value in values.items()}
    return with_overrides(experiment, [f"{n}={v}" for n, v in {**common, **named}.items()])


def test_the_best_fine_tuned_checkpoint_is_selected(
    experiment: Experiment, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, sizes = iter([10.0, 40.0, 30.0, 40.0]), []

    def scripted(answerer: Answerer, asked: list[Question], size: int) -> float:
        sizes.append((len(asked), size))
        assert answerer.answer([asked[0].question], top_k=1)
        return next(scores)

    monkeypatch.setattr(stages, "exact_match_of_sample", scripted)
    values = {"selection__finetune": "best", "finetune__num_development_questions": "1"}
    wanted = changed(experiment, questions, **values)
    run = Run(tmp_path / "run", wanted)
    best = run.finetune()
    assert best.name == "step-000000001"
    assert sizes == [(2, 1)] * 4
    assert run.finetune() == run.checkpoint("finetune") == best
    latest = wanted.model_copy(update={"selection": SelectionSettings()})
    assert Run(tmp_path / "run", latest).checkpoint("finetune").name == "step-000000003"
    assert steps_in(tmp_path / "run" / "finetune" / "checkpoints") == [1, 2, 3]


@pytest.mark.parametrize("half", ["retriever", "reader"])
def test_one_half_may_be_what_it_was_before_realm(
    half: str, experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    values = {
        "warm_start.embedder.loop.num_steps": "1",
        "pretrain.loop": "{ num_steps = 1, save_every = 1, precision = 'fp32' }",
        "pretrain.objective.num_candidates": "3",
        "pretrain.refresh.every": "1",
        "finetune.loop.num_steps": "0",
        f"finetune.{half}_from": "'warm-start'",
    }
    run = Run(tmp_path / "run", changed(experiment, questions, **values))
    tuned = load_file(run.finetune() / "weights.safetensors")
    before = load_file(run.checkpoint("warm-start") / "weights.safetensors")
    after = load_file(run.checkpoint("pretrain") / "weights.safetensors")
    is_reset = {"embedder.query_tower.": half == "retriever", "reader.trunk.": half == "reader"}
    for prefix, is_of_warm_start in is_reset.items():
        names = [name for name in before if name.startswith(prefix)]
        wanted, other = (before, after) if is_of_warm_start else (after, before)
        assert all(torch.equal(tuned[name], wanted[name]) for name in names)
        assert any(not torch.equal(tuned[name], other[name]) for name in names)
    # The passages are as the retriever that is fine-tuned sees them.
    made_by = "warm-start" if half == "retriever" else "pretrain"
    snapshot = run.snapshot("finetune")
    assert snapshot.checkpoint == read_manifest(run.checkpoint(made_by)).fingerprint
    assert run.answerer("finetune").answer(["Where is the port?"])


def test_an_embedder_may_learn_from_questions(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    values = {"warm_start.questions.depth": "5", "warm_start.embedder.loop.num_steps": "2"}
    run = Run(tmp_path / "run", changed(experiment, questions, **values))
    checkpoint = run.warm_start()
    rows = read_json_lines(tmp_path / "run" / "warm-start" / "embedder" / "metrics.jsonl")
    assert all("cloze_loss" not in row for row in rows)
    assert read_manifest(checkpoint).inputs["questions"]
    plain = changed(experiment, questions, **{"warm_start.embedder.loop.num_steps": "2"})
    with pytest.raises(ArtifactError, match="trained with other settings"):
        Run(tmp_path / "run", plain).warm_start()


def test_words_alone_may_choose_what_is_learned_from_and_read(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    values = {"retrieval.lexical": "true", "finetune.objective.retriever_passages": "4"}
    both = changed(experiment, questions, **values)
    alone = changed(experiment, questions, **values, **{"retrieval.embedder": "false"})
    runs = Run(tmp_path / "both", both), Run(tmp_path / "alone", alone)
    first = [read_json_lines(run.finetune().parents[1] / "metrics.jsonl")[0] for run in runs]
    # The ranking that is joined for answers is not learned from: only the embedder can learn it.
    assert first[0]["retriever_loss"] != first[1]["retriever_loss"]
    texts = ["Who founded the observatory?"]
    by_words = torch.from_numpy(runs[1].lexical().search(texts, 4)[0])
    assert torch.equal(runs[1].answerer("finetune").retrieve(texts, 4), by_words)
    assert runs[1].answerer("finetune").answer(texts)
    with pytest.raises(ArtifactError, match="trained with other settings"):
        Run(tmp_path / "both", alone).finetune()


def test_the_reader_may_drop_out_in_fine_tuning_alone(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    losses = []
    for rate in ("0.0", "0.5"):
        wanted = changed(experiment, questions, **{"finetune.reader_dropout": rate})
        folder = tmp_path / rate
        Run(folder, wanted).finetune()
        (first, *_) = read_json_lines(folder / "finetune" / "metrics.jsonl")
        losses.append((first["retriever_loss"], first["reader_loss"]))
    # Two runs of one recipe begin alike.
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_recall_is_measured_while_pre_training(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    values = {
        "pretrain.loop": "{ num_steps = 2, save_every = 1, precision = 'fp32' }",
        "pretrain.objective.num_candidates": "3",
        "pretrain.refresh.every": "1",
        "pretrain.num_development_questions": "9",
    }
    run = Run(tmp_path / "run", changed(experiment, questions, **values))
    run.pretrain()
    rows = read_json_lines(tmp_path / "run" / "pretrain" / "metrics.jsonl")
    measured = [r["development_recall_at_5"] for r in rows if "development_recall_at_5" in r]
    assert len(measured) == 3, "at steps 0, 1 and 2"
    # Nothing is taught before, so that it begins with the snapshot of the start.
    asked = run.development_questions()
    before = run.searcher("start").retrieve([q.question for q in asked], 5)
    expected = 100 * hits(asked, before.numpy(), run.corpus()).any(axis=1).mean()
    assert measured[0] == pytest.approx(expected)


class Stopped(Exception):
    """As if the process had been killed."""


def test_fine_tuning_that_was_stopped_ends_as_one_that_was_not(
    experiment: Experiment, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, though questions are chosen and hidden states dropped by chance."""
    wanted = changed(experiment, questions, **{"finetune.reader_dropout": "0.3"})
    whole = Run(tmp_path / "whole", wanted).finetune()
    loss = OpenQaObjective.loss

    def until_the_third_step(objective: OpenQaObjective, step: int) -> tuple[Tensor, Scalars]:
        if step == 2:
            raise Stopped
        return loss(objective, step)

    stopped = Run(tmp_path / "stopped", wanted)
    with monkeypatch.context() as patch:
        patch.setattr(OpenQaObjective, "loss", until_the_third_step)
        with pytest.raises(Stopped):
            stopped.finetune()
    resumed = Run(tmp_path / "stopped", wanted).finetune()
    assert resumed.name == whole.name == "step-000000003"
    ours, theirs = (load_file(path / "weights.safetensors") for path in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    start = load_file(Run(tmp_path / "whole", wanted).start() / "weights.safetensors")
    assert any(not torch.equal(ours[name], start[name]) for name in start)


def test_exact_match_is_measured_while_training(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    values = {"finetune__num_development_questions": "9"}
    Run(tmp_path / "run", changed(experiment, questions, **values)).finetune()
    rows = read_json_lines(tmp_path / "run" / "finetune" / "metrics.jsonl")
    measured = [row for row in rows if "development_exact_match" in row]
    assert [row["step"] for row in measured] == [0, 1, 2, 3]
    assert all(row["development_exact_match"] in (0.0, 50.0, 100.0) for row in measured)


def test_a_best_that_nothing_measures_is_refused(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    unmeasured = changed(experiment, questions, selection__finetune="best")
    with pytest.raises(SettingError, match=r"set finetune\.num_development_questions"):
        Run(tmp_path / "run", unmeasured).finetune()
    values = {"finetune__num_development_questions": "1", "dev_questions": "[]"}
    with pytest.raises(SettingError, match="no development questions"):
        Run(tmp_path / "run", changed(experiment, questions, **values)).finetune()


def test_every_training_draws_by_its_own_seed(
    experiment: Experiment, questions: Path, tmp_path: Path, trained: list[Training]
) -> None:
    groups = ("warm_start.embedder", "warm_start.reader", "pretrain", "finetune")
    loop = "num_steps = 1, save_every = 1, precision = 'fp32'"
    loops = {f"{name}.loop": f"{{ {loop}, seed = {n} }}" for n, name in enumerate(groups, start=5)}
    values = {**loops, "pretrain.objective.num_candidates": "3", "pretrain.refresh.every": "1"}
    Run(tmp_path / "run", changed(experiment, questions, **values)).finetune()
    assert [training.settings.seed for training in trained] == [5, 6, 7, 8]
    assert [cast(Any, training.objective)._seed for training in trained] == [5, 6, 7, 8]


def test_fine_tuning_moves_the_query_tower_alone(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", changed(experiment, questions))
    tuned, before = (
        load_file(path / "weights.safetensors") for path in (run.finetune(), run.start())
    )
    query, passage = "embedder.query_tower.", "embedder.passage_tower."
    names = [name.removeprefix(query) for name in before if name.startswith(query)]
    assert all(torch.equal(tuned[passage + name], before[query + name]) for name in names)
    assert any(not torch.equal(tuned[query + name], before[query + name]) for name in names)


def test_only_fine_tuning_teaches_when_to_say_nothing(
    experiment: Experiment, questions: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", changed(experiment, questions))
    run.finetune()
    assert run.experiment.finetune.objective.null_passage
    assert run.answerer("finetune").settings.null_passage
    assert not run.answerer("start").settings.null_passage


def test_pretraining_may_ask_from_other_documents(
    experiment: Experiment, questions: Path, tmp_path: Path, trained: list[Training]
) -> None:
    news = tmp_path / "news.txt"
    news.write_text("Edvard Lind came to Tavil in 1894. He saw the Sorna. " * 9, encoding="utf-8")
    values = {
        "pretrain_sources": f'["{news}"]',
        "pretrain.loop": "{ num_steps = 1, save_every = 1, precision = 'fp32' }",
        "pretrain.objective.num_candidates": "3",
        "pretrain.objective.batch_size": "2",
        "pretrain.refresh.every": "1",
    }
    run = Run(tmp_path / "run", changed(experiment, questions, **values))
    last = run.pretrain()
    queries = run.queries().corpus()
    assert queries.path == tmp_path / "run" / "queries" / "corpus"
    assert 2 <= len(queries) < len(run.corpus())
    assert len(cast(Any, trained[-1].objective)._own_hashes) == len(queries)
    assert read_manifest(last).inputs["queries"] == queries.fingerprint
    # Only what is hidden is looked for in X: the knowledge corpus needs no spans.
    assert not (tmp_path / "run" / "spans").exists()
    assert run.snapshot("pretrain").manifest.counts["num_passages"] == len(run.corpus())


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


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("start", "embedder.score_scale=1.0"), ("start", "reader.max_answer_tokens=2"),
        ("start", "packing.title_in_joint=false"), ("lexical", "lexical.k1=1.0"),
    ],
)  # fmt: skip
def test_what_was_made_with_other_settings_is_refused(
    stage: str, change: str, experiment: Experiment, tmp_path: Path
) -> None:
    """By Python as by the command line: a recipe that says otherwise would not be true."""
    run, other = Run(tmp_path, experiment), Run(tmp_path, with_overrides(experiment, [change]))
    getattr(run, stage)()
    getattr(run, stage)()
    name = change.partition("=")[0].rpartition(".")[2]
    with pytest.raises(ArtifactError, match=f"was made with another {name}"):
        getattr(other, stage)()
