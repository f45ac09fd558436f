"""Which examples are left out, and that nothing else changes when one is."""

from typing import cast

import numpy as np
import pytest

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.masking import Masking
from realm.examples.packing import Packer, PackingSettings
from realm.examples.query_maker import MaskSettings, QueryMaker


class Numbers:
    """Passages of forty whole numbers, each one sentence."""

    def token_ids(self, row: int) -> np.ndarray:
        return np.arange(100 * row, 100 * row + 40)


class Fixed:
    """In every passage hides what it was told to."""

    def __init__(self, hidden_by_row: dict[int, list[int]]) -> None:
        self._hidden_by_row = hidden_by_row

    def rows(self) -> np.ndarray:
        return np.array(list(self._hidden_by_row))

    def choose(self, row: int, generator: np.random.Generator) -> Masking:
        return Masking(0, 40, np.array(self._hidden_by_row[row]))


@pytest.fixture
def packer(small_store: PassageStore) -> Packer:
    """Room for six wordpieces in a query."""
    return Packer(small_store.tokenizer, PackingSettings(query_tokens=8, passage_tokens=64))


def make(packer: Packer, hidden_by_row: dict[int, list[int]], **settings: object) -> QueryMaker:
    store = cast(PassageStore, Numbers())
    return QueryMaker(
        store, packer, Fixed(hidden_by_row), MaskSettings.model_validate(settings), seed=0
    )


ONE, THREE, FAR = [2], [1, 2, 3], [4, 5, 6]  # the sixth place is the last one of a query


@pytest.mark.parametrize(
    ("hidden", "settings", "reason"),
    [
        (THREE, {"max_masks": 2}, None),
        (THREE, {"max_masks": 2, "overflow": "skip"}, "too_many_masks"),
        (THREE, {"max_masks": 3, "overflow": "skip"}, None),
        (FAR, {}, None),
        (FAR, {"long_sentences": "beginning"}, "hidden_beyond_query"),
        ([3, 4, 5], {"long_sentences": "beginning"}, None),
        ([0, 39], {"long_sentences": "beginning", "max_masks": 1, "overflow": "skip"},
         "hidden_beyond_query"),
    ],
)  # fmt: skip
def test_reasons_by_hand(
    packer: Packer, hidden: list[int], settings: dict[str, object], reason: str | None
) -> None:
    maker = make(packer, {0: hidden}, **settings)
    assert maker.reason_to_skip(Masking(0, 40, np.array(hidden))) == reason


def test_a_sentence_is_cut_after_its_beginning(packer: Packer) -> None:
    maker = make(packer, {0: [3, 5]}, long_sentences="beginning")
    (query,) = maker.batch([0], 0, np.array([0]))
    assert query.ids.tolist() == [0, 1, 2, packer.mask_id, 4, packer.mask_id]
    assert query.targets.tolist() == [3, 5]
    # The window would have shown what follows: that is the other rule.
    (query,) = make(packer, {0: [3, 5]}).batch([0], 0, np.array([0]))
    assert query.ids.tolist() == [2, packer.mask_id, 4, packer.mask_id, 6, 7]


def test_another_passage_stands_in(packer: Packer) -> None:
    maker = make(packer, {0: THREE, 1: ONE, 2: FAR}, max_masks=1, overflow="skip")
    queries = maker.batch([1, 0, 1], 7, substitutes=np.array([1]))
    assert [query.row for query in queries] == [1, 1, 1]
    assert maker.skipped == {"too_many_masks": 1, "hidden_beyond_query": 0}
    # What stands in is skipped as well, and counted.
    maker = make(packer, {0: THREE, 1: ONE, 2: FAR}, max_masks=1, overflow="skip")
    rows = [[q.row for q in maker.batch([0], step, np.array([0, 1, 2]))] for step in range(30)]
    assert rows == [[1]] * 30
    assert maker.skipped["too_many_masks"] > 30


def test_batches_are_functions_of_seed_and_step(packer: Packer) -> None:
    hidden = {row: THREE if row % 2 else ONE for row in range(20)}
    settings = {"max_masks": 1, "overflow": "skip"}
    rows = list(range(20))

    def drawn(maker: QueryMaker, step: int) -> list[int]:
        return [query.row for query in maker.batch(rows, step, np.arange(20))]

    one, other = make(packer, hidden, **settings), make(packer, hidden, **settings)
    drawn(one, 3)  # what was drawn before does not matter
    assert drawn(one, 4) == drawn(other, 4)
    assert drawn(one, 5) != drawn(one, 4)
    # Those that are not skipped are the ones that were asked for.
    assert drawn(one, 6)[::2] == rows[::2]


def test_rules_that_skip_everything_are_named(packer: Packer) -> None:
    maker = make(packer, {0: THREE}, max_masks=1, overflow="skip")
    with pytest.raises(SourceError, match="too_many_masks"):
        maker.batch([0], 0, np.array([0]))


def test_measuring_counts_nothing_and_replaces_nothing(packer: Packer) -> None:
    maker = make(packer, {0: THREE, 1: ONE}, max_masks=1, overflow="skip")
    assert [query.row for query in maker.usable([0, 1, 0], 0)] == [1]
    assert sum(maker.skipped.values()) == 0
