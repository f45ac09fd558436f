"""Reading pairs hold what is hidden, and a reader learns to copy it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from realm.artifact import is_finished, read_manifest
from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.masking import SalientSpanMasker
from realm.examples.stream import batch_at
from realm.examples.wordpieces import occurrences
from realm.models.checkpoint import Model
from realm.models.reader import read, span_scores
from realm.pretraining.reading import (
    ReadingObjective,
    ReadingSettings,
    mine_reading_pairs,
    open_reading_pairs,
    sentence_text,
)
from realm.retrieval.lexical import LexicalIndex, build_lexical_index
from realm.spans.annotate import SpanStore, annotate
from realm.training.loop import LoopSettings, Training
from realm.training.optim import OptimSettings

TWICE = "The Lomvar Bridge was opened on 3 May 1871 by Queen Maritha."
ONCE = (
    "Ida Renquist was an engineer of the north.",
    "The harbour of Tavil was built in 1790 for ships.",
    "The composer Clara Osmund taught music until 1930.",
)


class World:
    """A corpus with its spans and its BM25 index."""

    def __init__(self, folder: Path, tokenizer_file: Path, texts: list[str]) -> None:
        folder.mkdir()
        source = folder / "corpus.jsonl"
        rows = [{"id": str(n), "title": "", "text": text} for n, text in enumerate(texts)]
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.store = build_corpus(
            [source], folder / "corpus", tokenizer_file=tokenizer_file,
            settings=CorpusSettings(passage_tokens=64, num_workers=1),
        )  # fmt: skip
        self.spans = annotate(self.store, folder / "spans")
        self.lexical = build_lexical_index(self.store, folder / "lexical")

    def mine(self, path: Path) -> np.ndarray:
        return mine_reading_pairs(
            path, self.store, self.spans, self.lexical, ReadingSettings(num_queries=50), seed=0
        )


@pytest.fixture
def mined(
    tmp_path: Path, small_store: PassageStore, small_spans: SpanStore, small_lexical: LexicalIndex
) -> np.ndarray:
    """Pairs of the small world."""
    settings = ReadingSettings(num_queries=60)
    return mine_reading_pairs(
        tmp_path / "pairs", small_store, small_spans, small_lexical, settings, seed=0
    )


def test_the_evidence_holds_the_hidden_words(
    mined: np.ndarray, small_store: PassageStore, small_spans: SpanStore
) -> None:
    masker = SalientSpanMasker(small_store, small_spans)
    assert len(mined) > 10
    for row, span, evidence in mined.tolist():
        assert evidence != row
        masking = masker.masking(row, small_spans.of(row)[span])
        token_spans = small_store.token_spans(row)
        hidden = small_store.text(row)[
            token_spans[masking.hidden[0]][0] : token_spans[masking.hidden[-1]][1]
        ]
        assert hidden.lower() in small_store.text(evidence).lower()
        wanted = small_store.token_ids(row)[masking.hidden]
        assert len(occurrences(small_store.token_ids(evidence), wanted))
        # BM25 is not told the answer.
        is_repeated = small_store.text(row).count(hidden) > 1
        assert is_repeated or hidden not in sentence_text(small_store, row, masking)


def test_no_span_is_asked_for_twice(mined: np.ndarray) -> None:
    pairs = [(row, span) for row, span, _ in mined.tolist()]
    assert len(set(pairs)) == len(pairs)
    rows = {row for row, _ in pairs}
    assert rows > {1, 6, 7}
    assert 0 not in rows  # held out: it measures what pre-training does


def test_pairs_are_kept(mined: np.ndarray, tmp_path: Path) -> None:
    again = open_reading_pairs(tmp_path / "pairs")
    assert np.array_equal(again, mined)
    counts = read_manifest(tmp_path / "pairs").counts
    assert 0.2 < counts["num_pairs"] / counts["num_queries"] <= 1


def test_the_own_passage_and_its_copies_are_no_evidence(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    # A passage, its copy, and another one that says a part of it; the first of equals is taken.
    texts = [TWICE, TWICE, "The Lomvar Bridge was praised on 3 May 1871 in a song of the north."]
    world = World(tmp_path / "world", tokenizer_file, texts)
    pairs = world.mine(tmp_path / "pairs").tolist()
    assert pairs
    assert {(row, evidence) for row, _, evidence in pairs} <= {(0, 2), (1, 2), (2, 0)}


@pytest.mark.parametrize(
    "texts",
    [[*ONCE], [TWICE, TWICE], ["there is nothing to hide in here.", "nor is there in this one."]],
    ids=["nothing is said twice", "only copies", "no names"],
)
def test_a_corpus_that_repeats_nothing_is_refused(
    texts: list[str], tmp_path: Path, tokenizer_file: Path
) -> None:
    world = World(tmp_path / "world", tokenizer_file, texts)
    for _ in range(2):
        with pytest.raises(SourceError, match="repeats nothing"):
            world.mine(tmp_path / "pairs")
        # Else the next start would find pairs, and none in them.
        assert not is_finished(tmp_path / "pairs")


def test_occurrences_by_hand() -> None:
    body = np.array([7, 8, 7, 8, 7])
    assert occurrences(body, np.array([7, 8])).tolist() == [0, 2]
    assert occurrences(body, np.array([7, 8, 7])).tolist() == [0, 2]
    assert occurrences(body, np.array([8, 8])).tolist() == []
    assert occurrences(body, np.array([], dtype=np.int64)).tolist() == []
    assert occurrences(body, np.arange(6)).tolist() == []
    assert occurrences(body, body).tolist() == [0]


def objective_of(
    model: Model, store: PassageStore, spans: SpanStore, mined: np.ndarray, **values: object
) -> ReadingObjective:
    settings = ReadingSettings.model_validate({"batch_size": 8, **values})
    return ReadingObjective(model, store, spans, mined, settings, seed=0)


def test_the_loss_falls(
    mined: np.ndarray,
    small_model: Model,
    small_store: PassageStore,
    small_spans: SpanStore,
    tmp_path: Path,
) -> None:
    objective = objective_of(small_model, small_store, small_spans, mined)
    embedder = [parameter.clone() for parameter in small_model.embedder.parameters()]
    _, first = objective.loss(0)
    settings = LoopSettings(
        num_steps=40, save_every=40, precision="fp32", optim=OptimSettings(learning_rate=3e-3)
    )
    Training(objective, settings, tmp_path / "run", {}).run()
    _, last = objective.loss(0)
    assert last["masked_loss"] < 0.85 * first["masked_loss"]
    assert last["span_loss"] < 0.8 * first["span_loss"]
    for before, after in zip(embedder, small_model.embedder.parameters(), strict=True):
        assert torch.equal(before, after), "only the reader learns here"


def test_beside_the_null_passage_there_is_nothing_to_point_at(
    mined: np.ndarray, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    objective = objective_of(small_model, small_store, small_spans, mined, null_share=1.0)
    loss, scalars = objective.loss(0)
    assert scalars["span_loss"] == 0.0
    loss.backward()
    head = small_model.reader.masked_head.dense.weight.grad
    assert head is not None
    gradients = [p.grad for p in small_model.reader.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_share_is_read_beside_the_null_passage(
    mined: np.ndarray, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    objective = objective_of(small_model, small_store, small_spans, mined, null_share=0.3)
    bodies = []
    for step in range(200):
        index = step % len(mined)
        query, joint, places = objective._example(mined[index], index, step)
        is_null = joint.body_end == joint.body_start
        bodies.append(is_null)
        body = joint.ids[joint.body_start : joint.body_end]
        for first, width in places:
            assert body[first : first + width].tolist() == query.targets.tolist()
        assert is_null or places or len(query.targets) > 4
    assert np.mean(bodies) == pytest.approx(0.3, abs=0.1)


def test_made_questions_are_answered_in_their_own_passage_by_pointing_alone(
    mined: np.ndarray, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    objective = objective_of(
        small_model, small_store, small_spans, mined, null_share=0.0, question_share=1.0
    )
    rows, pointed = set(), 0
    for step in range(60):
        index = step % len(mined)
        query, joint, places = objective._example(mined[index], index, step)
        assert len(query.targets) == 0
        assert small_model.packer.mask_id not in joint.ids
        body = joint.ids[joint.body_start : joint.body_end]
        assert body.tolist() == small_store.token_ids(query.row).tolist()[: len(body)]
        rows.add(query.row)
        pointed += bool(places)
    assert pointed > 30  # some answers are too long for this model
    assert len(rows) > 6
    assert 0 not in rows  # held out: it measures what pre-training does
    loss, scalars = objective.loss(0)
    assert scalars["masked_loss"] == 0.0
    assert scalars["span_loss"] > 0
    loss.backward()
    assert small_model.reader.masked_head.bias.grad is None or not (
        small_model.reader.masked_head.bias.grad.any()
    )


def test_a_share_is_made_questions(
    mined: np.ndarray, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    objective = objective_of(
        small_model, small_store, small_spans, mined, null_share=0.2, question_share=0.5
    )
    asked, alone = [], []
    for step in range(300):
        index = step % len(mined)
        query, joint, _ = objective._example(mined[index], index, step)
        asked.append(len(query.targets) == 0)
        alone.append(joint.body_end == joint.body_start)
    assert np.mean(asked) == pytest.approx(0.5, abs=0.1)
    assert np.mean(alone) == pytest.approx(0.2, abs=0.08)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"null_share": 0.6, "question_share": 0.5}, "at most 1"),
        ({"question_words": {"date": ["when"]}}, "other"),
        ({"question_words": {"date": [], "other": ["what"]}}, "every label"),
    ],
)
def test_shares_and_words_that_do_not_suffice_are_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ReadingSettings.model_validate(values)


def test_the_loss_points_at_every_place_of_the_answer_and_at_nothing_else(
    mined: np.ndarray, small_model: Model, small_store: PassageStore, small_spans: SpanStore
) -> None:
    objective = objective_of(
        small_model, small_store, small_spans, mined, null_share=0.4, batch_size=16
    )
    chosen = batch_at(len(mined), 16, step=3, seed=0, rank=0, size=1)
    losses, num_null = [], 0
    for index in chosen:
        _, joint, places = objective._example(mined[index], int(index), 3)
        num_null += joint.body_end == joint.body_start
        groups = read(small_model.reader, [joint], packer=small_model.packer, token_budget=999)
        scores, _ = span_scores(small_model.reader, groups)
        if places:
            gold = torch.stack([scores[0, first, width - 1] for first, width in places])
            loss = scores.logsumexp(dim=(0, 1, 2)) - gold.logsumexp(dim=0)
            losses.append(float(loss.detach()))
    assert 0 < num_null < 16
    assert max(len(objective._example(mined[i], int(i), 3).places) for i in chosen) >= 1
    loss, scalars = objective.loss(3)
    # A mean over those that have something to point at.
    assert scalars["span_loss"] == pytest.approx(float(np.mean(losses)), abs=1e-4)
    assert float(loss.detach()) == pytest.approx(
        scalars["masked_loss"] + scalars["span_loss"], abs=1e-5
    )


def test_a_seed_decides_which_pairs_are_mined_and_read(
    small_model: Model,
    small_store: PassageStore,
    small_spans: SpanStore,
    small_lexical: LexicalIndex,
    tmp_path: Path,
) -> None:
    mined = [
        mine_reading_pairs(
            tmp_path / name, small_store, small_spans, small_lexical,
            ReadingSettings(num_queries=8), seed=seed,
        ).tolist()
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    ]  # fmt: skip
    assert mined[0] == mined[1] != mined[2]
    rows = [[row for row, _, _ in pairs] for pairs in mined]
    assert rows[0] != rows[2]
    pairs = mine_reading_pairs(
        tmp_path / "many", small_store, small_spans, small_lexical,
        ReadingSettings(num_queries=60), seed=0,
    )  # fmt: skip
    settings = ReadingSettings(batch_size=4, null_share=0.5)
    read_at, alone = [], []
    for seed in (0, 0, 1):
        objective = ReadingObjective(
            small_model, small_store, small_spans, pairs, settings, seed=seed
        )
        seen: list[int] = []
        kept = objective._example

        def listening(
            pair: np.void, index: int, step: int, seen: list[int] = seen, kept: Any = kept
        ) -> Any:
            seen.append(index)
            return kept(pair, index, step)

        objective._example = listening  # type: ignore[method-assign]
        objective.loss(0)
        read_at.append(seen)
        joints = [kept(pairs[0], 0, step).joint for step in range(20)]
        alone.append([joint.body_end == joint.body_start for joint in joints])
    assert read_at[0] == read_at[1] != read_at[2]
    assert alone[0] == alone[1] != alone[2]
