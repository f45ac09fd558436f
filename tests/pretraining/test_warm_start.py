"""The inverse cloze task: it is learned, and it moves only what it may."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_cloze
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from launcher import launch
from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.index.trunk_vectors import TrunkVectors, write_trunk_vectors
from realm.json_lines import read_json_lines
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.models.embedder import embed
from realm.models.marginal import divergence_from_teacher, in_batch_softmax
from realm.pretraining.warm_start import (
    InverseClozeObjective,
    InverseClozeSettings,
    half_whitening,
)
from realm.training.loop import LoopSettings, Training
from realm.training.optim import OptimSettings

Make = Callable[..., InverseClozeObjective]


@pytest.fixture
def vectors(small_model: Model, small_store: PassageStore, tmp_path: Path) -> TrunkVectors:
    """What the trunk alone makes of the small world."""
    return write_trunk_vectors(tmp_path / "vectors", small_model, small_store)


@pytest.fixture
def make(small_model: Model, small_store: PassageStore, vectors: TrunkVectors) -> Make:
    """Makes an objective whose batch is the small world, whole."""

    def make_objective(**values: object) -> InverseClozeObjective:
        if {"teacher_share", "corpus_passages"} & set(values):
            values = {"trains": "projection", **values}
        settings = InverseClozeSettings.model_validate({"batch_size": 12, **values})
        return InverseClozeObjective(small_model, small_store, settings, seed=0, vectors=vectors)

    return make_objective


def train(objective: InverseClozeObjective, folder: Path, *, num_steps: int) -> Path:
    settings = LoopSettings(
        num_steps=num_steps, save_every=10, log_every=1, precision="fp32",
        optim=OptimSettings(learning_rate=3e-3),
    )  # fmt: skip
    return Training(objective, settings, folder, {}).run()


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def moved(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    after = parameters_of(module)
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("trains", ["all", "projection"])
def test_the_loss_falls(make: Make, tmp_path: Path, trains: str) -> None:
    objective = make(trains=trains)
    first, _ = objective.loss(0)
    train(objective, tmp_path / "run", num_steps=30)
    last, scalars = objective.loss(0)
    share = {"all": 0.5, "projection": 0.8}[trains]
    assert last.item() < share * first.item()
    assert scalars["accuracy"] > 1 / 12
    assert scalars["cloze_loss"] == pytest.approx(last.item())


def test_only_the_projection_moves(make: Make, small_model: Model, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "start", small_model, step=0, inputs={})
    before = parameters_of(small_model.modules())
    last = train(make(trains="projection"), tmp_path / "run", num_steps=3)
    assert moved(small_model.modules(), before) == {
        "embedder.query_tower.projection.weight",
        "embedder.query_tower.projection.bias",
    }
    # In the file as well, bit for bit.
    one = load_file(tmp_path / "start" / "weights.safetensors")
    two = load_file(last / "weights.safetensors")
    assert one.keys() == two.keys()
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert all(".projection." in name for name in changed)
    trunk = load_model(last).embedder.passage_tower.trunk
    assert not moved(
        trunk, parameters_of(load_model(tmp_path / "start").embedder.passage_tower.trunk)
    )


def test_the_whole_embedder_moves_and_the_reader_stays(
    make: Make, small_model: Model, tmp_path: Path
) -> None:
    before = parameters_of(small_model.modules())
    train(make(trains="all"), tmp_path / "run", num_steps=2)
    names = moved(small_model.modules(), before)
    assert any(".trunk." in name for name in names)
    assert not any(name.startswith("reader.") for name in names)


def test_each_sentence_is_asked_among_the_passages_of_the_batch(
    make: Make, small_model: Model
) -> None:
    objective = make(batch_size=5)
    loss, scalars = objective.loss(2)
    pairs = objective._pairs(objective._rows_at(2), 2)
    tower, packer = small_model.embedder.query_tower, small_model.packer
    scores = embed(tower, [p.query for p in pairs], packer) @ (
        embed(tower, [p.passage for p in pairs], packer).T
    )
    assert scores.shape == (5, 5)
    torch.testing.assert_close(loss, in_batch_softmax(scores)[0], atol=1e-4, rtol=0)
    hits = scores.argmax(dim=1) == torch.arange(5)
    assert scalars["accuracy"] == pytest.approx(float(hits.float().mean()))


@pytest.mark.slow
def test_negatives_come_from_all_processes(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    save_checkpoint(start, small_model, step=0, inputs={})
    common = (start, small_store.path)
    launch(small_cloze.__file__, *common, tmp_path / "shards", 3)
    last = small_cloze.train(*common, tmp_path / "whole", 6, recompute=True)
    ours = load_file(tmp_path / "shards" / "checkpoints" / last.name / "weights.safetensors")
    torch.testing.assert_close(ours, load_file(last / "weights.safetensors"), atol=1e-5, rtol=1e-4)
    norms = [
        [row["gradient_norm"] for row in read_json_lines(tmp_path / name / "metrics.jsonl")]
        for name in ("shards", "whole")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_teacher_has_its_share(make: Make, small_model: Model) -> None:
    alone, _ = make(teacher_share=0.0).loss(0)
    with_teacher, scalars = make(teacher_share=0.25).loss(0)
    assert scalars["cloze_loss"] == pytest.approx(alone.item(), abs=1e-5)
    expected = 0.75 * scalars["cloze_loss"] + 0.25 * scalars["divergence"]
    assert with_teacher.item() == pytest.approx(expected, abs=1e-4)
    only_teacher, scalars = make(teacher_share=1.0).loss(0)
    assert only_teacher.item() == pytest.approx(scalars["divergence"], abs=1e-5)


def test_a_projection_that_whitens_agrees_with_the_teacher(
    make: Make, small_model: Model, vectors: TrunkVectors
) -> None:
    tower = small_model.embedder.query_tower
    tower.projection = nn.Linear(32, 32)
    with torch.no_grad():
        tower.projection.weight.copy_(half_whitening(vectors.vectors.float()))
        tower.projection.bias.zero_()
    _, scalars = make(teacher_share=0.5).loss(0)
    assert scalars["divergence"] == pytest.approx(0.0, abs=1e-4)


def test_half_whitening_halves_the_spread_in_the_exponent() -> None:
    # Second moment diag(0.8, 0.2): the fourth roots of 1/0.8 and 1/0.2.
    vectors = torch.tensor([[2.0, 0.0]] * 4 + [[0.0, 3.0]])
    expected = torch.diag(torch.tensor([0.8, 0.2]) ** -0.25)
    torch.testing.assert_close(half_whitening(vectors), expected)


def test_the_teacher_ranks_a_sample_of_the_corpus(
    make: Make, small_model: Model, vectors: TrunkVectors
) -> None:
    objective = make(teacher_share=1.0, teacher_queries=2, teacher_passages=3)
    loss, _ = objective.loss(4)
    draw = np.random.default_rng((0, 4, 50))
    sentences = objective._sentences
    queries = sentences[np.sort(draw.permutation(len(sentences))[:2])]
    passages = vectors.vectors[torch.from_numpy(np.sort(draw.permutation(12)[:3]))].float()
    tower = small_model.embedder.query_tower
    scores = tower.project(queries) @ tower.project(passages).T
    white = half_whitening(vectors.vectors.float())
    cosines = nn.functional.cosine_similarity(
        (queries @ white)[:, None], (passages @ white)[None], dim=-1
    )
    scale = 2 * small_model.embedder.settings.score_scale
    expected = divergence_from_teacher(2 * scores, scale * cosines)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def test_a_passage_that_stands_twice_in_a_batch_is_no_rival_of_itself(
    make: Make, small_model: Model
) -> None:
    """As where an epoch ends within a batch."""
    objective = make(batch_size=5)
    steps = [step for step in range(40) if len(set(objective._rows_at(step).tolist())) < 5]
    loss, _ = objective.loss(steps[0])
    rows = objective._rows_at(steps[0])
    pairs = objective._pairs(rows, steps[0])
    queries, passages = (
        embed(small_model.embedder.query_tower, list(packed), small_model.packer)
        for packed in zip(*pairs, strict=True)
    )
    expected = []
    for number, row in enumerate(rows.tolist()):
        rivals = [other for other in range(5) if other == number or rows[other] != row]
        scores = passages[rivals] @ queries[number]
        expected.append(-scores.log_softmax(dim=-1)[rivals.index(number)])
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-4, rtol=1e-4)


def test_a_teacher_that_moves_is_refused() -> None:
    with pytest.raises(ValueError, match="a teacher stays as it is"):
        InverseClozeSettings(trains="all", teacher_share=0.5)


def test_passages_of_the_corpus_compete_and_the_own_one_does_not(
    make: Make, small_model: Model, vectors: TrunkVectors
) -> None:
    """All twelve passages compete beside the three of the batch: 14 rivals and the right one."""
    objective = make(batch_size=3, corpus_passages=12)
    loss, scalars = objective.loss(2)
    rows = objective._rows_at(2)
    pairs = objective._pairs(rows, 2)
    queries, own = (
        embed(small_model.embedder.query_tower, list(packed), small_model.packer)
        for packed in zip(*pairs, strict=True)
    )
    corpus = small_model.embedder.passage_tower.project(vectors.vectors.float())
    expected = []
    for number, row in enumerate(rows.tolist()):
        rivals = torch.cat([own, corpus[[other for other in range(12) if other != row]]])
        expected.append(-(rivals @ queries[number]).log_softmax(dim=-1)[number])
    assert len(rivals) == 14
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-4, rtol=1e-4)
    assert scalars["cloze_loss"] == pytest.approx(loss.item())
    alone, _ = make(batch_size=3).loss(2)
    assert alone < loss


def test_whole_passages_are_taken_from_where_they_are_kept(
    make: Make, small_model: Model, vectors: TrunkVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make(trains="projection", removal_rate=0.0)
    kept, _ = objective.loss(1)
    monkeypatch.setattr(objective, "_vectors", None)
    embedded, _ = objective.loss(1)
    torch.testing.assert_close(kept, embedded, atol=1e-3, rtol=1e-3)  # kept in half width
    assert not torch.equal(kept, embedded)


def test_passages_whose_vectors_are_not_kept_do_not_compete(make: Make) -> None:
    with pytest.raises(ValueError, match="their vectors are kept"):
        InverseClozeSettings(trains="all", corpus_passages=8)


def test_the_teacher_is_followed(make: Make, small_model: Model, tmp_path: Path) -> None:
    objective = make(teacher_share=1.0)
    _, before = objective.loss(0)
    train(objective, tmp_path / "run", num_steps=30)
    _, after = objective.loss(0)
    assert after["divergence"] < 0.5 * before["divergence"]


def test_divergence_by_hand() -> None:
    # Equal rankings up to a constant in each row do not diverge.
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    shift = torch.tensor([[3.0], [5.0]])
    assert divergence_from_teacher(teacher + shift, teacher).item() == pytest.approx(0.0, abs=1e-6)
    # p = (1/2, 1/2) against q = (1/4, 3/4): ln(2 / sqrt 3) for each row.
    guess = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    by_hand = 0.5 * torch.tensor([2.0, 2 / 3]).log().sum()
    assert divergence_from_teacher(guess, torch.zeros(2, 2)).item() == pytest.approx(by_hand.item())


def test_passages_of_a_single_sentence_teach_nothing(
    small_model: Model, tokenizer_file: Path, tmp_path: Path
) -> None:
    source = tmp_path / "corpus.jsonl"
    rows = [{"id": str(n), "title": "", "text": f"Tavil is port {n}."} for n in range(3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    path = tmp_path / "corpus"
    store = build_corpus([source], path, tokenizer_file=tokenizer_file, settings=settings)
    objective = InverseClozeObjective(small_model, store, InverseClozeSettings(), seed=0)
    with pytest.raises(SourceError, match="two sentences"):
        objective.loss(0)
    # As the message says.
    assert train(objective, tmp_path / "run", num_steps=0).is_dir()


def test_a_seed_and_a_step_decide_which_sentences_are_asked_with(
    small_model: Model, small_store: PassageStore
) -> None:
    def drawn(seed: int, step: int) -> tuple[list[int], list[list[int]]]:
        settings = InverseClozeSettings(batch_size=4)
        objective = InverseClozeObjective(small_model, small_store, settings, seed=seed)
        rows = objective._rows_at(step)
        everything = objective._pairs(objective._rows, step)
        return rows.tolist(), [pair.query.ids.tolist() for pair in everything]

    first, again, later, other = drawn(0, 0), drawn(0, 0), drawn(0, 1), drawn(1, 0)
    assert first == again
    for changed in (later, other):
        assert changed[0] != first[0]
        assert changed[1] != first[1]


def test_passages_that_measure_pre_training_are_not_asked_about(make: Make) -> None:
    objective = make()
    assert 0 not in objective._rows.tolist()  # held out
    assert len(objective._rows) > 6


@pytest.mark.parametrize(("rate", "is_left"), [(0.0, True), (1.0, False)])
def test_the_sentence_is_taken_out_of_its_passage_as_often_as_asked(
    make: Make, rate: float, is_left: bool
) -> None:
    objective = make(removal_rate=rate)
    pairs = objective._pairs(objective._rows, 0)
    for pair in pairs:
        sentence, passage = (" ".join(map(str, p.ids.tolist())) for p in (pair.query, pair.passage))
        inside = " ".join(sentence.split()[1:-1])  # without the marks at both ends
        assert (inside in passage) == is_left
