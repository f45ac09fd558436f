"""The released models give the numbers that transformers 4.39.3 gave (tests/fixtures/released)."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from realm.errors import RealmError, SettingError, SourceError
from realm.examples.packing import TokenBatch
from realm.models.checkpoint import Model
from realm.models.embedder import embed
from realm.models.marginal import marginal_log_likelihood, mean_over_targets
from realm.models.reader import ReadGroup, masked_log_probs, masked_predictions, read
from realm.models.released import ReleasedFolder
from realm.models.released_model import build_model, gather, write_trunk_folder

RELEASED = Path(__file__).parents[1] / "fixtures" / "released"
FACTS: dict[str, Any] = json.loads((RELEASED / "facts.json").read_text("utf-8"))
Build = Callable[..., Model]


@pytest.fixture(scope="module")
def outputs() -> dict[str, Tensor]:
    return load_file(RELEASED / "outputs.safetensors")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A model from some of the folders."""

    def make(*names: str) -> Model:
        sources = gather([str(RELEASED / name) for name in names])
        write_trunk_folder(sources, tmp_path)
        return build_model(sources, tmp_path)

    return make


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def close_in_size(found: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest: gradients are small, and all near zero proves nothing."""
    size = expected.abs().max()
    assert size > 1e-3
    close(found / size, expected / size)


def ids_of(model: Model, text: str) -> np.ndarray:
    return np.array(model.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)


def packed_queries(model: Model) -> list[Any]:
    return [model.packer.query(ids_of(model, query)) for query in FACTS["queries"]]


def packed_passages(model: Model) -> list[Any]:
    texts = [text for row in FACTS["candidates"] for text in row]
    titles = [title for row in FACTS["titles"] for title in row]
    return [
        model.packer.passage(ids_of(model, title), ids_of(model, text))
        for title, text in zip(titles, texts, strict=True)
    ]


def relevance(model: Model) -> Tensor:
    queries = embed(model.embedder.query_tower, packed_queries(model), model.packer)
    passages = embed(model.embedder.passage_tower, packed_passages(model), model.packer)
    return torch.einsum("bd,bcd->bc", queries, passages.view(2, 3, -1))


def joints(model: Model) -> list[Any]:
    nothing = np.empty(0, dtype=np.int64)
    return [
        model.packer.joint(ids_of(model, query), nothing, ids_of(model, text))
        for query, row in zip(FACTS["queries"], FACTS["candidates"], strict=True)
        for text in row
    ]


def log_probs(model: Model, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Log p(y_j|z,x) [queries, candidates, positions] and which positions are masked."""
    is_mask, labels = outputs["is_mask"].bool(), outputs["labels"]
    length = labels.shape[1]
    positions = torch.arange(length).expand(2, length)
    groups = read(model.reader, joints(model), packer=model.packer, token_budget=4096)
    three = [t.repeat_interleave(3, dim=0) for t in (positions, labels, is_mask)]
    return masked_log_probs(model.reader, groups, *three).view(2, 3, length), is_mask


@pytest.mark.parametrize(("prefix", "packed"), [("joint", joints), ("candidate", packed_passages)])
def test_packing_is_the_released_one(
    build: Build, outputs: dict[str, Tensor], prefix: str, packed: Callable[[Model], list[Any]]
) -> None:
    model = build("encoder")
    batch = model.packer.pad(packed(model))
    length = batch.input_ids.shape[1]
    assert outputs[f"{prefix}.attention_mask"].sum(dim=-1).max() == length
    for ours, theirs in (
        (batch.input_ids, "input_ids"),
        (batch.attention_mask, "attention_mask"),
        (batch.segment_ids, "token_type_ids"),
    ):
        assert torch.equal(ours, outputs[f"{prefix}.{theirs}"].flatten(0, 1)[:, :length])


@pytest.mark.parametrize("name", ["embedder", "scorer"])
def test_embeddings_and_scores(build: Build, outputs: dict[str, Tensor], name: str) -> None:
    model = build(name)
    model.modules().eval()
    passages = embed(model.embedder.passage_tower, packed_passages(model), model.packer)
    close(passages, outputs["passage_embeddings"].flatten(0, 1))
    assert model.embedder.has_shared_towers == (name == "embedder")
    if name == "scorer":
        queries = embed(model.embedder.query_tower, packed_queries(model), model.packer)
        close(queries, outputs["query_embeddings"])
        close(relevance(model), outputs["relevance"])


def test_a_scorer_with_the_same_weights_twice_has_one_tower(tmp_path: Path) -> None:
    folder = broken(tmp_path, "scorer")
    file = folder / "pytorch_model.bin"
    tensors = torch.load(file, weights_only=True)
    for name in [name for name in tensors if name.startswith("query_embedder.")]:
        tensors[name] = tensors[name.removeprefix("query_")]
    torch.save(tensors, file)
    assert build_from(folder, tmp_path).embedder.has_shared_towers


def test_masked_log_probabilities(build: Build, outputs: dict[str, Tensor]) -> None:
    model = build("encoder")
    groups = read(model.reader, joints(model), packer=model.packer, token_budget=4096)
    expected = outputs["masked_log_probs"]
    for number, (row, position) in enumerate(outputs["is_mask"].nonzero().tolist()):
        found = masked_predictions(model.reader, groups, position).view(2, 3, -1)[row]
        close(found, expected[number])


def test_the_marginal_loss_and_its_gradients(build: Build, outputs: dict[str, Tensor]) -> None:
    model = build("scorer", "encoder")
    scores = relevance(model)
    scores.retain_grad()
    reader, is_mask = log_probs(model, outputs)
    loss = -mean_over_targets(marginal_log_likelihood(scores, reader), is_mask)
    close(loss, outputs["loss"])
    loss.backward()
    assert scores.grad is not None
    close_in_size(scores.grad, outputs["gradient.relevance"])
    theirs = {
        "embedder": model.embedder.passage_tower,
        "query_embedder": model.embedder.query_tower,
        "encoder": model.reader,
    }
    ours = {
        "realm.": "trunk.", "cls.dense.": "projection.", "cls.LayerNorm.": "layer_norm.",
        "cls.predictions.transform.dense.": "masked_head.dense.",
        "cls.predictions.bias": "masked_head.bias",
    }  # fmt: skip
    compared = 0
    for label, expected in outputs.items():
        kind, _, rest = label.partition(".")
        owner, _, name = rest.partition(".")
        if kind != "gradient" or owner not in theirs:
            continue
        beginning = next(prefix for prefix in ours if name.startswith(prefix))
        parameter = theirs[owner].get_parameter(name.replace(beginning, ours[beginning], 1))
        assert parameter.grad is not None
        close_in_size(parameter.grad, expected)
        compared += 1
    assert compared == 14


def test_word_one_rests_on_import_as_in_the_port(build: Build) -> None:
    """Its `pad_token_id` is 1, where BERT's padding is 0: the look-up of word 1 has no gradient."""
    model = build("embedder")
    tower = model.embedder.query_tower
    words = tower.trunk.get_input_embeddings()  # type: ignore[operator]
    assert (words.padding_idx, model.packer.pad_id) == (1, 0)
    tower(model.packer.pad([model.packer.query(np.array([1, 7]))])).sum().backward()
    assert words.weight.grad[1].abs().max() == 0
    assert words.weight.grad[7].abs().max() > 0


def test_the_port_without_mlm_mask_divides_by_every_position(
    build: Build, outputs: dict[str, Tensor]
) -> None:
    """A fault that is not repeated here, where the mean always runs over the masked positions.

    Words that were never hidden, [CLS], [SEP] and padding count there as if they were to be
    predicted; the number follows only where all of them are declared targets.
    """
    model = build("scorer", "encoder")
    names = ("joint.input_ids", "joint.attention_mask", "joint.token_type_ids")
    batch = TokenBatch(*(outputs[name].flatten(0, 1) for name in names))
    labels = outputs["labels"]
    everywhere = torch.ones_like(labels, dtype=torch.bool)
    positions = torch.arange(labels.shape[1]).expand_as(labels)
    group = ReadGroup(torch.arange(6), [], model.reader(batch))
    three = [t.repeat_interleave(3, dim=0) for t in (positions, labels, everywhere)]
    reader = masked_log_probs(model.reader, [group], *three).view(2, 3, -1)
    loss = -mean_over_targets(marginal_log_likelihood(relevance(model), reader), everywhere)
    close(loss, outputs["loss_without_mlm_mask"])
    assert abs(float(loss.detach() - outputs["loss"])) > 0.1


def broken(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    shutil.copytree(RELEASED / name, folder)
    return folder


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def refusal(call: Callable[[], object], kind: type[RealmError] = SourceError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def build_from(folder: Path, tmp_path: Path) -> Model:
    trunk = tmp_path / "trunk"
    trunk.mkdir()
    sources = gather([str(folder)])
    write_trunk_folder(sources, trunk)
    return build_model(sources, trunk)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = broken(tmp_path, "embedder")
    name = "realm.encoder.layer.1.output.dense.weight"
    change_tensors(folder, lambda tensors: tensors.__delitem__(name))
    assert f"lacks the tensor {name}" in refusal(lambda: build_from(folder, tmp_path))


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    folder = broken(tmp_path, "reader")
    change_tensors(
        folder,
        lambda t: t.update({"qa_outputs.dense_intermediate.weight": torch.zeros(24, 15)}),
    )
    message = refusal(lambda: build_from(folder, tmp_path))
    assert "shape (24, 15) and should have (24, 16)" in message


def test_a_folder_of_another_model_is_refused(tmp_path: Path, trunk_folder: Path) -> None:
    assert "model_type" in refusal(lambda: ReleasedFolder.open(str(trunk_folder)))
    assert "config.json" in refusal(lambda: ReleasedFolder.open(str(tmp_path)))


def test_weights_that_run_code_are_refused(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was-run",))

    folder = broken(tmp_path, "encoder")
    torch.save({"weight": Malicious()}, folder / "pytorch_model.bin")
    assert "more than tensors" in refusal(lambda: ReleasedFolder.open(str(folder)))
    assert not (tmp_path / "was-run").exists()


def test_cut_weights_are_refused(tmp_path: Path) -> None:
    for name, file in (("reader", "model.safetensors"), ("encoder", "pytorch_model.bin")):
        folder = broken(tmp_path, name)
        content = (folder / file).read_bytes()
        for length in (len(content) // 2, 0):
            (folder / file).write_bytes(content[:length])
            message = refusal(partial(ReleasedFolder.open, str(folder)))
            assert "weights in" in message
            assert "()" not in message


def test_windows_line_ends_change_nothing() -> None:
    ours = [ReleasedFolder.open(str(RELEASED / n)).read_tokenizer() for n in ("reader", "encoder")]
    assert b"\r\n" in (RELEASED / "reader" / "vocab.txt").read_bytes()
    assert b"\r\n" not in (RELEASED / "encoder" / "vocab.txt").read_bytes()
    assert ours[0].to_str() == ours[1].to_str()


def test_a_word_that_ends_lines_for_python_is_a_word(tmp_path: Path) -> None:
    folder = broken(tmp_path, "encoder")
    words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words[-2] = "\u2028"  # behind the last one the file ends
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = ReleasedFolder.open(str(folder)).read_tokenizer()
    assert tokenizer.token_to_id("\u2028") == len(words) - 2
    assert tokenizer.get_vocab_size() == len(words) - 1


def test_a_missing_vocabulary_is_named_once(tmp_path: Path) -> None:
    folder = broken(tmp_path, "embedder")
    (folder / "vocab.txt").unlink()
    message = refusal(lambda: build_from(folder, tmp_path))
    assert "is no vocabulary (No such file or directory)" in message


def test_a_vocabulary_of_other_weights_is_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "embedder")
    with (folder / "vocab.txt").open("a", encoding="utf-8") as stream:
        stream.write("onemore\n")
    assert "195 lines for 194" in refusal(lambda: build_from(folder, tmp_path))


def test_two_folders_with_the_same_part_are_refused() -> None:
    names = [str(RELEASED / "encoder"), str(RELEASED / "reader")]
    assert "both bring the reader" in refusal(lambda: gather(names), SettingError)


def test_an_unshared_decoder_is_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "encoder")
    file = folder / "pytorch_model.bin"
    tensors = torch.load(file, weights_only=True)
    tensors["cls.predictions.decoder.weight"] = torch.zeros(194, 16)
    torch.save(tensors, file)
    assert "output embeddings of its own" in refusal(lambda: build_from(folder, tmp_path))
