"""Gaps filled beside passages, against sums over the whole vocabulary."""

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.evaluation import fill_mask
from realm.evaluation.fill_mask import FilledMask, MaskFiller, parse_gaps
from realm.index.encode import pack_joint, pack_passage
from realm.index.exact import ExactIndex
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model
from realm.models.embedder import embed, evaluating
from realm.models.reader import masked_predictions, read
from realm.pretraining.objective import RealmSettings

ONE = "The bridge was opened by Queen [MASK]."
TWO = "[MASK] was born in [MASK]."


@pytest.fixture
def filler(small_model: Model, small_store: PassageStore, small_snapshot: Snapshot) -> MaskFiller:
    with torch.no_grad():  # new weights believe in one candidate, and read the same beside each
        for name, parameter in small_model.reader.named_parameters():
            parameter.mul_(10 if name.endswith("weight") and parameter.ndim == 2 else 1)
        for name, parameter in small_model.embedder.named_parameters():
            parameter.mul_(0.1 if name.endswith("projection.weight") else 1)
    index = ExactIndex(small_snapshot.embeddings)
    settings = RealmSettings(num_candidates=4)
    return MaskFiller(small_model, small_store, index, settings)


def by_hand(model: Model, store: PassageStore, filled: FilledMask, ids: np.ndarray) -> torch.Tensor:
    """Beliefs [candidates], then log p of every word at every gap [candidates, masks, vocab]."""
    packer, rows = model.packer, rows_of(store, filled)
    gaps = [place + 1 for place, token in enumerate(ids.tolist()) if token == packer.mask_id]
    with evaluating(model.modules()):
        joints = [pack_joint(store, packer, ids, row) for row in rows]
        groups = read(model.reader, joints, packer=packer, token_budget=4096)
        return torch.stack([masked_predictions(model.reader, groups, gap) for gap in gaps], dim=1)


def beliefs_by_hand(
    model: Model, store: PassageStore, filled: FilledMask, ids: np.ndarray
) -> torch.Tensor:
    packer, towers = model.packer, model.embedder
    with evaluating(model.modules()):
        query = embed(towers.query_tower, [packer.query(ids)], packer)[0]
        packed = [pack_passage(store, packer, row) for row in rows_of(store, filled)]
        return (embed(towers.passage_tower, packed, packer) @ query).softmax(dim=0)


def rows_of(store: PassageStore, filled: FilledMask) -> list[int]:
    row_by_id = {int(passage): row for row, passage in enumerate(store.passage_ids())}
    return [-1 if c.passage_id is None else row_by_id[c.passage_id] for c in filled.candidates]


def test_one_gap_is_summed_over_the_candidates(
    filler: MaskFiller, small_model: Model, small_store: PassageStore, tokenizer: Tokenizer
) -> None:
    filled = filler.fill(ONE, top_k=3)
    ids = parse_gaps(ONE, small_model).ids
    reader = by_hand(small_model, small_store, filled, ids)[:, 0].exp()
    beliefs = beliefs_by_hand(small_model, small_store, filled, ids)
    marginal = beliefs @ reader
    best = marginal.argsort(descending=True)[:3]
    assert [f.text for f in filled.fillings] == [tokenizer.id_to_token(int(i)) for i in best]
    for filling, word in zip(filled.fillings, best, strict=True):
        assert filling.probability == pytest.approx(float(marginal[word]), rel=1e-3)
        null = float(reader[0, word])
        assert filling.probability_without_retrieval == pytest.approx(null, rel=1e-3)
    without = reader[0].argmax()
    assert filled.fillings_without_retrieval[0].text == tokenizer.id_to_token(int(without))
    assert filled.answer == filled.fillings[0]
    assert (filled.candidates[0].start, filled.candidates[0].end) == (None, None)
    for candidate in filled.candidates[1:]:
        assert candidate.document_id is not None
        document = small_store.document(candidate.document_id)
        assert document.text[candidate.start : candidate.end].split() == candidate.text.split()
    for place, candidate in enumerate(filled.candidates):
        assert candidate.retrieval_probability == pytest.approx(float(beliefs[place]), rel=1e-3)
        likelihood = float(reader[place, best[0]])
        assert candidate.answer_probability == pytest.approx(likelihood, rel=1e-3)
        utility = math.log(likelihood / float(reader[0, best[0]]))
        assert candidate.retrieval_utility == pytest.approx(utility, abs=1e-3)
    # One wordpiece: the released scalar is the gain of the marginal.
    gain = math.log(filled.answer.probability / filled.answer.probability_without_retrieval)
    assert filled.retrieval_utility == pytest.approx(gain, abs=1e-4)


def test_several_gaps_are_filled_together(
    filler: MaskFiller,
    small_model: Model,
    small_store: PassageStore,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fill_mask, "_BEST_OF_A_PASSAGE", 10**6)  # every pair of words
    filled = filler.fill(TWO, top_k=4)
    ids = parse_gaps(TWO, small_model).ids
    reader = by_hand(small_model, small_store, filled, ids).exp()
    beliefs = beliefs_by_hand(small_model, small_store, filled, ids)
    marginal = torch.einsum("c,cv,cw->vw", beliefs, reader[:, 0], reader[:, 1])
    best = marginal.flatten().argsort(descending=True)[:4].tolist()
    for filling, place in zip(filled.fillings, best, strict=True):
        words = divmod(place, marginal.shape[1])
        assert filling.probability == pytest.approx(float(marginal[words]), rel=1e-3)
        texts = [tokenizer.decode([word]) for word in words]
        assert filling.text == " ... ".join(texts)
    released = [
        math.log(float(beliefs @ reader[:, gap, word]) / float(reader[0, gap, word]))
        for gap, word in enumerate(divmod(best[0], marginal.shape[1]))
    ]
    assert filled.retrieval_utility == pytest.approx(sum(released) / 2, abs=1e-3)


def test_a_given_answer_of_several_wordpieces_widens_the_gap(
    filler: MaskFiller, small_model: Model, small_store: PassageStore
) -> None:
    targets = parse_gaps(ONE, small_model, "Maritha of Tavil").targets
    assert len(targets) >= 3
    filled = filler.fill(ONE, answer="Maritha of Tavil")
    ids = parse_gaps(ONE, small_model, "Maritha of Tavil").ids
    assert (ids == small_model.packer.mask_id).sum() == len(targets)
    reader = by_hand(small_model, small_store, filled, ids)
    likelihood = reader[:, torch.arange(len(targets)), torch.from_numpy(targets)].sum(dim=1).exp()
    beliefs = beliefs_by_hand(small_model, small_store, filled, ids)
    expected = float(beliefs @ likelihood)
    assert filled.answer.text == "maritha of tavil"
    assert filled.answer.probability == pytest.approx(expected, rel=1e-3)
    found = [c.answer_probability for c in filled.candidates]
    assert found == pytest.approx(likelihood.tolist(), rel=1e-3)
    each = reader[:, torch.arange(len(targets)), torch.from_numpy(targets)].exp()
    gains = (beliefs @ each / each[0]).log()
    assert abs(float(gains.mean())) > 0.01  # so that it tells a mean from a sum
    assert filled.retrieval_utility == pytest.approx(float(gains.mean()), rel=1e-3)


def test_best_fillings_by_hand() -> None:
    # Products: 0.6 * 0.5, 0.6 * 0.4, 0.3 * 0.5, 0.3 * 0.4, ...
    log_probs = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]]).log()
    assert fill_mask._best_fillings(log_probs, 3).tolist() == [[1, 0], [1, 2], [2, 0]]
    assert len(fill_mask._best_fillings(log_probs, 50)) == 9


def test_null_first_and_no_more_candidates_than_passages(filler: MaskFiller) -> None:
    candidates = filler.fill(ONE).candidates
    assert [c.passage_id is None for c in candidates] == [True, False, False, False]
    assert candidates[0].retrieval_utility == 0.0
    assert sum(c.retrieval_probability for c in candidates) == pytest.approx(1.0, abs=1e-5)
    filler.settings = RealmSettings(num_candidates=40)
    candidates = filler.fill(ONE).candidates
    assert len(candidates) == 13
    assert len({c.passage_id for c in candidates}) == 13


def test_without_the_null_passage_it_only_measures(filler: MaskFiller) -> None:
    filler.settings = RealmSettings(num_candidates=3, null_passage=False)
    null, *others = filler.fill(ONE).candidates
    assert null.passage_id is None
    assert null.retrieval_probability == 0.0
    assert null.answer_probability > 0.0
    assert len(others) == 3
    assert sum(c.retrieval_probability for c in others) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "answer", "message"),
    [
        ("There is no gap.", "", r"no \[MASK\]"),
        ("", "", r"no \[MASK\]"),
        ("[MASK] was born in [MASK].", "Ida of Tavil", "wordpieces and the text 2 gaps"),
        ("[MASK] was born.", "  ", "has no words"),
        ("[MASK] " + "port " * 40, "", "shorten it"),
    ],
)
def test_what_cannot_be_filled(filler: MaskFiller, text: str, answer: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        filler.fill(text, answer=answer)


def test_special_tokens_are_no_part_of_a_query(small_model: Model) -> None:
    query = parse_gaps("Tavil [MASK] port", small_model)
    tokens = [small_model.tokenizer.id_to_token(i) for i in query.ids.tolist()]
    assert tokens[query.positions[0] - 1] == "[MASK]"
    assert "[CLS]" not in tokens
    assert "[SEP]" not in tokens
