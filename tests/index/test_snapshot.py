"""A snapshot says of every passage what the trainer would say."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from realm.artifact import verify
from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import ArtifactError
from realm.index import approximate
from realm.index.approximate import ApproximateIndex, Cells
from realm.index.encode import embed_corpus, embed_null_passage, pack_passage
from realm.index.exact import ExactIndex
from realm.index.snapshot import IndexSettings, Snapshot, write_snapshot
from realm.index.trunk_vectors import TrunkVectors, names_of, write_trunk_vectors
from realm.models.checkpoint import Model
from realm.models.embedder import embed


def trainer_path(model: Model, store: PassageStore, rows: list[int], budget: int = 8192) -> Tensor:
    """Embeddings as `RealmObjective` computes them, gradients and all."""
    packed = [pack_passage(store, model.packer, row) for row in rows]
    tower = model.embedder.passage_tower
    return embed(tower, packed, model.packer, token_budget=budget).detach()


def write(
    path: Path, model: Model, store: PassageStore, vectors: TrunkVectors | None = None
) -> Snapshot:
    return write_snapshot(path, model, store, checkpoint="abc", step=8, vectors=vectors)


@pytest.fixture
def other_store(tmp_path: Path, tokenizer_file: Path) -> PassageStore:
    """Another corpus of as many passages."""
    source = tmp_path / "other.jsonl"
    rows = [{"id": str(n), "title": "", "text": f"Tavil is port {n}."} for n in range(12)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    path = tmp_path / "other"
    return build_corpus([source], path, tokenizer_file=tokenizer_file, settings=settings)


def test_the_index_path_is_the_trainer_path(small_model: Model, small_store: PassageStore) -> None:
    rows = list(range(len(small_store)))
    by_index = torch.cat(list(embed_corpus(small_model, small_store)))
    assert torch.equal(by_index, trainer_path(small_model, small_store, rows))
    # In other company, in another order: the same but for the order of a sum.
    by_trainer = trainer_path(small_model, small_store, rows[::-1], budget=100).flip(0)
    torch.testing.assert_close(by_index, by_trainer, atol=1e-5, rtol=0)
    null = trainer_path(small_model, small_store, [-1])[0]
    assert torch.equal(embed_null_passage(small_model), null)


def test_a_snapshot_rounds_to_half_width(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    small_model.modules().train()
    snapshot = write(tmp_path / "snapshot", small_model, small_store)
    by_trainer = trainer_path(small_model, small_store, list(range(12)))
    assert torch.equal(snapshot.embeddings, by_trainer.half())
    assert torch.equal(snapshot.null_embedding, trainer_path(small_model, small_store, [-1])[0])
    assert (snapshot.step, snapshot.checkpoint) == (8, "abc")
    # A half has eleven bits.
    rounding = (snapshot.embeddings.float() - by_trainer).abs() / by_trainer.abs()
    assert rounding.max() <= 2**-11
    assert small_model.embedder.training, "the model was left in another mode"


def test_rows_of_a_snapshot_are_looked_up(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    snapshot = write(tmp_path / "snapshot", small_model, small_store)
    rows = torch.tensor([[3, -1], [0, 3]])
    found = snapshot.embeddings_of(rows)
    assert found.shape == (2, 2, 16)
    assert found.dtype == torch.float32
    assert torch.equal(found[0, 1], snapshot.null_embedding)
    assert torch.equal(found[0, 0], snapshot.embeddings[3].float())
    assert torch.equal(found[0, 0], found[1, 1])


def test_trunk_vectors_and_projection_are_the_direct_way(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    direct = write(tmp_path / "direct", small_model, small_store)
    vectors = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    # The null passage alone goes through the trunk now.
    reads = []
    hook = small_model.embedder.passage_tower.trunk.register_forward_hook(
        lambda trunk, inputs, output: reads.append(len(output.last_hidden_state))
    )
    projected = write(tmp_path / "projected", small_model, small_store, vectors=vectors)
    hook.remove()
    assert reads == [1]
    torch.testing.assert_close(projected.embeddings, direct.embeddings, atol=0.02, rtol=0)
    assert torch.equal(projected.null_embedding, direct.null_embedding)


def test_trunk_vectors_follow_another_projection(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    vectors = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    projection = small_model.embedder.passage_tower.projection
    assert projection is not None
    torch.nn.init.normal_(projection.weight)
    assert vectors.fit(small_model)
    direct = write(tmp_path / "direct", small_model, small_store)
    projected = write(tmp_path / "projected", small_model, small_store, vectors=vectors)
    torch.testing.assert_close(projected.embeddings, direct.embeddings, atol=0.02, rtol=0)


def test_trunk_vectors_of_a_trunk_that_moved_are_not_used(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    vectors = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    assert TrunkVectors.open(tmp_path / "vectors", small_store).fit(small_model)
    small_model.to(torch.device("cpu"), torch.bfloat16)
    assert vectors.fit(small_model), "the same weights in another precision"
    small_model.to(torch.device("cpu"), torch.float32)
    with torch.no_grad():  # single precision has digits that the cast above took away
        for parameter in small_model.embedder.passage_tower.trunk.parameters():
            parameter.add_(1e-4 * torch.randn_like(parameter))
    trunk = small_model.embedder.passage_tower.trunk
    names = names_of(trunk)
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        cast = copy.deepcopy(small_model).to(torch.device("cpu"), precision)
        folder = tmp_path / str(precision)
        kept = write_trunk_vectors(folder, cast, small_store, names=names)
        assert kept.fit(small_model), precision
        assert kept.fit(cast), precision
    with torch.no_grad():
        for parameter in small_model.embedder.passage_tower.trunk.parameters():
            parameter.mul_(1.1)
    assert not vectors.fit(small_model)
    direct = write(tmp_path / "direct", small_model, small_store)
    asked = write(tmp_path / "asked", small_model, small_store, vectors=vectors)
    assert torch.equal(asked.embeddings, direct.embeddings)


def test_another_corpus_is_refused(
    small_model: Model, small_store: PassageStore, other_store: PassageStore, tmp_path: Path
) -> None:
    write(tmp_path / "snapshot", small_model, small_store)
    assert Snapshot.open(tmp_path / "snapshot", small_store).step == 8
    with pytest.raises(ArtifactError, match="another corpus"):
        Snapshot.open(tmp_path / "snapshot", other_store)
    write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    with pytest.raises(ArtifactError, match="another corpus"):
        TrunkVectors.open(tmp_path / "vectors", other_store)


def test_the_same_model_gives_the_same_snapshot(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    one = write(tmp_path / "one", small_model, small_store)
    two = write(tmp_path / "two", small_model, small_store)
    assert one.manifest == two.manifest
    assert verify(tmp_path / "one") == 2


def test_either_kind_of_index(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    snapshot = write(tmp_path / "snapshot", small_model, small_store)
    exact = snapshot.index(IndexSettings())
    approximate = snapshot.index(IndexSettings(kind="approximate"))
    assert isinstance(exact, ExactIndex)
    assert isinstance(approximate, ApproximateIndex)
    queries = snapshot.embeddings[:3].float()
    # Twelve passages are one cell: nothing can be missed.
    found = exact.search(queries, 12), approximate.search(queries, 12)
    torch.testing.assert_close(found[0].scores, found[1].scores)
    assert torch.equal(found[0].rows, found[1].rows)
    assert found[0].rows[:, 0].tolist() == [0, 1, 2]


def test_whoever_writes_a_snapshot_finds_its_cells(
    small_model: Model, small_store: PassageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = IndexSettings(kind="approximate")
    snapshot = write_snapshot(
        tmp_path / "snapshot", small_model, small_store, checkpoint="a", step=0, index=settings
    )
    queries = snapshot.embeddings[:3].float()
    expected = ApproximateIndex(snapshot.embeddings).search(queries, 5)
    assert verify(tmp_path / "snapshot") == 3

    def find_cells(embeddings: Tensor) -> Cells:
        raise AssertionError("they were found already")

    monkeypatch.setattr(approximate, "find_cells", find_cells)
    found = snapshot.index(settings).search(queries, 5)
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.scores, expected.scores)


def test_an_approximate_index_looks_into_as_many_cells_as_asked(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    snapshot = write(tmp_path / "snapshot", small_model, small_store)
    index = snapshot.index(IndexSettings(kind="approximate", probes=3))
    assert isinstance(index, ApproximateIndex)
    assert index.probes == 3


def test_vectors_are_those_of_the_trunk_on_the_passage_side(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    vectors = write_trunk_vectors(tmp_path / "vectors", small_model, small_store)
    small_model.embedder = small_model.embedder.with_own_query_tower()
    for tower, is_fit in (
        (small_model.embedder.query_tower, True), (small_model.embedder.passage_tower, False)
    ):  # fmt: skip
        with torch.no_grad():
            for parameter in tower.trunk.parameters():
                parameter.add_(0.1)
        assert vectors.fit(small_model) == is_fit
