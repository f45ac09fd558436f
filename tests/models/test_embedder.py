"""Embeddings do not depend on what they were batched with."""

import math

import numpy as np
import pytest
import torch

from realm.examples.packing import Packed
from realm.models.checkpoint import Model
from realm.models.embedder import (
    Embedder,
    EmbedderSettings,
    Tower,
    embed,
    evaluating,
    pool,
    start_projection_from_principal_components,
)
from realm.pretraining.warm_start import half_whitening


def some_passages(model: Model, lengths: tuple[int, ...] = (3, 40, 0, 17, 9)) -> list[Packed]:
    generator = np.random.default_rng(0)
    vocab = model.tokenizer.get_vocab_size()
    return [
        model.packer.passage(generator.integers(5, vocab, 2), generator.integers(5, vocab, length))
        for length in lengths
    ]


def change_settings(tower: Tower, **values: object) -> Tower:
    settings = EmbedderSettings.model_validate({**tower.settings.model_dump(), **values})
    torch.manual_seed(1)
    return Tower(tower.trunk, settings)


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_batched_equals_one_by_one(small_model: Model, pooling: str) -> None:
    tower = change_settings(
        small_model.embedder.passage_tower, pooling=pooling, projection_layer_norm=True
    )
    packed = some_passages(small_model)
    with evaluating(tower):
        together = embed(tower, packed, small_model.packer)
        alone = [embed(tower, [item], small_model.packer)[0] for item in packed]
        small_batches = embed(tower, packed, small_model.packer, token_budget=50)
    assert together.shape == (5, 16)
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(together, small_batches, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_the_mean_leaves_padding_out(small_model: Model) -> None:
    tower = small_model.embedder.passage_tower
    item = some_passages(small_model, (4,))[0]
    batch = small_model.packer.pad([item])
    with evaluating(tower):
        hidden = tower.trunk(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.segment_ids,
        ).last_hidden_state
        pooled = pool(tower, [*some_passages(small_model, (30,)), item], small_model.packer)
    torch.testing.assert_close(pooled[1], hidden[0].mean(dim=0), atol=1e-5, rtol=0)


def test_pooling_and_projection_by_hand(small_model: Model) -> None:
    item = some_passages(small_model, (4,))[0]
    batch = small_model.packer.pad([item])
    trunk = small_model.embedder.passage_tower.trunk
    with evaluating(trunk):
        first = trunk(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.segment_ids,
        ).last_hidden_state[0, 0]
    dense = trunk.pooler.dense  # type: ignore[union-attr]
    by_pooling = {"cls": first, "pooler": torch.tanh(dense.weight @ first + dense.bias)}  # type: ignore[union-attr]
    for pooling, pooled in by_pooling.items():
        for layer_norm in (False, True):
            tower = change_settings(
                small_model.embedder.passage_tower,
                pooling=pooling, projection_layer_norm=layer_norm, normalise=False, score_scale=1.0,
            )  # fmt: skip
            assert tower.projection is not None
            expected = tower.projection.weight @ pooled + tower.projection.bias
            if tower.layer_norm is not None:
                scale = torch.linspace(0.5, 2.0, 16)
                with torch.no_grad():
                    tower.layer_norm.weight.copy_(scale)
                    tower.layer_norm.bias.fill_(0.25)
                centred = expected - expected.mean()
                expected = centred / centred.square().mean().sqrt() * scale + 0.25
            with evaluating(tower):
                found = embed(tower, [item], small_model.packer)[0]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_embedding_drops_out_while_training_alone(small_model: Model) -> None:
    packed = some_passages(small_model, (4,) * 40)
    values = {"normalise": False, "score_scale": 1.0}
    plain = change_settings(small_model.embedder.passage_tower, **values)
    tower = change_settings(small_model.embedder.passage_tower, projection_dropout=0.5, **values)
    with evaluating(plain), evaluating(tower):
        whole = embed(plain, packed, small_model.packer)
        assert torch.equal(embed(tower, packed, small_model.packer), whole)
    tower.train()
    with torch.no_grad():
        dropped = embed(tower, packed, small_model.packer)
    is_kept = dropped != 0
    torch.testing.assert_close(dropped[is_kept], 2 * whole[is_kept], atol=1e-5, rtol=0)
    assert 0.4 < float(is_kept.float().mean()) < 0.6


def test_the_scale_is_folded_into_both_sides(small_model: Model) -> None:
    tower = small_model.embedder.passage_tower
    with evaluating(tower):
        embedding = embed(tower, some_passages(small_model), small_model.packer)
    assert torch.allclose((embedding @ embedding.T).diagonal(), torch.tensor(20.0))
    raw = change_settings(tower, normalise=False, score_scale=1.0)
    doubled = change_settings(tower, normalise=False, score_scale=4.0)
    with evaluating(raw), evaluating(doubled):
        packed = some_passages(small_model)
        one = embed(raw, packed, small_model.packer)
        two = embed(doubled, packed, small_model.packer)
    torch.testing.assert_close(one * 2, two)


def test_without_a_projection_the_trunk_gives_the_width(small_model: Model) -> None:
    tower = change_settings(
        small_model.embedder.passage_tower, projection_width=None, normalise=False, score_scale=1.0
    )
    packed = some_passages(small_model)
    with evaluating(tower):
        assert tower.width == 32
        torch.testing.assert_close(
            embed(tower, packed, small_model.packer), pool(tower, packed, small_model.packer)
        )
        assert start_projection_from_principal_components(tower, torch.ones(3, 32)) == 1.0


def test_principal_components_keep_the_plane_that_vectors_lie_in(small_model: Model) -> None:
    tower = small_model.embedder.passage_tower
    torch.manual_seed(2)
    plane = torch.linalg.qr(torch.randn(32, 16)).Q.T
    vectors = torch.nn.functional.normalize(torch.randn(100, 16) @ plane, dim=-1)
    assert start_projection_from_principal_components(tower, vectors) == pytest.approx(1.0)
    assert tower.projection is not None
    with torch.no_grad():
        projected = tower.projection(vectors)
    torch.testing.assert_close(projected @ projected.T, vectors @ vectors.T, atol=1e-5, rtol=0)
    # In all directions alike, half of them hold about half.
    share = start_projection_from_principal_components(tower, torch.randn(2000, 32))
    assert 0.5 < share < 0.6


def test_a_projection_may_start_where_shared_directions_are_softened(small_model: Model) -> None:
    tower = small_model.embedder.passage_tower
    torch.manual_seed(3)
    vectors = torch.randn(400, 32) * torch.linspace(0.1, 3.0, 32)
    whitening = half_whitening(vectors)
    start_projection_from_principal_components(tower, vectors, whitening)
    assert tower.projection is not None
    weight = tower.projection.weight.detach()
    assert float(weight.norm()) ** 2 == pytest.approx(16)  # sixteen rows, of length one on average
    # What is kept are the directions in which softened vectors lie most.
    softened = torch.nn.functional.normalize(vectors @ whitening, dim=-1)
    directions = torch.linalg.svd(softened, full_matrices=False).Vh[:16]
    kept, wanted = vectors @ weight.T, vectors @ whitening @ directions.T
    cosines = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(
        cosines(kept[:200], kept[200:]), cosines(wanted[:200], wanted[200:]), atol=1e-4, rtol=0
    )


def test_gradients_flow_in_the_order_of_the_inputs(small_model: Model) -> None:
    tower = small_model.embedder.passage_tower
    embed(tower, some_passages(small_model), small_model.packer)[2].sum().backward()
    words = tower.trunk.get_input_embeddings().weight.grad  # type: ignore[operator]
    touched = set(words.abs().sum(dim=-1).nonzero()[:, 0].tolist())
    assert touched == set(some_passages(small_model)[2].ids.tolist())


def test_an_own_query_tower_moves_alone(small_model: Model) -> None:
    shared = small_model.embedder
    assert shared.has_shared_towers
    own = shared.with_own_query_tower()
    assert isinstance(own, Embedder)
    assert not own.has_shared_towers
    assert own.passage_tower is shared.passage_tower
    packed = some_passages(small_model)
    with evaluating(own):
        before = embed(own.passage_tower, packed, small_model.packer)
        torch.testing.assert_close(embed(own.query_tower, packed, small_model.packer), before)
        for parameter in own.query_tower.parameters():
            parameter.mul_(0.5)
        torch.testing.assert_close(embed(own.passage_tower, packed, small_model.packer), before)


def test_evaluating_gives_the_mode_back(small_model: Model) -> None:
    tower = small_model.embedder.query_tower
    for was_training in (True, False):
        tower.train(was_training)
        with evaluating(tower):
            assert not tower.training
            assert not torch.is_grad_enabled()
        assert tower.training is was_training
    assert torch.is_grad_enabled()


def test_half_precision_gives_single_precision_embeddings(small_model: Model) -> None:
    packed = some_passages(small_model)
    tower = small_model.embedder.passage_tower
    with evaluating(tower):
        exact = embed(tower, packed, small_model.packer)
        small_model.to(torch.device("cpu"), torch.bfloat16)
        rounded = embed(tower, packed, small_model.packer)
    assert rounded.dtype == torch.float32
    assert (exact - rounded).norm(dim=-1).max() < 0.1 * math.sqrt(20.0)
