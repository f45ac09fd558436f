"""Masked text keeps BERT's rule, whichever part of the input a wordpiece stands in."""

from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer

from realm.examples.masked_text import MaskedText, mask_packed
from realm.examples.masking import scatter
from realm.examples.packing import Packed, Packer, PackingSettings

VOCABULARY = 200


class Scripted(np.random.Generator):
    """Chooses the first places, and draws what a test wrote down."""

    def __init__(self, fate: list[float], others: list[int]) -> None:
        super().__init__(np.random.PCG64(0))
        self._fate, self._others = fate, others

    def choice(self, places: np.ndarray, size: int, replace: bool) -> np.ndarray:  # type: ignore[override]
        assert not replace
        return places[:size][::-1]

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.array(self._fate[:size])

    def integers(self, high: int, size: int) -> np.ndarray:  # type: ignore[override]
        assert high == VOCABULARY
        return np.array(self._others[:size])


@pytest.fixture
def packer(tokenizer: Tokenizer) -> Packer:
    return Packer(tokenizer, PackingSettings(query_tokens=32, passage_tokens=64))


def mask(packer: Packer, packed: Packed, generator: np.random.Generator) -> MaskedText:
    return mask_packed(packed, packer, generator, share=0.15, vocabulary_size=VOCABULARY)


def test_the_rule_by_hand(packer: Packer) -> None:
    # [CLS] 3 [SEP] 37 [SEP]: 40 wordpieces, of which 6 are asked for.
    packed = packer.passage(np.arange(20, 23), np.arange(30, 67))
    generator = Scripted([0.0, 0.79, 0.8, 0.89, 0.9, 0.99], [101, 102, 103, 104, 105, 106])
    masked = mask(packer, packed, generator)
    assert masked.positions.tolist() == [1, 2, 3, 5, 6, 7]  # [SEP] stands at 4
    assert masked.targets.tolist() == [20, 21, 22, 30, 31, 32]
    expected = packed.ids.copy()
    expected[[1, 2]] = packer.mask_id
    expected[[3, 5]] = 103, 104
    assert masked.packed.ids.tolist() == expected.tolist()
    assert packed.ids[1] == 20, "what was packed is left as it was"
    assert (masked.packed.body_start, masked.packed.body_end) == (5, 42)


def test_eight_of_ten_are_masked_and_one_is_another(packer: Packer) -> None:
    packed = packer.joint(np.arange(20, 40), np.arange(40, 44), np.arange(50, 90))
    fates: Counter[str] = Counter()
    places: Counter[int] = Counter()
    for seed in range(500):
        masked = mask(packer, packed, np.random.default_rng(seed))
        assert len(masked.positions) == len(set(masked.positions)) == 9  # of 60
        assert packed.ids[masked.positions].tolist() == masked.targets.tolist()
        places.update(masked.positions.tolist())
        for shown, target in zip(masked.packed.ids[masked.positions], masked.targets, strict=True):
            is_masked = shown == packer.mask_id
            fates["masked" if is_masked else "kept" if shown == target else "other"] += 1
    total = sum(fates.values())
    # Standard errors are 0.006 and 0.004.
    assert fates["masked"] / total == pytest.approx(0.8, abs=0.025)
    assert fates["kept"] / total == pytest.approx(0.1, abs=0.02)
    assert fates["other"] / total == pytest.approx(0.1, abs=0.02)
    words = np.flatnonzero(~np.isin(packed.ids, [packer.cls_id, packer.sep_id])).tolist()
    assert sorted(places) == words, "each wordpiece is asked for some time, and nothing else"


@pytest.mark.parametrize(("number", "expected"), [(0, 0), (1, 1), (6, 1), (10, 2), (100, 15)])
def test_a_share_is_rounded_and_never_nothing(number: int, expected: int) -> None:
    chosen = scatter(np.arange(7, 7 + number), 0.15, np.random.default_rng(1))
    assert len(chosen) == len(set(chosen.tolist())) == expected
    assert np.all(np.diff(chosen) > 0)


def test_a_text_of_marks_alone_is_asked_nothing(packer: Packer) -> None:
    packed = packer.passage(np.empty(0, np.int64), np.empty(0, np.int64))
    masked = mask(packer, packed, np.random.default_rng(0))
    assert masked.packed.ids.tolist() == packed.ids.tolist()
    assert len(masked.targets) == 0
