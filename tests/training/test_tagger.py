"""A tagger learns what files of tagged words teach, and is an ordinary folder afterwards."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from realm.artifact import read_manifest, verify
from realm.errors import ArtifactError
from realm.models.trunk import load_trunk
from realm.spans.conll import TaggedFile, TaggedSentence
from realm.spans.entities import Span
from realm.spans.model_tagger import ModelTagger
from realm.training import tagger as tagger_module
from realm.training.tagger import (
    TaggerSettings,
    tag_loss,
    tags_of,
    train_tagger,
)


def sentence(text: str, *entities: tuple[str, str]) -> TaggedSentence:
    spans = [
        Span(text.index(name), text.index(name) + len(name), label) for name, label in entities
    ]
    return TaggedSentence(text, tuple(spans))


PLACES = TaggedFile(
    "places.conll",
    [
        [
            sentence("The Sorna is a river in Velland.", ("Sorna", "LOC"), ("Velland", "LOC")),
            sentence("It rises on Mount Keld.", ("Mount Keld", "LOC")),
        ],
        [sentence("The engineer was born in Tavil.", ("Tavil", "LOC"))],
    ],
    frozenset({"LOC"}),
)
PEOPLE = TaggedFile(
    "people.conll",
    [[sentence("Clara Osmund taught music in Tavil.", ("Clara Osmund", "PER"))]],
    frozenset({"PER"}),
)
SETTINGS = TaggerSettings(num_epochs=40, batch_size=2, learning_rate=5e-3, dropout=0.0)


def test_the_loss_asks_for_one_of_the_right_tags() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]).log()
    # Of shares 1/6, 3/6 and 2/6: the second tag; the first or the third.
    is_right = torch.tensor([[False, True, False], [True, False, True]])
    expected = -(math.log(1 / 2) + math.log(1 / 2)) / 2
    assert float(tag_loss(logits, is_right)) == pytest.approx(expected)
    skewed = torch.tensor([[True, False, True]])
    logits = torch.tensor([[1.0, 6.0, 2.0]]).log().requires_grad_()
    tag_loss(logits, skewed).backward()
    assert logits.grad is not None
    # Softmax less the shares among the right ones: 1/9 - 1/3, 6/9, 2/9 - 2/3.
    assert logits.grad[0].tolist() == pytest.approx([-2 / 9, 6 / 9, -4 / 9])


def test_two_tags_for_each_label_of_any_file() -> None:
    assert tags_of([PEOPLE, PLACES]) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


@pytest.fixture(scope="module")
def trained(trunk_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tagger") / "trained"
    train_tagger(path, [PLACES, PEOPLE], trunk_folder, SETTINGS)
    return path


@pytest.mark.slow
def test_it_finds_what_it_was_taught(trained: Path) -> None:
    tagger = ModelTagger(str(trained))
    texts = [s.text for s in PLACES.sentences]
    # Whether a word of that file names a person nobody said, so only places are compared.
    places = [[span for span in spans if span.label == "LOC"] for spans in tagger.tag(texts)]
    assert places == [list(s.spans) for s in PLACES.sentences]
    (people,) = tagger.tag([PEOPLE.sentences[0].text])
    assert Span(0, 12, "PER") in people
    # "Tavil" is no person, and that file says nothing about places: the other one decides.
    assert Span(29, 34, "LOC") in people


@pytest.mark.slow
def test_articles_are_learned_from_before_the_files(trunk_folder: Path, tmp_path: Path) -> None:
    taught = sentence("Clara Osmund taught music in Tavil.", ("Tavil", "LOC"))
    # Nobody says what "Clara Osmund" is, and of the other text nothing at all.
    known = [taught._replace(unsure=((0, 12),)), TaggedSentence("Ida Keld", (), ((0, 8),))]
    articles = TaggedFile("articles", [known], frozenset({"LOC", "ORG"}))
    target = tmp_path / "tagger"
    train_tagger(target, [PEOPLE], trunk_folder, SETTINGS, articles=articles)
    manifest = read_manifest(target)
    assert manifest.inputs["data"] == "people.conll, articles"
    # One of the two texts of the article once, and the file's sentence in every epoch.
    assert (manifest.counts["num_sentences"], manifest.counts["num_steps"]) == (2, 1 + 40)
    assert "B-ORG" in json.loads((target / "config.json").read_text("utf-8"))["label2id"]
    (spans,) = ModelTagger(str(target)).tag([taught.text])
    assert Span(0, 12, "PER") in spans


@pytest.mark.slow
def test_it_is_an_ordinary_folder(trained: Path) -> None:
    import transformers

    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    assert list(config["id2label"].values()) == tags_of([PLACES, PEOPLE])
    assert config["architectures"] == ["BertForTokenClassification"]
    transformers.AutoTokenizer.from_pretrained(trained)
    model = transformers.AutoModelForTokenClassification.from_pretrained(trained)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert read_manifest(trained).inputs["data"] == "places.conll, people.conll"
    assert verify(trained) >= 3


@pytest.mark.slow
def test_the_same_training_gives_the_same_weights(trunk_folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"num_epochs": 2, "dropout": 0.1})
    # A sentence of which the tokenizer leaves nothing harms nobody.
    file = PLACES._replace(documents=[*PLACES.documents, [TaggedSentence("\u200b", ())]])
    for name in ("one", "two"):
        train_tagger(tmp_path / name, [file], trunk_folder, settings)
    manifests = [read_manifest(tmp_path / name) for name in ("one", "two")]
    assert manifests[0].fingerprint == manifests[1].fingerprint


@pytest.mark.slow
def test_the_mean_of_trainings_that_begin_alike(trunk_folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"num_epochs": 2, "num_trainings": 3})
    articles = TaggedFile("articles", PEOPLE.documents, frozenset({"PER"}))

    def weights(name: str, **changes: int) -> dict[str, torch.Tensor]:
        train_tagger(
            tmp_path / name, [PLACES], trunk_folder, settings.model_copy(update=changes),
            articles=articles,
        )  # fmt: skip
        return load_file(tmp_path / name / "model.safetensors")

    mean, first = weights("mean"), weights("first", num_trainings=1)
    # The sentence of the articles once, and the three of the files in every training.
    counts = read_manifest(tmp_path / "mean").counts
    assert (counts["num_sentences"], counts["num_steps"]) == (1 + 3, 1 + 3 * 2 * 2)
    # The others begin where the articles left off and see the sentences in another order.
    with pytest.MonkeyPatch.context() as patch:
        draw = np.random.default_rng
        others = []
        for number in (1, 2):
            shifted = lambda seed, by=number: draw((seed[0] + by, *seed[1:]))  # noqa: E731
            patch.setattr(np.random, "default_rng", shifted)
            others.append(weights(f"other-{number}", num_trainings=1))
    assert not torch.equal(first["classifier.weight"], others[0]["classifier.weight"])
    for name, tensor in mean.items():
        expected = (first[name] + others[0][name] + others[1][name]) / 3
        torch.testing.assert_close(tensor, expected, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("num_trainings", [1, 3])
def test_a_stopped_training_goes_on_where_it_was(
    trunk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_trainings: int
) -> None:
    monkeypatch.setattr(tagger_module, "STEPS_BETWEEN_SAVES", 2)
    # Six steps in all, of one training or of three.
    settings = SETTINGS.model_copy(
        update={"num_epochs": 3 // num_trainings, "dropout": 0.1, "num_trainings": num_trainings}
    )
    train_tagger(tmp_path / "whole", [PLACES], trunk_folder, settings)
    steps: list[int] = []

    @contextmanager
    def stopped_after(
        title: str, total: int | None, *, last: int = 3
    ) -> Iterator[Callable[[int, str], None]]:
        def advance(step: int, note: str) -> None:
            steps.append(step)
            if step == last:
                raise KeyboardInterrupt

        yield advance

    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train_tagger(target, [PLACES], trunk_folder, settings, stopped_after)
    assert (tmp_path / "stopped.unfinished").is_dir()
    assert not target.exists()
    with pytest.raises(ArtifactError, match="other settings or other files"):
        train_tagger(target, [PLACES, PEOPLE], trunk_folder, settings)
    other = tmp_path / "elsewhere" / trunk_folder.name  # a trunk of the same name
    shutil.copytree(trunk_folder, other)
    torch.manual_seed(9)
    load_trunk(other, dropout=0.0).save_pretrained(other)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match="other settings or other files"):
        train_tagger(target, [PLACES], other, settings)
    kept = read_manifest(tmp_path / "stopped.unfinished").settings["compute"]
    assert set(kept) == {"precision", "attention"}
    go_on = partial(stopped_after, last=0)
    train_tagger(target, [PLACES], trunk_folder, settings, go_on)
    assert steps == [1, 2, 3, 3, 4, 5, 6]  # of the third nothing was saved
    manifests = [read_manifest(tmp_path / name) for name in ("whole", "stopped")]
    assert manifests[0].fingerprint == manifests[1].fingerprint
    assert not (tmp_path / "stopped.unfinished").exists()
