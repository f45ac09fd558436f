"""Masked language modelling: its loss by hand, what it reads, and that it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from realm.artifact import read_manifest
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.held_out import split_rows
from realm.examples.masked_text import mask_packed
from realm.examples.stream import generator_at
from realm.index.encode import pack_passage
from realm.json_lines import read_json_lines
from realm.models.checkpoint import Model, load_model, save_checkpoint
from realm.pretraining.masked_language import (
    MaskedLanguageObjective,
    MaskedLanguageSettings,
    held_out_loss,
)
from realm.training.loop import Hooks, LoopSettings, Scalars, Training
from realm.training.optim import OptimSettings


class Stopped(Exception):
    """The machine went away."""


def objective_of(model: Model, store: PassageStore, **values: Any) -> MaskedLanguageObjective:
    settings = MaskedLanguageSettings.model_validate({"batch_size": 11, **values})
    return MaskedLanguageObjective(model, store, settings, seed=0)


def train(
    objective: MaskedLanguageObjective, folder: Path, hooks: Hooks = Hooks(), *, num_steps: int
) -> Path:
    settings = LoopSettings(
        num_steps=num_steps, save_every=3, log_every=1, precision="fp32",
        optim=OptimSettings(learning_rate=1e-2),
    )  # fmt: skip
    return Training(objective, settings, folder, {}).run(hooks)


def test_the_loss_by_hand(small_model: Model, small_store: PassageStore) -> None:
    # Words that all look like nothing leave the bias alone to choose: p(y) = softmax(bias)[y].
    objective = objective_of(small_model, small_store, token_budget=100)
    head = small_model.reader.masked_head
    with torch.no_grad():
        small_model.reader.output_embeddings().zero_()
        head.bias.copy_(torch.arange(len(head.bias)) % 3)
    loss, scalars = objective.loss(4)
    size = len(head.bias)
    biases = np.arange(size) % 3
    log_total = np.log(sum(np.exp(biases)))
    texts = [objective._example(place, 4) for place in objective._chosen(4)]
    assert len({len(text.targets) for text in texts}) > 1
    # Each wordpiece counts the same, however many its passage has.
    targets = np.concatenate([text.targets for text in texts])
    assert loss.item() == pytest.approx(log_total - biases[targets].mean(), rel=1e-5)
    assert scalars == {}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_passage_stands_alone_or_behind_a_sentence(
    small_model: Model, small_store: PassageStore, share: float
) -> None:
    objective = objective_of(small_model, small_store, pair_share=share)
    packer = small_model.packer
    for place in range(len(objective._rows)):
        text = objective._example(place, 0)
        ids = text.packed.ids.copy()
        ids[text.positions] = text.targets
        row = int(objective._rows[place])
        if share == 0.0:
            assert ids.tolist() == pack_passage(small_store, packer, row).ids.tolist()
            continue
        end = ids.tolist().index(packer.sep_id)
        before = int(objective._rows[place - 1])
        body, sentences = small_store.token_ids(before), small_store.sentences(before)
        assert ids[1:end].tolist() in [
            body[start:stop][: packer.max_query_body].tolist() for start, stop in sentences
        ]
        expected = packer.joint(ids[1:end], small_store.title_token_ids(row),
                                small_store.token_ids(row))  # fmt: skip
        assert ids.tolist() == expected.ids.tolist()
        assert text.packed.segment_start == expected.segment_start


def test_the_masks_change_from_step_to_step_and_not_by_chance(
    small_model: Model, small_store: PassageStore
) -> None:
    first, again = (objective_of(small_model, small_store) for _ in range(2))
    ids = [first._example(3, step).packed.ids.tolist() for step in range(4)]
    assert len({tuple(step) for step in ids}) == 4
    assert [again._example(3, step).packed.ids.tolist() for step in range(4)] == ids


def test_passages_that_measure_do_not_train(small_model: Model, small_store: PassageStore) -> None:
    objective = objective_of(small_model, small_store)
    _, held_out = split_rows(np.arange(len(small_store)), small_store)
    assert len(held_out)
    assert {*objective._rows} == {*range(len(small_store))} - {*held_out}


def test_a_corpus_without_words_is_refused(
    small_model: Model, small_store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PassageStore, "num_tokens", lambda store: np.zeros(len(store), np.int64))
    with pytest.raises(SourceError, match="add documents with text"):
        objective_of(small_model, small_store)


def test_held_out_text_is_asked_for_the_same_at_every_time(
    small_model: Model, small_store: PassageStore
) -> None:
    head = small_model.reader.masked_head
    with torch.no_grad():
        small_model.reader.output_embeddings().zero_()
        head.bias.copy_(torch.arange(len(head.bias)) % 3)
    _, rows = split_rows(np.arange(len(small_store)), small_store)
    biases, settings = np.arange(len(head.bias)) % 3, MaskedLanguageSettings(batch_size=1)
    losses = []
    for row in rows.tolist():
        packed = pack_passage(small_store, small_model.packer, row)
        text = mask_packed(packed, small_model.packer, generator_at(0, 0, row),
                           share=0.15, vocabulary_size=len(head.bias))  # fmt: skip
        losses += (np.log(np.exp(biases).sum()) - biases[text.targets]).tolist()
    small_model.reader.train()
    found = [held_out_loss(small_model, small_store, settings, 100) for _ in range(2)]
    assert found[0] == found[1] == pytest.approx(np.mean(losses), rel=1e-5)
    assert small_model.reader.training


def test_the_trunk_learns_and_nothing_else_moves(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "start", small_model, step=0, inputs={})
    objective = objective_of(small_model, small_store, pair_share=0.0)
    last = train(objective, tmp_path / "run", num_steps=80)
    losses = [row["loss"] for row in read_json_lines(tmp_path / "run" / "metrics.jsonl")]
    assert len(losses) == 80
    # At first all of the vocabulary is as likely; at last it is more than a matter of frequency.
    assert losses[0] == pytest.approx(np.log(len(small_model.reader.masked_head.bias)), rel=0.05)
    words = np.concatenate([small_store.token_ids(row) for row in objective._rows])
    shares = np.unique(words, return_counts=True)[1] / len(words)
    assert np.mean(losses[-5:]) < -0.85 * (shares * np.log(shares)).sum()
    before, after = (load_file(path / "weights.safetensors") for path in (tmp_path / "start", last))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {".".join(name.split(".")[:2]) for name in moved} == {
        "reader.trunk", "reader.masked_head",
    }  # fmt: skip


def test_resumed_equals_uninterrupted(
    small_model: Model, small_store: PassageStore, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "start", small_model, step=0, inputs={})

    def before_step(step: int) -> Scalars:
        if step == 5:
            raise Stopped
        return {}

    def run(name: str, hooks: Hooks = Hooks()) -> Path:
        model = load_model(tmp_path / "start")
        return train(
            objective_of(model, small_store, batch_size=3), tmp_path / name, hooks, num_steps=7
        )

    whole = run("whole")
    with pytest.raises(Stopped):
        run("stopped", Hooks(before_step=before_step))
    # A fingerprint covers the checksums of weights and moments.
    assert read_manifest(run("stopped")).fingerprint == read_manifest(whole).fingerprint
    rows = [read_json_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "stopped")]
    losses = [[(row["step"], row["loss"]) for row in lines] for lines in rows]
    assert losses[0] == losses[1]
