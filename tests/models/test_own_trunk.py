"""A trunk that was trained here is a folder like any other."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer

from realm.artifact import read_manifest, verify
from realm.errors import ResourceError, SettingError
from realm.examples.packing import PackingSettings
from realm.models.checkpoint import Model, new_model
from realm.models.embedder import EmbedderSettings, evaluating
from realm.models.own_trunk import TrunkShape, write_own_trunk, write_untrained_trunk
from realm.models.reader import ReaderSettings
from realm.models.trunk import (
    OWN_TRUNK,
    load_trunk,
    locate_trunk,
    max_positions,
    read_tokenizer,
    trunk_folder,
)

SHAPE = TrunkShape(num_layers=2, width=24, num_heads=3, inner_width=40, max_tokens=80)


def build(folder: Path, **embedder: str) -> Model:
    return new_model(
        EmbedderSettings.model_validate({"trunk": str(folder), "projection_width": 8, **embedder}),
        ReaderSettings(trunk=str(folder)),
        PackingSettings(query_tokens=16, passage_tokens=64),
    )


@pytest.fixture
def untrained(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    write_untrained_trunk(tmp_path / "untrained", SHAPE, tokenizer, settings={})
    return tmp_path / "untrained"


@pytest.fixture
def model(untrained: Path) -> Model:
    """Random weights, those of the masked head too: zeros and ones would prove little."""
    torch.manual_seed(0)
    model = build(untrained)
    with torch.no_grad():
        for parameter in model.reader.masked_head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture
def trained(model: Model, tmp_path: Path) -> Path:
    write_own_trunk(
        tmp_path / "model", SHAPE, model.tokenizer, model.reader, settings={}, inputs={"a": "b"}
    )
    return tmp_path / "model"


def test_an_untrained_trunk_has_the_shape_and_no_weights(
    untrained: Path, tokenizer: Tokenizer
) -> None:
    trunk = load_trunk(locate_trunk(str(untrained)), dropout=0.0)
    sizes = {name: tuple(weight.shape) for name, weight in trunk.named_parameters()}
    assert sizes["embeddings.word_embeddings.weight"] == (tokenizer.get_vocab_size(), 24)
    assert sizes["embeddings.position_embeddings.weight"] == (80, 24)
    assert sizes["encoder.layer.1.intermediate.dense.weight"] == (40, 24)
    assert "encoder.layer.2.intermediate.dense.weight" not in sizes
    assert max_positions(untrained) == 80
    assert read_tokenizer(untrained).to_str() == tokenizer.to_str()
    assert not list(untrained.glob("*.safetensors"))


def test_both_halves_start_from_a_trained_trunk(model: Model, trained: Path) -> None:
    assert verify(trained) > 3
    assert read_manifest(trained).inputs == {"a": "b"}
    started = build(trained)
    expected = model.reader.trunk.state_dict()
    for trunk in (started.reader.trunk, started.embedder.query_tower.trunk):
        found = trunk.state_dict()
        names = [name for name in expected if not name.startswith("pooler.")]
        assert all(torch.equal(found[name], expected[name]) for name in names)
    head, expected = started.reader.masked_head.state_dict(), model.reader.masked_head.state_dict()
    assert all(torch.equal(head[name], weight) for name, weight in expected.items())


def test_transformers_reads_what_was_trained(model: Model, trained: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    theirs = AutoModelForMaskedLM.from_pretrained(trained).eval()
    words = AutoTokenizer.from_pretrained(trained)("Tavil is a port.", return_tensors="pt")
    with evaluating(model.reader):
        hidden = model.reader.trunk(**words).last_hidden_state
        ours = model.reader.masked_head(hidden[0], model.reader.output_embeddings())
        logits = theirs(**words).logits[0]
    assert ours.std() > 0.1
    torch.testing.assert_close(logits, ours, atol=1e-5, rtol=0)


def test_a_pooler_that_nothing_trained_is_not_given_away(trained: Path) -> None:
    with pytest.raises(ResourceError, match="lack pooler"):
        build(trained, pooling="pooler")


def test_a_vocabulary_with_holes_fits(tokenizer: Tokenizer, tmp_path: Path) -> None:
    values = json.loads(tokenizer.to_str())
    values["model"]["vocab"]["zebra"] = 1000
    holed = Tokenizer.from_str(json.dumps(values))
    write_untrained_trunk(tmp_path / "holed", SHAPE, holed, settings={})
    facts = json.loads((tmp_path / "holed" / "config.json").read_text("utf-8"))
    assert facts["vocab_size"] == 1001


def test_the_own_trunk_has_to_be_given(untrained: Path) -> None:
    assert trunk_folder(OWN_TRUNK, untrained) == untrained
    with pytest.raises(SettingError, match="what a run trains itself"):
        build(Path(OWN_TRUNK))


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="5 heads cannot share a width of 256"):
        TrunkShape(num_heads=5)
