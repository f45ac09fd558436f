"""Does a fact that was changed in the corpus change what the model says, without training?"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import error_of, realm

from realm.artifact import read_manifest
from realm.evaluation.fill_mask import parse_gaps
from realm.examples.masked_query import stack_targets
from realm.experiment import Experiment, with_overrides
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.models.marginal import marginal_log_likelihood, span_log_probs
from realm.models.reader import masked_log_probs
from realm.pretraining.objective import embed_masked, read_rows, score_rows
from realm.retrieval.candidates import NULL_ROW
from realm.stages import Run
from realm.swap import swap

GAP = "The bridge over the Sorna was opened by [MASK]."
BEFORE, AFTER = "Oskar", "Osmund"  # one wordpiece each
RULER = "Velland is ruled by {}. He opened the bridge over the Sorna, says {}."
OTHER = "Tavil is a port at the mouth of the river. Its harbour was built in 1790."
_NO_STEPS = ("warm_start.embedder", "warm_start.reader", "pretrain", "finetune")


def write_corpus(file: Path, name: str) -> Path:
    rows = [("Velland", RULER.format(name, name)), ("Tavil", OTHER)]
    lines = [
        json.dumps({"id": f"d{n}", "title": title, "text": text}) + "\n"
        for n, (title, text) in enumerate(rows)
    ]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def experiment_of(source: Path, trunk: Path) -> Experiment:
    values = {
        "sources": f'["{source}"]',
        "corpus.passage_tokens": "64",
        "corpus.num_workers": "1",
        "packing.query_tokens": "40",
        "embedder.trunk": f"'{trunk}'",
        "embedder.projection_width": "8",
        "reader.trunk": f"'{trunk}'",
        "pretrain.objective.num_candidates": "3",
        **{f"{stage}.loop.num_steps": "0" for stage in _NO_STEPS},
    }
    return with_overrides(Experiment(), [f"{name}={value}" for name, value in values.items()])


def teach_to_read(model: Model, worlds: dict[str, Run]) -> None:
    """Raise p(y|x) over either corpus with the name that stands in it, until the reader copies."""
    adam = torch.optim.Adam(model.modules().parameters(), lr=3e-3)
    rows = torch.tensor([[NULL_ROW, 0, 1]])
    for _ in range(300):
        losses = []
        for name, world in worlds.items():
            query = parse_gaps(GAP, model, name)
            targets = stack_targets([query])
            repeated = [
                t.repeat_interleave(3, dim=0)
                for t in (targets.positions, targets.ids, targets.is_target)
            ]
            vectors = embed_masked(model, [query], 4096)
            scores = score_rows(model, world.corpus(), vectors, rows, 4096)
            groups = read_rows(model, world.corpus(), [query], rows, 4096)
            log_probs = masked_log_probs(model.reader, groups, *repeated).view(1, 3, -1)
            whole = span_log_probs(log_probs, targets.is_target)
            losses.append(-marginal_log_likelihood(scores, whole).mean())
        loss = torch.stack(losses).mean()
        if loss.item() < 0.1:
            return
        adam.zero_grad()
        loss.backward()
        adam.step()
    raise AssertionError(f"the tiny reader did not learn to copy: loss {loss.item():.2f}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, trunk_folder: Path) -> Path:
    """A run over the old corpus whose reader copies names out of what it reads."""
    folder = tmp_path_factory.mktemp("swap")
    worlds = {
        name: Run(folder / name, experiment_of(write_corpus(folder / f"{name}.jsonl", name), trunk))
        for name, trunk in ((BEFORE, trunk_folder), (AFTER, trunk_folder))
    }
    old = worlds[BEFORE]
    old.save_recipe()
    torch.manual_seed(0)
    model = load_model(old.start())
    teach_to_read(model, worlds)
    path = folder / BEFORE / "pretrain" / "checkpoints" / "step-000000000"
    save_checkpoint(path, model, step=0, inputs={"corpus": old.corpus().fingerprint})
    shutil.rmtree(folder / AFTER)
    return folder / BEFORE


@pytest.fixture(scope="module")
def swapped(run: Path) -> Path:
    """The same model over the new corpus."""
    result = realm("swap-corpus", run.parent / f"{AFTER}.jsonl", "--run", run, "--to", run / "new")
    assert result.exit_code == 0, result.output
    assert "2 other passages" in result.stdout
    return run / "new"


def filled(run: Path) -> dict[str, Any]:
    result = realm("fill-mask", GAP, "--run", run, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_a_changed_fact_changes_the_answer(run: Path, swapped: Path) -> None:
    before, after = filled(run), filled(swapped)
    assert before["answer"]["text"] == BEFORE.lower()
    assert after["answer"]["text"] == AFTER.lower()
    for said in (before, after):
        assert said["answer"]["probability"] > 0.8
        best = max(said["candidates"], key=lambda c: c["retrieval_utility"])
        assert best["title"] == "Velland"
        assert said["answer"]["text"] in best["text"].lower()
    # Without retrieval it is one model, which knows neither corpus.
    first = "fillings_without_retrieval"
    assert before[first][0]["text"] == after[first][0]["text"]


def test_given_again_it_goes_on(run: Path, swapped: Path) -> None:
    shutil.rmtree(swapped / "pretrain")  # as if it had been stopped before the model was taken
    source = run.parent / f"{AFTER}.jsonl"
    result = realm("swap-corpus", source, "--run", run, "--to", swapped)
    assert result.exit_code == 0, result.output
    assert Run.open(swapped).taken("pretrain") is not None
    result = realm("swap-corpus", run.parent / f"{BEFORE}.jsonl", "--run", run, "--to", swapped)
    assert result.exit_code == 2
    assert "is a run already" in result.output


def test_the_best_of_a_training_may_be_taken_though_it_is_not_the_last(swapped: Path) -> None:
    made = Run.open(swapped)
    loop = made.experiment.pretrain.loop.model_copy(update={"num_steps": 7})
    pretrain = made.experiment.pretrain.model_copy(update={"loop": loop})
    longer = Run(swapped, made.experiment.model_copy(update={"pretrain": pretrain}))
    assert longer.checkpoint("pretrain") == made.checkpoint("pretrain")


def test_the_model_is_the_same_and_was_not_trained(run: Path, swapped: Path) -> None:
    name = "pretrain/checkpoints/step-000000000"
    one, other = (read_manifest(path / name) for path in (run, swapped))
    assert one.files["weights.safetensors"] == other.files["weights.safetensors"]
    assert other.inputs["taken-from"] == one.fingerprint
    assert not (swapped / "start").exists()
    assert not (swapped / "warm-start").exists()
    # Asked for, the stage hands out the model that was taken.
    assert Run.open(swapped).pretrain() == swapped / name
    assert [n for n, _ in stages_of(swapped)] == [
        *("corpus", "spans", "lexical", "pretrain", "index", "finetune")
    ]


def stages_of(run: Path) -> Any:
    from realm.stages import all_stages

    return all_stages(Run.open(run))


def test_a_person_sees_passages_and_fillings(swapped: Path) -> None:
    result = realm("fill-mask", GAP, "--run", swapped, "--answer", AFTER)
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "without retrieval" in shown
    assert "(no passage)" in shown
    assert "Velland: Velland is ruled by Osmund." in shown
    assert "p(y|z,x)" in shown


def test_a_fine_tuned_model_comes_along(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "old"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("new"))
    old = Run.open(copy)
    model = load_model(old.checkpoint("pretrain"))
    model.embedder = model.embedder.with_own_query_tower()
    inputs = {"snapshot": old.snapshot("pretrain").manifest.fingerprint}
    save_checkpoint(copy / "finetune/checkpoints/step-000000000", model, step=0, inputs=inputs)
    source = str(run.parent / f"{AFTER}.jsonl")
    new = swap(old, [source], tmp_path / "new")
    assert new.taken_checkpoints() == ["pretrain", "finetune"]
    answers = realm("ask", "Who opened the bridge?", "--run", tmp_path / "new", "--json")
    assert answers.exit_code == 0, answers.output
    texts = [a["passage"]["text"] for a in json.loads(answers.stdout)["answers"]]
    assert texts
    assert all(BEFORE not in text for text in texts)


def test_what_cannot_be_swapped(run: Path, tmp_path: Path) -> None:
    source = run.parent / f"{AFTER}.jsonl"
    taken = realm("swap-corpus", source, "--run", run, "--to", run)
    assert "is a run already" in error_of(taken)
    begun = tmp_path / "begun"
    Run(begun, Run.open(run).experiment).save_recipe()
    untrained = realm("swap-corpus", source, "--run", begun, "--to", tmp_path / "to")
    assert "has no checkpoint yet" in error_of(untrained)
    assert not (tmp_path / "to").exists()
    missing = realm("swap-corpus", tmp_path / "no", "--run", run, "--to", tmp_path / "to")
    assert "there is no file or folder" in error_of(missing)
    assert not Run.is_run(tmp_path / "to")
    no_gap = realm("fill-mask", "Tavil is a port.", "--run", run)
    assert "has no [MASK]" in error_of(no_gap)
