"""Gradients of a batch that is run in parts equal those of the batch that is held whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.examples.masking import SalientSpanMasker
from realm.examples.packing import PackingSettings
from realm.examples.question import Question
from realm.index.exact import ExactIndex
from realm.index.snapshot import write_snapshot
from realm.models.checkpoint import Model, new_model
from realm.models.embedder import embed
from realm.models.marginal import in_batch_softmax
from realm.openqa.objective import OpenQaObjective, OpenQaSettings
from realm.pretraining.objective import RealmObjective, RealmSettings
from realm.pretraining.reading import ReadingObjective, ReadingSettings, mine_reading_pairs
from realm.pretraining.warm_start import InverseClozeObjective, InverseClozeSettings
from realm.retrieval.lexical import LexicalIndex
from realm.spans.annotate import SpanStore
from realm.training.loop import Objective

SMALL = {"token_budget": 60}  # one or two passages at a time


@pytest.fixture
def dropping_model(small_model: Model) -> Model:
    """With dropout, whose numbers have to be drawn again."""
    embedder = small_model.embedder.settings.model_copy(update={"dropout": 0.2})
    reader = small_model.reader.settings.model_copy(update={"dropout": 0.2})
    torch.manual_seed(0)
    packing = PackingSettings(query_tokens=32, passage_tokens=64)
    model = new_model(embedder, reader, packing)
    model.modules().train()
    return model


@pytest.fixture(params=["inverse cloze", "reading", "realm", "open-qa"])
def objective(
    request: pytest.FixtureRequest,
    dropping_model: Model,
    small_store: PassageStore,
    small_spans: SpanStore,
    small_lexical: LexicalIndex,
    tmp_path_factory: pytest.TempPathFactory,
) -> Objective:
    """Each of the four trainings, in small parts."""
    model, folder = dropping_model, tmp_path_factory.mktemp("objective")
    if request.param == "inverse cloze":
        cloze = InverseClozeSettings.model_validate({"batch_size": 6, **SMALL})
        return InverseClozeObjective(model, small_store, cloze, seed=0)
    if request.param == "reading":
        reading = ReadingSettings.model_validate({"batch_size": 6, "num_queries": 20, **SMALL})
        pairs = mine_reading_pairs(
            folder / "pairs", small_store, small_spans, small_lexical, reading, seed=0
        )
        return ReadingObjective(model, small_store, small_spans, pairs, reading, seed=0)
    snapshot = write_snapshot(folder / "s", model, small_store, checkpoint="", step=0)
    if request.param == "realm":
        realm = RealmSettings.model_validate({"batch_size": 3, "num_candidates": 3, **SMALL})
        masker = SalientSpanMasker(small_store, small_spans)
        objective = RealmObjective(model, small_store, masker, realm, seed=0)
        objective.index = ExactIndex(snapshot.embeddings)
        return objective
    questions = [Question("Where is the port?", ("Tavil",)), Question("Who?", ("Ida Renquist",))]
    open_qa = OpenQaSettings.model_validate({"batch_size": 2, **SMALL})
    return OpenQaObjective(model, small_store, snapshot, questions, open_qa, seed=0)


def gradients_of(model: Model, make_loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(5)
    make_loss().backward()
    gradients = {}
    for name, parameter in model.modules().named_parameters():
        if parameter.grad is not None:
            gradients[name] = parameter.grad
            parameter.grad = None
    return gradients


def num_kept(make_loss: Callable[[], Tensor]) -> int:
    """Numbers that the graph of a loss holds for its backward pass."""
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.numel()
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        make_loss()
    return kept


def test_the_gradient_is_the_same_and_little_is_kept(objective: Objective) -> None:
    def loss() -> Tensor:
        return objective.loss(1)[0]

    whole, held = gradients_of(objective.model, loss), num_kept(loss)
    objective.model.recompute(True)
    in_parts, kept = gradients_of(objective.model, loss), num_kept(loss)
    assert whole.keys() == in_parts.keys()
    assert len(whole) > 20
    for name, gradient in whole.items():
        torch.testing.assert_close(in_parts[name], gradient, atol=1e-6, rtol=1e-5, msg=name)
    assert kept < held / 4


def test_the_gradient_is_that_of_two_passes_by_hand(
    small_model: Model, small_store: PassageStore
) -> None:
    settings = InverseClozeSettings.model_validate({"batch_size": 5, **SMALL})
    objective = InverseClozeObjective(small_model, small_store, settings, seed=0)
    small_model.recompute(True)
    found = gradients_of(small_model, lambda: objective.loss(0)[0])
    small_model.recompute(False)
    pairs, packer = objective._pairs(objective._rows_at(0), 0), small_model.packer
    tower = small_model.embedder.query_tower
    inputs = [pair.query for pair in pairs] + [pair.passage for pair in pairs]
    with torch.no_grad():
        cached = embed(tower, inputs, packer)
    cached.requires_grad_()
    in_batch_softmax(cached[:5] @ cached[5:].T)[0].backward()
    gradient_of_outputs = cached.grad
    assert gradient_of_outputs is not None

    def second_pass() -> Tensor:
        parts = [embed(tower, [item], packer)[0] for item in inputs]
        return (torch.stack(parts) * gradient_of_outputs).sum()

    expected = gradients_of(small_model, second_pass)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_without_gradients_nothing_is_run_twice(small_model: Model) -> None:
    small_model.recompute(True)
    calls = []
    trunk = small_model.embedder.query_tower.trunk
    handle = trunk.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        packer = small_model.packer
        embed(small_model.embedder.query_tower, [packer.query(torch.arange(5, 9).numpy())], packer)
    handle.remove()
    assert len(calls) == 1
