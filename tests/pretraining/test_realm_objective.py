"""What a REALM step does: who is a candidate, what is fresh, where the gradient goes."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.held_out import split_rows
from realm.examples.masked_query import MaskedQuery, mask_query, stack_targets
from realm.examples.masking import Masking, SalientSpanMasker
from realm.examples.stream import generator_at
from realm.index.encode import pack_joint, pack_passage, pool_corpus
from realm.index.exact import ExactIndex, Found
from realm.index.snapshot import Snapshot, write_snapshot
from realm.index.trunk_vectors import TrunkVectors, write_trunk_vectors
from realm.models.checkpoint import Model, new_model
from realm.models.embedder import embed
from realm.models.marginal import marginal_log_likelihood, mean_over_targets, span_log_probs
from realm.models.reader import masked_log_probs, read
from realm.pretraining import objective as objective_module
from realm.pretraining.objective import (
    RealmObjective,
    RealmSettings,
    embed_masked,
    scores_that_count,
)
from realm.retrieval.candidates import NULL_ROW
from realm.spans.annotate import SpanStore, annotate
from small_world import ARTICLES


class Listening(RealmObjective):
    """Remembers what the last step retrieved and what the reader made of it."""

    scores: Tensor
    rows: Tensor
    reader: Tensor

    def _retrieve(self, queries: Any) -> tuple[Tensor, Tensor]:
        self.scores, self.rows = super()._retrieve(queries)
        return self.scores, self.rows

    def _read(self, queries: Any, targets: Any, rows: Any) -> Tensor:
        self.reader = super()._read(queries, targets, rows)
        return self.reader


Make = Callable[..., Listening]


@pytest.fixture
def make(
    small_model: Model, small_store: PassageStore, small_spans: SpanStore, small_snapshot: Snapshot
) -> Make:
    """Makes an objective on the small world, with the snapshot of the untrained model."""

    def make_objective(
        model: Model = small_model, vectors: TrunkVectors | None = None, **values: object
    ) -> Listening:
        settings = RealmSettings.model_validate({"batch_size": 3, "num_candidates": 4, **values})
        masker = SalientSpanMasker(small_store, small_spans)
        objective = Listening(model, small_store, masker, settings, seed=0, vectors=vectors)
        objective.index = ExactIndex(small_snapshot.embeddings)
        return objective

    return make_objective


def query_of(store: PassageStore, spans: SpanStore, model: Model, row: int) -> MaskedQuery:
    masking = SalientSpanMasker(store, spans).choose(row, generator_at(0, 0, row))
    return mask_query(store, model.packer, row, masking, max_masks=10)


def changed(model: Model, part: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def test_null_first_then_others_than_the_own_passage(make: Make, small_store: PassageStore) -> None:
    objective = make(batch_size=11)
    objective.loss(0)
    assert objective.rows.shape == (11, 4)
    assert (objective.rows[:, 0] == NULL_ROW).all()
    assert (objective.rows[:, 1:] >= 0).all()
    for row, candidates in zip(rows_of(objective, 0), objective.rows.tolist(), strict=True):
        assert row not in candidates
        assert len(set(candidates)) == 4


def test_a_null_passage_that_fills_up_does_not_count_twice(make: Make) -> None:
    few = make(num_candidates=4)
    assert isinstance(few.index, ExactIndex)
    few.index = ExactIndex(few.index.embeddings[:2])  # two passages, often the own one among them
    _, scalars = few.loss(0)
    is_null = few.rows == NULL_ROW
    assert is_null[:, 1:].any()
    for scores, null in zip(few.scores.detach(), is_null, strict=True):
        assert torch.isfinite(scores[0])
        assert torch.isinf(scores[1:][null[1:]]).all()
    beliefs = few.scores.detach().softmax(dim=-1)
    assert scalars["null_probability"] == pytest.approx(float(beliefs[:, 0].mean()))
    # Nothing but the null passage: it has all the belief, not a fourth of it.
    only = torch.full((1, 4), NULL_ROW)
    for counts in (True, False):
        alone = scores_that_count(torch.zeros(1, 4), only, null_passage=counts)
        assert alone.softmax(dim=-1).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_a_corpus_with_nothing_to_hide_is_refused(
    small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    class OnePassage(SalientSpanMasker):
        def rows(self) -> np.ndarray:
            return super().rows()[:1]

    masker = OnePassage(small_store, small_spans)
    with pytest.raises(SourceError, match=r"too few passages \(1\) have something to hide by"):
        RealmObjective(small_model, small_store, masker, RealmSettings(), seed=0)


def rows_of(objective: RealmObjective, step: int) -> list[int]:
    """The passages that the queries of a step are cut from."""
    seen: list[int] = []
    original = objective._queries._masker.choose

    def choose(row: int, generator: Any) -> Masking:
        seen.append(row)
        return original(row, generator)

    objective._queries._masker.choose = choose  # type: ignore[method-assign]
    objective.loss(step)
    objective._queries._masker.choose = original  # type: ignore[method-assign]
    return seen


def test_a_copy_of_the_own_passage_is_no_candidate(
    tmp_path: Path, small_model: Model, tokenizer_file: Path
) -> None:
    source = tmp_path / "twice.jsonl"
    rows = [
        {"id": f"{copy}-{number}", "title": title, "text": text}
        for copy in ("one", "two")
        for number, (title, text) in enumerate(ARTICLES.items())
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    store = build_corpus(
        [source], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )
    snapshot = write_snapshot(tmp_path / "s", small_model, store, checkpoint="", step=0)
    masker = SalientSpanMasker(store, annotate(store, tmp_path / "spans"))
    objective = Listening(
        small_model, store, masker, RealmSettings(batch_size=8, num_candidates=6), seed=0
    )
    objective.index = ExactIndex(snapshot.embeddings)
    for row, candidates in zip(rows_of(objective, 0), objective.rows.tolist(), strict=True):
        assert {row % 12, row % 12 + 12}.isdisjoint(candidates)
        assert (torch.tensor(candidates[1:]) >= 0).all()


def test_queries_may_come_from_another_corpus(
    tmp_path: Path,
    small_model: Model,
    small_store: PassageStore,
    small_snapshot: Snapshot,
    tokenizer_file: Path,
) -> None:
    # X: the same passage on Tavil, another one on the Sorna, and a text under another title.
    rows = [
        ("Tavil", ARTICLES["Tavil"]),
        ("Sorna", "Edvard Lind swam in the Sorna on 3 May 1871."),
        ("A poet", ARTICLES["Anton Brisk"]),
    ]
    source = tmp_path / "news.jsonl"
    lines = [json.dumps({"id": str(n), "title": t, "text": x}) for n, (t, x) in enumerate(rows)]
    source.write_text("\n".join(lines), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    news = build_corpus(
        [source], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )
    masker = SalientSpanMasker(news, annotate(news, tmp_path / "spans"))
    objective = Listening(
        small_model, small_store, masker, RealmSettings(num_candidates=12), seed=0, queries=news
    )
    objective.index = ExactIndex(small_snapshot.embeddings)
    masked = [query_of(news, masker._spans, small_model, row) for row in range(3)]
    loss, _ = objective.loss_of(masked)
    assert loss.isfinite()
    found = [set(rows) - {NULL_ROW} for rows in objective.rows.tolist()]
    # Only the very same title and text is left out: the fourth passage of Z, for the first query.
    assert small_store.text(3) == news.text(0)
    assert found[0] == set(range(12)) - {3}
    assert [len(rows) for rows in found] == [11, 11, 11]
    everything = objective.index.search(
        embed_masked(small_model, masked[1:], 4096).detach(), 11
    ).rows
    assert [set(rows) for rows in everything.tolist()] == found[1:]
    words = small_model.tokenizer.decode(masked[1].ids.tolist())
    assert "swam" in words or "lind" in words or "sorna" in words


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_without_the_null_passage_all_candidates_are_passages(
    make: Make,
    small_model: Model,
    small_store: PassageStore,
    small_spans: SpanStore,
    marginal: str,
) -> None:
    objective = make(null_passage=False, marginal=marginal)
    queries = [query_of(small_store, small_spans, small_model, row) for row in (0, 1, 6)]
    loss, scalars = objective.loss_of(queries)
    assert (objective.rows[:, 1:] >= 0).all()
    assert objective.rows.shape == (3, 5)
    # The marginal by hand, over the four passages alone.
    is_target = stack_targets(queries).is_target
    scores, reader = objective.scores[:, 1:], objective.reader[:, 1:]
    if marginal == "token":
        expected = -mean_over_targets(marginal_log_likelihood(scores, reader), is_target)
    else:
        whole = span_log_probs(reader, is_target)
        expected = -marginal_log_likelihood(scores, whole).mean()
    torch.testing.assert_close(loss, expected)
    assert scalars["null_probability"] == 0.0
    assert all(math.isfinite(value) for value in scalars.values())
    loss.backward()
    gradients = [p.grad for p in small_model.modules().parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("num_candidates", [2, 12, 15])
def test_exactly_as_many_as_asked_for(make: Make, num_candidates: int) -> None:
    objective = make(num_candidates=num_candidates, batch_size=2)
    loss, _ = objective.loss(0)
    assert objective.rows.shape == (2, num_candidates)
    assert loss.isfinite()
    # Eleven other passages: beyond them the null passage fills up.
    assert (objective.rows[:, 1:] >= 0).sum(dim=1).tolist() == [min(num_candidates - 1, 11)] * 2


def test_a_passage_that_two_queries_found_is_embedded_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed:
        def search(self, queries: Tensor, k: int) -> Found:
            rows = torch.arange(12).expand(len(queries), 12)
            return Found(torch.zeros(len(queries), 12), rows)

    objective = make(batch_size=5, num_candidates=3)
    objective.index = Fixed()  # type: ignore[assignment]
    packed: list[int] = []

    def counting(store: PassageStore, packer: Any, row: int) -> Any:
        packed.append(row)
        return pack_passage(store, packer, row)

    monkeypatch.setattr(objective_module, "pack_passage", counting)
    objective.loss(0)
    assert sorted(packed) == sorted(set(objective.rows.flatten().tolist()))
    assert len(packed) <= 4 < objective.rows.numel() == 15


def test_scores_are_those_of_the_model_of_this_step(
    make: Make, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    objective = make()
    queries = [query_of(small_store, small_spans, small_model, row) for row in (2, 5)]
    objective.loss_of(queries)
    stale_scores, rows = objective.scores.detach(), objective.rows

    class Same:
        """The candidates of a stale snapshot stay what they were."""

        def search(self, vectors: Tensor, k: int) -> Found:
            return Found(torch.zeros(2, 3), rows[:, 1:])

    objective.index = Same()  # type: ignore[assignment]
    changed(small_model, small_model.embedder)
    objective.loss_of(queries)
    assert torch.equal(objective.rows, rows)
    assert (objective.scores.detach() - stale_scores).abs().min() > 1e-4
    packer, tower = small_model.packer, small_model.embedder.query_tower
    vectors = embed(tower, [packer.query(query.ids) for query in queries], packer)
    passages = [pack_passage(small_store, packer, int(row)) for row in rows.flatten()]
    embedded = embed(tower, passages, packer).view(2, 4, -1)
    fresh = (vectors[:, None] * embedded).sum(dim=-1)
    torch.testing.assert_close(objective.scores, fresh, atol=1e-4, rtol=0)


def test_the_snapshot_chooses(make: Make, small_snapshot: Snapshot) -> None:
    objective = make()
    objective.loss(0)
    before = objective.rows
    # Another snapshot: the passages have changed places.
    objective.index = ExactIndex(small_snapshot.embeddings.flip(0).contiguous())
    objective.loss(0)
    assert not torch.equal(objective.rows, before)


def test_without_a_snapshot_there_is_nothing_to_search(make: Make) -> None:
    objective = make()
    objective.index = None
    with pytest.raises(RuntimeError, match="no snapshot"):
        objective.loss(0)


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_the_loss_is_the_marginal_of_what_was_read(
    make: Make,
    small_model: Model,
    small_store: PassageStore,
    small_spans: SpanStore,
    marginal: str,
) -> None:
    objective = make(marginal=marginal)
    queries = [query_of(small_store, small_spans, small_model, row) for row in (0, 1, 6)]
    loss, scalars = objective.loss_of(queries)
    targets = stack_targets(queries)
    # Every pair read alone, one masked wordpiece after the other.
    reader = torch.zeros(3, 4, targets.ids.shape[1])
    for number, query in enumerate(queries):
        for place, row in enumerate(objective.rows[number].tolist()):
            joint = pack_joint(small_store, small_model.packer, query.ids, row)
            groups = read(small_model.reader, [joint], packer=small_model.packer, token_budget=4096)
            of_query = (targets.positions, targets.ids, targets.is_target)
            one = [target[number : number + 1] for target in of_query]
            reader[number, place] = masked_log_probs(small_model.reader, groups, *one)[0]
    if marginal == "token":
        by_token = marginal_log_likelihood(objective.scores, reader)
        expected = -mean_over_targets(by_token, targets.is_target)
    else:
        whole = span_log_probs(reader, targets.is_target)
        expected = -marginal_log_likelihood(objective.scores, whole).mean()
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)
    null = -mean_over_targets(reader[:, 0], targets.is_target)
    assert scalars["null_loss"] == pytest.approx(null.item(), abs=1e-4)


def test_spans_and_wordpieces_agree_where_a_span_is_one_wordpiece(
    make: Make, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    single = [
        query
        for row in range(12)
        if len((query := query_of(small_store, small_spans, small_model, row)).targets) == 1
    ]
    assert single
    by_token, _ = make(marginal="token").loss_of(single)
    by_span, _ = make(marginal="span").loss_of(single)
    torch.testing.assert_close(by_token, by_span, atol=1e-5, rtol=0)


def test_the_scalars(make: Make) -> None:
    objective = make(batch_size=6)
    loss, scalars = objective.loss(0)
    beliefs = objective.scores.detach().softmax(dim=-1)
    assert scalars["null_probability"] == pytest.approx(float(beliefs[:, 0].mean()), abs=1e-5)
    assert 0 < scalars["retrieval_entropy"] <= torch.tensor(4.0).log() + 1e-5
    assert scalars["max_utility"] >= scalars["mean_utility"]
    assert scalars["max_utility"] >= scalars["top_utility"]
    # The released scalar: what retrieval adds to reading nothing.
    utility = scalars["null_loss"] - loss.item()
    assert scalars["retrieval_utility"] == pytest.approx(utility, abs=1e-4)


def test_the_scalars_by_hand() -> None:
    # p(z|x) = 1/4, 1/4, 1/2 and p(y|z,x) = 0.2, 0.4, 0.5: p(y|x) = 0.05 + 0.1 + 0.25 = 0.4.
    scores = torch.tensor([[1.0, 1.0, 2.0]]).log()
    reader = torch.tensor([0.2, 0.4, 0.5]).log().reshape(1, 3, 1)
    is_target = torch.tensor([[True]])
    marginal = marginal_log_likelihood(scores, reader)
    scalars = objective_module._scalars(scores, reader, marginal, is_target)
    assert scalars == pytest.approx(
        {
            "retrieval_utility": math.log(0.4 / 0.2),
            "max_utility": math.log(0.5 / 0.2),
            "top_utility": math.log(0.4 / 0.2),
            "mean_utility": (math.log(2.0) + math.log(2.5)) / 2,
            "null_probability": 0.25,
            "retrieval_entropy": 1.5 * math.log(2),
            "null_loss": -math.log(0.2),
        },
        abs=1e-6,
    )


def test_null_candidates_have_no_utility(make: Make) -> None:
    class NothingFound:
        def search(self, queries: Tensor, k: int) -> Found:
            return Found(
                torch.full((len(queries), 3), -torch.inf), torch.full((len(queries), 3), -1)
            )

    objective = make()
    objective.index = NothingFound()  # type: ignore[assignment]
    _, scalars = objective.loss(0)
    assert (objective.rows == NULL_ROW).all()
    for name in ("retrieval_utility", "max_utility", "top_utility", "mean_utility"):
        assert scalars[name] == pytest.approx(0.0, abs=1e-5)
    assert scalars["null_probability"] == pytest.approx(1.0, abs=1e-5)


def test_the_null_passage_alone_is_no_retrieval(
    make: Make, small_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make(num_candidates=1)
    objective.index = None
    for tower in (small_model.embedder.query_tower, small_model.embedder.passage_tower):
        monkeypatch.setattr(tower, "pool", pytest.fail)
    loss, scalars = objective.loss(0)
    assert objective.rows.tolist() == [[NULL_ROW]] * 3
    assert scalars["null_loss"] == pytest.approx(float(loss.detach()), abs=1e-6)
    names = ("retrieval_utility", "max_utility", "top_utility", "mean_utility")
    assert [scalars[name] for name in names] == [0.0] * 4
    assert scalars["no_other_passage"] == 0
    loss.backward()
    moved = {name: p.grad for name, p in small_model.embedder.named_parameters()}
    assert all(grad is None or not grad.any() for grad in moved.values())
    assert small_model.reader.trunk.get_input_embeddings().weight.grad.any()  # type: ignore[operator]


def test_reader_query_side_and_passage_side_learn(make: Make, small_model: Model) -> None:
    towers = new_model(
        small_model.embedder.settings.model_copy(update={"shared_towers": False}),
        small_model.reader.settings,
        small_model.packer.settings,
    )
    loss, _ = make(towers).loss(0)
    loss.backward()
    for part in (towers.embedder.query_tower, towers.embedder.passage_tower, towers.reader):
        missing = {n for n, p in part.named_parameters() if p.grad is None or not p.grad.any()}
        unused = {n for n in missing if "pooler" in n or n.startswith("span_head")}
        # Keys' biases move all scores of a softmax alike.
        assert {n for n in missing - unused if "key.bias" not in n} == set()
    query, passage = (
        dict(t.named_parameters())["projection.weight"].grad
        for t in (towers.embedder.query_tower, towers.embedder.passage_tower)
    )
    assert query is not None
    assert passage is not None
    assert not torch.equal(query, passage)


def test_a_trunk_at_rest_gets_no_gradient(make: Make, small_model: Model) -> None:
    loss, _ = make(embedder_trains="projection").loss(0)
    loss.backward()
    tower = small_model.embedder.query_tower
    assert all(parameter.grad is None for parameter in tower.trunk.parameters())
    assert tower.projection is not None
    assert tower.projection.weight.grad is not None
    assert tower.projection.weight.grad.any()


def num_run(model: Model, step: Callable[[], object]) -> int:
    """How many inputs the embedder's trunk saw."""
    seen: list[int] = []
    trunk = model.embedder.passage_tower.trunk
    handle = trunk.register_forward_pre_hook(
        lambda _, __, named: seen.append(len(named["input_ids"])), with_kwargs=True
    )
    step()
    handle.remove()
    return sum(seen)


def test_kept_vectors_stand_for_a_trunk_at_rest(
    make: Make, small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    kept = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    # The gradient is one of differences between passages: the reader has to see some, and what an
    # untrained trunk tells apart is lost in half precision.
    torch.manual_seed(5)
    changed(small_model, small_model.reader)
    with torch.no_grad():
        whole = torch.cat(list(pool_corpus(small_model, small_store))).float()
    torch.testing.assert_close(kept.vectors.float(), whole, atol=2e-3, rtol=2e-3)
    vectors = replace(kept, vectors=whole)
    projection = small_model.embedder.passage_tower.projection
    assert projection is not None
    found = []
    for given in (None, vectors):
        objective = make(vectors=given, embedder_trains="projection")
        objective.loss(0)[0].backward()
        assert projection.weight.grad is not None
        found.append((objective.scores.detach(), projection.weight.grad))
        projection.weight.grad = None
    for whole, quick in zip(*found, strict=True):
        most = 2e-3 * float(whole.abs().max())
        torch.testing.assert_close(quick, whole, atol=most, rtol=0)
    # Three queries and the null passage.
    assert num_run(small_model, lambda: objective.loss(0)) == 4


def test_kept_vectors_do_not_stand_for_another_trunk_or_one_that_moves(
    make: Make, small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    vectors = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    moving = make(vectors=vectors, embedder_trains="all")
    assert num_run(small_model, lambda: moving.loss(0)) > 4
    changed(small_model, small_model.embedder.passage_tower.trunk)
    other = make(vectors=vectors, embedder_trains="projection")
    assert num_run(small_model, lambda: other.loss(0)) > 4


def test_the_loss_falls(make: Make) -> None:
    objective = make()
    adam = torch.optim.Adam(objective.trainable().parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss, _ = objective.loss(0)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_step_depends_on_its_number_alone(make: Make) -> None:
    one, other = make(), make()
    one.loss(0)
    losses = [objective.loss(3)[0].item() for objective in (one, other)]
    assert losses[0] == losses[1]
    assert one.loss(4)[0].item() != losses[0]


def test_held_out_passages_are_never_trained_on(make: Make) -> None:
    objective = make(batch_size=4)
    held_out = objective.held_out.tolist()
    assert held_out
    trained = {row for step in range(9) for row in rows_of(objective, step)}
    assert trained.isdisjoint(held_out)
    assert sorted([*trained, *held_out]) == list(range(12))


def test_documents_are_held_out_whole(
    tmp_path: Path, tokenizer_file: Path, small_spans: SpanStore
) -> None:
    source = tmp_path / "many.jsonl"
    text = " ".join(f"Tavil has harbour number {n} since 1871." for n in range(20))
    rows = [{"id": str(number), "title": "", "text": text} for number in range(100)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    store = build_corpus(
        [source], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )
    train, held_out = split_rows(torch.arange(len(store)).numpy(), store)
    assert len(train) + len(held_out) == len(store) > 300
    documents = store.document_rows()
    assert set(documents[train].tolist()).isdisjoint(documents[held_out].tolist())
    assert 0 < len(set(documents[held_out].tolist())) <= 6
    again = split_rows(torch.arange(len(store)).numpy(), store)
    assert again[1].tolist() == held_out.tolist()


def test_measuring_changes_nothing(make: Make, small_model: Model) -> None:
    objective = make()
    small_model.modules().train()
    before = torch.get_rng_state()
    first = objective.held_out_utility(8)
    assert torch.equal(torch.get_rng_state(), before)
    assert objective.held_out_utility(8) == first
    assert all(name.startswith("held_out_") for name in first)
    assert {"held_out_loss", "held_out_retrieval_utility"} <= set(first)
    assert small_model.reader.training
    assert all(parameter.grad is None for parameter in small_model.modules().parameters())


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_what_is_held_out_is_measured_alike_whatever_the_batch(make: Make, marginal: str) -> None:
    """Means over queries and means over wordpieces, of which queries hide different numbers."""
    measured = []
    for batch_size in (1, 3, 4):
        objective = make(batch_size=batch_size, marginal=marginal)
        objective.held_out = objective._rows[:4]
        measured.append(objective.held_out_utility(4))
    for other in measured[1:]:
        assert other == pytest.approx(measured[0], abs=1e-5)
    assert measured[0]["held_out_retrieval_utility"] != 0.0


def test_held_out_queries_are_measured_without_dropout(make: Make, small_model: Model) -> None:
    settings = small_model.reader.settings.model_copy(update={"dropout": 0.5})
    dropping = new_model(small_model.embedder.settings, settings, small_model.packer.settings)
    objective = make(dropping)
    dropping.modules().train()
    torch.manual_seed(0)
    first = objective.held_out_utility(8)
    torch.manual_seed(1)
    assert objective.held_out_utility(8) == first
    losses = {float(objective.loss(0)[0].detach()) for _ in range(2)}
    assert len(losses) == 2, "training drops"


def test_utility_is_a_mean_over_what_is_hidden(make: Make) -> None:
    objective = make(batch_size=8, num_candidates=3)
    _, scalars = objective.loss(0)
    rows = [int(objective._rows[i]) for i in batch_of(objective, 0)]
    queries = objective._queries.batch(rows, 1, substitutes=objective._rows)
    by_query = []
    for query, log_probs in zip(queries, objective.reader, strict=True):
        count = len(query.targets)
        null, *others = (log_probs[:, :count].sum(dim=-1) / count).tolist()
        by_query.append([other - null for other in others])
    assert max(len(query.targets) for query in queries) > 1
    assert scalars["mean_utility"] == pytest.approx(float(np.mean(by_query)), abs=1e-5)
    assert scalars["top_utility"] == pytest.approx(
        float(np.mean([u[0] for u in by_query])), abs=1e-5
    )


def test_a_seed_decides_which_passages_are_asked_about_and_what_is_hidden(
    small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    masker = SalientSpanMasker(small_store, small_spans)
    chosen, hidden = [], []
    for seed in (0, 0, 1):
        objective = RealmObjective(
            small_model, small_store, masker, RealmSettings(batch_size=4), seed=seed
        )
        chosen.append([batch_of(objective, step) for step in range(5)])
        rows = [int(row) for row in objective._rows]
        queries = [q for step in range(5) for q in objective._queries.usable(rows, step=step)]
        hidden.append([query.positions.tolist() for query in queries])
    assert chosen[0] == chosen[1] != chosen[2]
    assert hidden[0] == hidden[1] != hidden[2]


def batch_of(objective: RealmObjective, step: int) -> list[int]:
    """The places among the training passages from which a step takes its queries."""
    seen: list[int] = []
    taken = objective._queries.batch

    def listening(rows: Any, *arguments: Any, **named: Any) -> Any:
        seen.extend(int(np.flatnonzero(objective._rows == row)[0]) for row in rows)
        raise StopIteration

    objective._queries.batch = listening  # type: ignore[method-assign]
    with pytest.raises(StopIteration):
        objective.loss(step)
    objective._queries.batch = taken  # type: ignore[method-assign]
    return seen
