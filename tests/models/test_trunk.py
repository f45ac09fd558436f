"""A trunk is whole or refused: random weights are never taken for trained ones."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from realm.errors import ResourceError, SettingError
from realm.examples.packing import PackingSettings
from realm.models import trunk
from realm.models.checkpoint import Model, load_model, new_model, save_checkpoint
from realm.models.embedder import EmbedderSettings, evaluating
from realm.models.reader import ReaderSettings, masked_log_probs, read
from realm.models.trunk import (
    DEFAULT_TRUNK,
    load_trunk,
    locate_trunk,
    max_positions,
    read_tokenizer,
    set_dropout,
)

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(trunk_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny trunk, with weights."""
    copy = tmp_path / "trunk"
    shutil.copytree(trunk_folder, copy)
    load_trunk(copy, dropout=0.0).save_pretrained(copy)  # type: ignore[operator]
    return copy


def split_in_two(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, held in shards.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_weights_in_shards_are_the_same_weights(folder: Path) -> None:
    expected = load_trunk(folder, dropout=0.0).state_dict()
    split_in_two(folder)
    found = load_trunk(locate_trunk(str(folder)), dropout=0.0).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_reader_may_take_the_first_layers_of_a_trunk(folder: Path, tmp_path: Path) -> None:
    whole = load_trunk(folder, dropout=0.0).state_dict()
    assert any(name.startswith("encoder.layer.1.") for name in whole)
    model = new_model(
        EmbedderSettings(trunk=str(folder), projection_width=8),
        ReaderSettings(trunk=str(folder), num_layers=1),
        PackingSettings(query_tokens=32, passage_tokens=64),
    )
    save_checkpoint(tmp_path / "checkpoint", model, step=0, inputs={})
    for made in (model, load_model(tmp_path / "checkpoint")):
        half = made.reader.trunk.state_dict()
        assert {name.split(".")[2] for name in half if name.startswith("encoder.")} == {"0"}
        assert all(torch.equal(weight, whole[name]) for name, weight in half.items())
        assert len(made.embedder.query_tower.trunk.encoder.layer) == 2  # type: ignore[union-attr, arg-type]


def test_more_layers_than_there_are_cannot_be_taken(folder: Path) -> None:
    with pytest.raises(SettingError, match="has 2 layers: the first 3 cannot be taken of it"):
        load_trunk(folder, dropout=0.0, num_layers=3)


def test_a_missing_shard_is_refused(folder: Path) -> None:
    split_in_two(folder)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ResourceError, match=r"no whole model\.safetensors"):
        locate_trunk(str(folder))


def test_weights_that_would_be_unpickled_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(ResourceError, match=r"convert a pytorch_model\.bin"):
        locate_trunk(str(folder))


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    renamed = {name.replace("attention", "mixing"): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(ResourceError, match="would be random"):
        load_trunk(folder, dropout=0.0)


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(SettingError, match=r"tokenizer.json is no tokenizer.json"):
        read_tokenizer(folder)


def test_a_pooler_that_is_used_has_to_be_there(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    rest = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    assert len(rest) < len(tensors)
    save_file(rest, folder / WEIGHTS, {"format": "pt"})
    load_trunk(folder, dropout=0.0)
    with pytest.raises(ResourceError, match="lack pooler"):
        load_trunk(folder, dropout=0.0, uses_pooler=True)


def in_hub_cache(
    name: str, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Lay files down as the hub's client does; return the folder of the snapshot."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for file in files:
        shutil.copy(file, snapshot)
    return snapshot


@pytest.mark.parametrize("lacking", ["", WEIGHTS, "tokenizer.json", "config.json"])
def test_half_a_download_counts_as_none(
    lacking: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"someone/trunk-without-{lacking or 'nothing'}"
    files = [file for file in folder.iterdir() if file.name != lacking]
    snapshot = in_hub_cache(name, files, tmp_path / "hub", monkeypatch)
    if lacking:
        with pytest.raises(ResourceError, match=f"has no whole {lacking}"):
            locate_trunk(name)
    else:
        assert locate_trunk(name) == snapshot


@pytest.mark.skipif(find_spec(trunk._CARRIER) is None, reason="needs the extra trunk")
def test_the_carrier_stands_in_for_half_a_download(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    snapshot = in_hub_cache(DEFAULT_TRUNK, [folder / "config.json"], cache, monkeypatch)
    found = locate_trunk.__wrapped__(DEFAULT_TRUNK)
    assert found != snapshot
    assert (found / WEIGHTS).is_file()


def masked_language_model(folder: Path) -> Any:
    """Save a tiny BERT with a masked head into the folder, as `transformers` does."""
    from transformers import AutoConfig, BertForMaskedLM

    torch.manual_seed(0)
    model = BertForMaskedLM(AutoConfig.from_pretrained(folder)).eval()
    with torch.no_grad():
        for parameter in model.cls.parameters():  # beginners' zeros and ones would prove little
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model


def rename(folder: Path, renamed: dict[str, str]) -> None:
    tensors = load_file(folder / WEIGHTS)
    for old, new in renamed.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def build(folder: Path) -> Model:
    return new_model(
        EmbedderSettings(trunk=str(folder), projection_width=8),
        ReaderSettings(trunk=str(folder)),
        PackingSettings(query_tokens=32, passage_tokens=64),
    )


@pytest.mark.parametrize(
    "renamed", [{}, {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}]
)
def test_a_trained_masked_head_comes_along(folder: Path, renamed: dict[str, str]) -> None:
    theirs = masked_language_model(folder)
    rename(folder, renamed)
    model = build(folder)
    joint = model.packer.joint(np.arange(20, 30), np.empty(0, np.int64), np.arange(40, 60))
    batch = model.packer.pad([joint])
    positions, targets = torch.tensor([[2, 5, 9]]), torch.tensor([[50, 7, 61]])
    with evaluating(model.reader):
        groups = read(model.reader, [joint], packer=model.packer, token_budget=100)
        found = masked_log_probs(
            model.reader, groups, positions, targets, torch.ones(1, 3, dtype=torch.bool)
        )
        logits = theirs(batch.input_ids, batch.attention_mask, batch.segment_ids).logits
    expected = logits.log_softmax(dim=-1)[0, positions[0], targets[0]]
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


def test_half_a_masked_head_is_left_out(folder: Path) -> None:
    masked_language_model(folder)
    rename(folder, {"cls.predictions.transform.dense": "cls.other"})
    head = build(folder).reader.masked_head
    assert torch.equal(head.bias, torch.zeros_like(head.bias))


def test_special_words_of_a_text_are_words(trunk_folder: Path) -> None:
    """What documents and people write never ends a passage, and hides nothing."""
    tokenizer = read_tokenizer(trunk_folder)
    written = tokenizer.encode("[SEP] [CLS] Tavil [MASK] [PAD]", add_special_tokens=False)
    special = {tokenizer.token_to_id(f"[{name}]") for name in ("CLS", "SEP", "MASK", "PAD")}
    assert None not in special
    assert special.isdisjoint(written.ids)


def save_small_trunk(kind: str, folder: Path) -> None:
    sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 1}
    sizes |= {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    config = AutoConfig.for_model(kind, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "mpnet"])
def test_dropout_is_as_set_in_trunks_of_other_kinds(kind: str, tmp_path: Path) -> None:
    save_small_trunk(kind, tmp_path)
    for rate in (0.0, 0.3):
        made = load_trunk(tmp_path, dropout=rate)
        rates = {m.p for m in made.modules() if isinstance(m, torch.nn.Dropout)}
        assert rates == {rate}
        inputs = torch.arange(2, 10)[None]
        with torch.no_grad():
            states = made.eval()(inputs).last_hidden_state
            dropped = made.train()(inputs).last_hidden_state
        assert torch.equal(states, dropped) == (rate == 0.0)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "mpnet"])
def test_trunks_of_other_kinds_drop_the_same_whenever_their_rate_is_set(
    kind: str, tmp_path: Path
) -> None:
    save_small_trunk(kind, tmp_path)
    always, later = (load_trunk(tmp_path, dropout=rate) for rate in (0.3, 0.0))
    set_dropout(later, 0.3)
    inputs = torch.arange(2, 10)[None]

    def hidden(encoder: torch.nn.Module) -> torch.Tensor:
        torch.manual_seed(0)
        with torch.no_grad():
            state: torch.Tensor = encoder.train()(inputs).last_hidden_state
        return state

    assert torch.equal(hidden(always), hidden(later))


@pytest.mark.parametrize(("kind", "most"), [("bert", 20), ("roberta", 18), ("mpnet", 18)])
def test_places_that_begin_behind_that_of_padding_are_not_for_wordpieces(
    kind: str, most: int, tmp_path: Path
) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    made = AutoModel.from_config(config)
    made.save_pretrained(tmp_path)
    assert max_positions(tmp_path) == most
    made(input_ids=torch.full((1, most), 5))
    with pytest.raises((IndexError, RuntimeError)):
        made(input_ids=torch.full((1, most + 1), 5))


def test_dropout_can_be_changed_and_rests_outside_training(trunk_folder: Path) -> None:
    loaded, other = (load_trunk(trunk_folder, dropout=rate) for rate in (0.0, 0.3))
    inputs = {"input_ids": torch.arange(1, 9)[None], "attention_mask": torch.ones(1, 8).long()}

    def hidden(encoder: torch.nn.Module) -> torch.Tensor:
        torch.manual_seed(0)
        state: torch.Tensor = encoder(**inputs).last_hidden_state
        return state.detach()

    other.load_state_dict(loaded.state_dict())
    plain = hidden(loaded.train())
    set_dropout(loaded, 0.3)
    # As if it had been loaded so, whichever layer drops what.
    torch.testing.assert_close(hidden(loaded), hidden(other.train()))
    assert not torch.allclose(hidden(loaded), plain)
    torch.testing.assert_close(hidden(loaded.eval()), plain)
