"""Is a model that was made compact the same model?"""

import pytest
import torch

from realm.models import compact as compact_module
from realm.models.compact import Compact, compact, whole

PUBLISHED = {
    "embeddings.word_embeddings.weight": torch.arange(12.0).view(4, 3) / 7,
    "encoder.layer.0.output.dense.weight": torch.ones(3, 3) / 3,
}
WORDS, OUTPUT = PUBLISHED


@pytest.fixture(autouse=True)
def _published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pinned trunk of two tensors, on this machine."""
    monkeypatch.setattr(compact_module, "_pinned_weights", lambda: PUBLISHED)
    monkeypatch.setattr(compact_module, "find_trunk", lambda name: name)


def weights_of_a_model() -> dict[str, torch.Tensor]:
    learned = torch.tensor([[0.1, 1e-3, -2.0]])
    return {
        f"embedder.query_tower.trunk.{WORDS}": PUBLISHED[WORDS].clone(),
        f"embedder.query_tower.trunk.{OUTPUT}": PUBLISHED[OUTPUT].clone(),
        "embedder.query_tower.projection.weight": learned,
        "embedder.passage_tower.projection.weight": learned.clone(),
        f"reader.trunk.{WORDS}": PUBLISHED[WORDS].clone(),
        f"reader.trunk.{OUTPUT}": PUBLISHED[OUTPUT] + 0.01,
        "reader.span_head.weight": PUBLISHED[OUTPUT].clone(),
    }


def test_what_is_found_elsewhere_is_left_out_and_comes_back() -> None:
    weights = weights_of_a_model()
    made = compact(weights)
    assert set(made.tensors) == {
        "embedder.query_tower.projection.weight",
        f"reader.trunk.{OUTPUT}",
        "reader.span_head.weight",  # as in the trunk by chance, but in no trunk
    }
    assert all(tensor.dtype == torch.float16 for tensor in made.tensors.values())
    restored = whole(made)
    assert set(restored) == set(weights)
    for name, weight in weights.items():
        torch.testing.assert_close(restored[name].float(), weight, rtol=1e-3, atol=1e-6)
        if name in made.pinned:
            assert torch.equal(restored[name], weight), "the published trunk is not halved"


def test_a_machine_without_the_trunk_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_module, "find_trunk", lambda name: None)
    made = compact(weights_of_a_model())
    assert made.pinned == []
    # The reader has the same words as the embedder.
    assert made.same_as[f"reader.trunk.{WORDS}"] == f"embedder.query_tower.trunk.{WORDS}"
    assert set(whole(made)) == set(weights_of_a_model())


def test_what_half_precision_cannot_hold_stays_wide() -> None:
    made = compact({"scale": torch.tensor([1e6]), "other": torch.tensor([1.0])})
    assert made.tensors["scale"].dtype == torch.float32
    assert made.tensors["other"].dtype == torch.float16


def test_a_whole_checkpoint_is_left_as_it_is() -> None:
    weights = weights_of_a_model()
    assert whole(Compact(weights)) == weights
