"""What is hidden is hidden whole, and nothing of it can be seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.examples.masked_query import mask_query, stack_targets
from realm.examples.masking import Masking, MaskingName, make_masker
from realm.examples.packing import Packer, PackingSettings
from realm.examples.stream import generator_at
from realm.spans.annotate import SpanStore

NAMES: tuple[MaskingName, ...] = ("salient_span", "random_span", "random_token")


class FakeStore:
    """One passage with whole numbers for wordpieces, so that each says where it stood."""

    def __init__(self, num_tokens: int, sentence_ends: Sequence[int]) -> None:
        self._num_tokens, self._ends = num_tokens, list(sentence_ends)

    def __len__(self) -> int:
        return 1

    def token_ids(self, row: int) -> np.ndarray:
        return np.arange(1000, 1000 + self._num_tokens)

    def sentences(self, row: int) -> np.ndarray:
        return np.stack([[0, *self._ends[:-1]], self._ends], axis=1)


def fake_store(num_tokens: int, sentence_ends: Sequence[int]) -> PassageStore:
    return cast(PassageStore, FakeStore(num_tokens, sentence_ends))


@pytest.fixture
def packer(small_store: PassageStore) -> Packer:
    """Room for six wordpieces in a query."""
    return Packer(small_store.tokenizer, PackingSettings(query_tokens=8, passage_tokens=64))


def test_the_wordpieces_of_a_span_are_hidden(
    small_store: PassageStore, small_spans: SpanStore
) -> None:
    masker = make_masker("salient_span", small_store, small_spans)
    packer = Packer(small_store.tokenizer, PackingSettings(query_tokens=40, passage_tokens=64))
    assert masker.rows().tolist() == list(range(12))
    seen = set()
    for row in masker.rows().tolist():
        for step in range(20):
            masking = masker.choose(row, generator_at(step, 0, row))
            query = mask_query(small_store, packer, row, masking, max_masks=40)
            spans = small_store.token_spans(row)
            hidden = small_store.text(row)[
                spans[masking.hidden[0]][0] : spans[masking.hidden[-1]][1]
            ]
            seen.add(hidden)
            names = {small_store.text(row)[s["start"] : s["end"]] for s in small_spans.of(row)}
            assert hidden in names
            wanted = small_store.tokenizer.encode(hidden, add_special_tokens=False).ids
            assert query.targets.tolist() == wanted
            # Nothing else of the sentence is touched.
            whole = small_store.token_ids(row)[masking.sentence_start : masking.sentence_end]
            is_hidden = query.ids == packer.mask_id
            assert is_hidden.sum() == len(wanted)
            assert query.ids[~is_hidden].tolist() == whole[~is_hidden].tolist()
            assert packer.query(query.ids).ids[query.positions].tolist() == (
                [packer.mask_id] * len(wanted)
            )
    # Uniformly over the spans of a passage: most of some 65 are met.
    assert {"3 May 1871", "Ida Renquist", "96 metres", "1956"} <= seen


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("query_tokens", [8, 40])
def test_targets_are_never_visible(
    name: MaskingName, query_tokens: int, small_store: PassageStore, small_spans: SpanStore
) -> None:
    settings = PackingSettings(query_tokens=query_tokens, passage_tokens=64)
    packer = Packer(small_store.tokenizer, settings)
    masker = make_masker(name, small_store, small_spans)
    for row in masker.rows().tolist():
        for step in range(10):
            masking = masker.choose(row, generator_at(step, 1, row))
            query = mask_query(small_store, packer, row, masking, max_masks=3)
            packed = packer.query(query.ids)
            assert 1 <= len(query.targets) <= 3
            assert len(query.positions) == len(query.targets)
            assert len(packed) <= query_tokens
            assert (packed.ids[query.positions] == packer.mask_id).all()
            # Masks stand where something was hidden, whether it is asked for or not.
            num_masks = int((query.ids == packer.mask_id).sum())
            assert len(query.targets) <= num_masks <= len(masking.hidden)
            assert set(query.targets) <= set(small_store.token_ids(row)[masking.hidden].tolist())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_hidden_lies_in_one_sentence(
    name: MaskingName, small_store: PassageStore, small_spans: SpanStore
) -> None:
    masker = make_masker(name, small_store, small_spans)
    for row in masker.rows().tolist():
        for step in range(10):
            masking = masker.choose(row, generator_at(step, 2, row))
            sentences = small_store.sentences(row).tolist()
            assert [masking.sentence_start, masking.sentence_end] in sentences
            assert masking.sentence_start <= masking.hidden[0]
            assert masking.hidden[-1] < masking.sentence_end
            assert (np.diff(masking.hidden) >= 1).all()


@pytest.mark.parametrize("name", ["random_span", "random_token"])
def test_a_passage_without_wordpieces_has_nothing_to_hide(
    name: MaskingName, small_spans: SpanStore, tokenizer_file: Path, tmp_path: Path
) -> None:
    source = tmp_path / "cut-before.jsonl"
    texts = ["Tavil is a port.", "", "It has a harbour."]
    rows = [{"id": str(n), "title": "t", "text": text} for n, text in enumerate(texts)]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = CorpusSettings(cut="documents", num_workers=1)
    store = build_corpus(
        [source], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )
    masker = make_masker(name, store, small_spans)
    assert masker.rows().tolist() == [0, 2]
    assert all(len(masker.choose(row, generator_at(0, 0, row)).hidden) for row in (0, 2))


def test_the_three_maskers_differ(small_spans: SpanStore) -> None:
    store = fake_store(40, [40])
    spans = [make_masker("random_span", store, small_spans) for _ in range(2)]
    lengths = []
    for step in range(200):
        masking = spans[0].choose(0, generator_at(step, 0, 0))
        again = spans[1].choose(0, generator_at(step, 0, 0))
        assert masking.hidden.tolist() == again.hidden.tolist()
        assert (np.diff(masking.hidden) == 1).all()
        lengths.append(len(masking.hidden))
    assert set(lengths) == set(range(1, 11))
    # Geometric with p = 0.2 among one to ten: 3.8 on average, a single wordpiece is likeliest
    # with 0.2 / (1 - 0.8 ** 10) = 0.224, and ten of them least likely with 0.030.
    assert np.mean(lengths) == pytest.approx(3.8, abs=0.4)
    assert lengths.count(1) / 200 == pytest.approx(0.224, abs=0.08)
    assert lengths.count(10) / 200 == pytest.approx(0.030, abs=0.03)
    tokens = make_masker("random_token", store, small_spans)
    for step in range(20):
        # Fifteen percent of forty.
        assert len(tokens.choose(0, generator_at(step, 0, 0)).hidden) == 6
    short = make_masker("random_token", fake_store(2, [2]), small_spans)
    assert len(short.choose(0, generator_at(0, 0, 0)).hidden) == 1


@pytest.mark.parametrize(
    ("hidden", "start", "end", "seen"),
    [
        # Sentence of twenty from wordpiece 10 on, a window of six around what is hidden.
        ([12], 10, 30, [10, 11, 13, 14, 15]),
        ([20, 21], 10, 30, [18, 19, 22, 23]),
        ([29], 10, 30, [24, 25, 26, 27, 28]),
        ([10, 11], 10, 30, [12, 13, 14, 15]),
        # Six or fewer need no window.
        ([11], 10, 16, [10, 12, 13, 14, 15]),
    ],
)
def test_a_long_sentence_is_cut_around_what_is_hidden(
    packer: Packer, hidden: list[int], start: int, end: int, seen: list[int]
) -> None:
    store = fake_store(40, [10, end, 40])
    masking = Masking(start, end, np.array(hidden))
    query = mask_query(store, packer, 0, masking, max_masks=10)
    assert len(query.ids) == 6
    assert query.ids[query.ids != packer.mask_id].tolist() == [1000 + place for place in seen]
    assert query.targets.tolist() == [1000 + place for place in hidden]


def test_of_what_is_hidden_far_apart_some_is_in_sight(packer: Packer) -> None:
    masking = Masking(10, 30, np.array([10, 18, 29]))
    query = mask_query(fake_store(40, [10, 30, 40]), packer, 0, masking, max_masks=10)
    assert query.ids.tolist() == [1015, 1016, 1017, packer.mask_id, 1019, 1020]
    assert query.targets.tolist() == [1018]
    assert query.positions.tolist() == [4]


def test_a_span_longer_than_a_query_is_hidden_throughout(packer: Packer) -> None:
    masking = Masking(10, 30, np.arange(14, 24))
    query = mask_query(fake_store(40, [10, 30, 40]), packer, 0, masking, max_masks=4)
    assert query.ids.tolist() == [packer.mask_id] * 6
    assert len(query.targets) == 4


def test_no_more_targets_than_asked_for_but_all_are_hidden(packer: Packer) -> None:
    masking = Masking(10, 16, np.array([10, 11, 13, 15]))
    query = mask_query(fake_store(40, [10, 16, 40]), packer, 0, masking, max_masks=2)
    assert query.ids.tolist() == [packer.mask_id] * 2 + [1012, packer.mask_id, 1014, packer.mask_id]
    assert query.targets.tolist() == [1010, 1011]
    assert query.positions.tolist() == [1, 2]


def test_targets_are_padded(packer: Packer) -> None:
    store = fake_store(40, [6, 40])
    maskings = [Masking(0, 6, np.array([1, 3])), Masking(0, 6, np.array([5]))]
    targets = stack_targets([mask_query(store, packer, 0, m, max_masks=10) for m in maskings])
    assert targets.positions.tolist() == [[2, 4], [6, 0]]
    assert targets.ids.tolist() == [[1001, 1003], [1005, 0]]
    assert targets.is_target.tolist() == [[True, True], [True, False]]
