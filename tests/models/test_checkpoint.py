"""A checkpoint is all that is needed to score again."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from realm.artifact import open_artifact
from realm.errors import ArtifactError, SettingError
from realm.examples.packing import PackingSettings
from realm.models.checkpoint import (
    KIND,
    Model,
    load_model,
    new_model,
    save_checkpoint,
    training_tensors,
    unique_parameters,
)
from realm.models.embedder import EmbedderSettings, embed, evaluating
from realm.models.reader import ReaderSettings, masked_predictions, read
from realm.models.trunk import read_tokenizer

QUERY = np.arange(20, 30)


def save(path: Path, model: Model) -> None:
    save_checkpoint(path, model, step=7, inputs={"corpus": "abc"})


def outputs(model: Model) -> list[torch.Tensor]:
    """What a model says of one query: both embeddings, and what it reads."""
    packer, towers = model.packer, (model.embedder.query_tower, model.embedder.passage_tower)
    with evaluating(model.modules()):
        joint = packer.joint(QUERY, QUERY, QUERY)
        groups = read(model.reader, [joint], packer=packer, token_budget=100)
        return [
            *(embed(tower, [packer.query(QUERY)], packer) for tower in towers),
            masked_predictions(model.reader, groups, 2),
        ]


def assert_same(one: Model, other: Model) -> None:
    for ours, theirs in zip(outputs(one), outputs(other), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_comes_back_as_it_was(small_model: Model, tmp_path: Path) -> None:
    save(tmp_path / "checkpoint", small_model)
    loaded = load_model(tmp_path / "checkpoint")
    assert_same(small_model, loaded)
    assert loaded.embedder.has_shared_towers
    assert loaded.embedder.settings == small_model.embedder.settings
    assert loaded.reader.settings == small_model.reader.settings
    assert loaded.packer.settings == small_model.packer.settings
    assert loaded.tokenizer.to_str() == small_model.tokenizer.to_str()
    manifest = open_artifact(tmp_path / "checkpoint", KIND)
    assert manifest.settings["step"] == 7
    assert manifest.inputs == {"corpus": "abc"}


def test_saving_what_was_loaded_gives_the_same_files(small_model: Model, tmp_path: Path) -> None:
    save(tmp_path / "one", small_model)
    save(tmp_path / "two", load_model(tmp_path / "one"))
    one, two = (open_artifact(tmp_path / name, KIND) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint


def test_an_own_query_tower_comes_back(small_model: Model, tmp_path: Path) -> None:
    small_model.embedder = small_model.embedder.with_own_query_tower()
    with torch.no_grad():
        for parameter in small_model.embedder.query_tower.parameters():
            parameter.mul_(0.9)
    save(tmp_path / "checkpoint", small_model)
    loaded = load_model(tmp_path / "checkpoint")
    assert not loaded.embedder.has_shared_towers
    assert_same(small_model, loaded)
    query, passage, _ = outputs(loaded)
    assert not torch.equal(query, passage)


def test_each_of_two_towers_keeps_its_own_weights(trunk_folder: Path, tmp_path: Path) -> None:
    # The released code exported the document embedder as the query embedder.
    torch.manual_seed(3)
    settings = EmbedderSettings(
        trunk=str(trunk_folder), projection_width=16, shared_towers=False, normalise=False
    )
    packing = PackingSettings(query_tokens=32, passage_tokens=64)
    model = new_model(settings, ReaderSettings(trunk=str(trunk_folder)), packing)
    towers = model.embedder.query_tower, model.embedder.passage_tower
    with torch.no_grad():
        for tower, value in zip(towers, (0.25, -0.75), strict=True):
            assert tower.projection is not None
            tower.projection.weight.zero_()
            tower.projection.bias.fill_(value)
    save(tmp_path / "checkpoint", model)
    loaded = load_model(tmp_path / "checkpoint")
    assert_same(model, loaded)
    query, passage, _ = outputs(loaded)
    scale = settings.score_scale**0.5
    torch.testing.assert_close(query, torch.full((1, 16), 0.25 * scale))
    torch.testing.assert_close(passage, torch.full((1, 16), -0.75 * scale))
    assert {"embedder.query_tower.projection.bias", "embedder.passage_tower.projection.bias"} <= (
        set(load_file(tmp_path / "checkpoint" / "weights.safetensors"))
    )


def test_the_trunk_is_not_needed_again(trunk_folder: Path, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    trunk.mkdir()
    for file in trunk_folder.iterdir():
        (trunk / file.name).write_bytes(file.read_bytes())
    model = build(trunk)
    save(tmp_path / "checkpoint", model)
    for file in trunk.iterdir():
        file.unlink()
    assert_same(model, load_model(tmp_path / "checkpoint"))


def test_masters_are_kept_in_single_precision(small_model: Model, tmp_path: Path) -> None:
    masters = {n: p.detach().clone() for n, p in unique_parameters(small_model.modules()).items()}
    small_model.to(torch.device("cpu"), torch.bfloat16)
    some = {name: masters[name] for name in list(masters)[:5]}
    save_checkpoint(tmp_path / "checkpoint", small_model, step=1, inputs={}, weights=some)
    weights = load_file(tmp_path / "checkpoint" / "weights.safetensors")
    assert set(weights) == set(masters)
    for name, weight in weights.items():
        assert weight.dtype == torch.float32
        expected = masters[name] if name in some else masters[name].bfloat16().float()
        assert torch.equal(weight, expected)


def test_shared_towers_are_stored_once(small_model: Model, tmp_path: Path) -> None:
    names = set(unique_parameters(small_model.modules()))
    assert not any(name.startswith("embedder.passage_tower") for name in names)
    assert any(name.startswith("embedder.query_tower") for name in names)


def test_training_tensors_travel_along(small_model: Model, tmp_path: Path) -> None:
    extra = {"step:a": torch.tensor(3.0), "exp_avg:a": torch.arange(6.0).reshape(2, 3).T}
    save_checkpoint(tmp_path / "with", small_model, step=1, inputs={}, extra=extra)
    found = training_tensors(tmp_path / "with")
    assert set(found) == set(extra)
    assert all(torch.equal(found[name], extra[name]) for name in extra)
    save(tmp_path / "without", small_model)
    assert training_tensors(tmp_path / "without") == {}


def test_nothing_in_a_checkpoint_can_run(small_model: Model, tmp_path: Path) -> None:
    save(tmp_path / "checkpoint", small_model)
    files = [file for file in (tmp_path / "checkpoint").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_a_truncated_checkpoint_is_refused(small_model: Model, tmp_path: Path) -> None:
    save(tmp_path / "checkpoint", small_model)
    os.truncate(tmp_path / "checkpoint" / "weights.safetensors", 1000)
    with pytest.raises(ArtifactError, match="cut short"):
        load_model(tmp_path / "checkpoint")


def build(embedder_trunk: Path, reader_trunk: Path | None = None, **packing: Any) -> Model:
    packing = {"query_tokens": 32, "passage_tokens": 64, **packing}
    return new_model(
        EmbedderSettings(trunk=str(embedder_trunk), projection_width=16),
        ReaderSettings(trunk=str(reader_trunk or embedder_trunk)),
        PackingSettings.model_validate(packing),
    )


def trunk_of_kind(folder: Path, words: Path, **sizes: Any) -> Path:
    """A small trunk of random weights that reads the wordpieces of another."""
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vocabulary = read_tokenizer(words).get_vocab_size()
    config = AutoConfig.for_model(hidden_size=16, vocab_size=vocabulary, **shape, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    shutil.copy(words / "tokenizer.json", folder)
    return folder


def test_inputs_longer_than_the_trunk_reads_are_refused(trunk_folder: Path) -> None:
    build(trunk_folder, passage_tokens=96)
    with pytest.raises(SettingError, match="is 129, but the trunk reads 128 wordpieces at most"):
        build(trunk_folder, passage_tokens=97)
    build(trunk_folder, passage_tokens=128, joint_tokens=128)
    with pytest.raises(SettingError, match=r"corpus\.passage_tokens is 129, but the trunk reads"):
        build(trunk_folder, passage_tokens=129, joint_tokens=128)
    with pytest.raises(SettingError, match=r"packing\.joint_tokens is 129, but the trunk reads"):
        build(trunk_folder, joint_tokens=129)


def test_the_reader_needs_room_for_a_passage(trunk_folder: Path) -> None:
    build(trunk_folder, joint_tokens=34)
    with pytest.raises(SettingError, match=r"no room behind a query of packing\.query_tokens=32"):
        build(trunk_folder, joint_tokens=33)


def test_a_second_segment_needs_an_embedding(trunk_folder: Path, tmp_path: Path) -> None:
    one = trunk_of_kind(tmp_path, trunk_folder, model_type="bert", type_vocab_size=1)
    build(one, segments="single")
    with pytest.raises(SettingError, match=r"knows one segment: set packing\.segments=single"):
        build(one, segments="separate")
    with pytest.raises(SettingError, match=r"^reader\.trunk"):
        build(trunk_folder, one, segments="separate")


@pytest.mark.parametrize("kind", ["electra", "albert"])
def test_words_may_be_narrower_than_states(kind: str, trunk_folder: Path, tmp_path: Path) -> None:
    narrow = trunk_of_kind(tmp_path / "trunk", trunk_folder, model_type=kind, embedding_size=8)
    model = build(narrow)
    assert model.reader.output_embeddings().shape[1] == 8
    assert torch.isfinite(outputs(model)[2]).all()
    save(tmp_path / "checkpoint", model)
    loaded = load_model(tmp_path / "checkpoint")
    # So narrow a product is rounded by where its weights lie in memory.
    torch.testing.assert_close(outputs(model), outputs(loaded), atol=1e-5, rtol=0)


def test_trunks_have_to_speak_the_same_wordpieces(trunk_folder: Path, tmp_path: Path) -> None:
    for file in trunk_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads((tmp_path / "tokenizer.json").read_text())
    facts["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(facts))
    with pytest.raises(SettingError, match="different tokenizers"):
        build(trunk_folder, tmp_path)


def test_towers_of_their_own_start_alike_where_the_trunk_has_weights(
    trunk_folder: Path, tmp_path: Path
) -> None:
    model = build(trunk_folder)
    for file in trunk_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model.embedder.query_tower.trunk.save_pretrained(tmp_path)  # type: ignore[operator]
    settings = EmbedderSettings(trunk=str(tmp_path), projection_width=16, shared_towers=False)
    own = new_model(settings, ReaderSettings(trunk=str(tmp_path)), model.packer.settings).embedder
    for query, passage in zip(
        own.query_tower.trunk.parameters(), own.passage_tower.trunk.parameters(), strict=True
    ):
        assert query is not passage
        assert torch.equal(query, passage)
