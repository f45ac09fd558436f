"""Layouts by hand, and batches that keep their promises."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from tokenizers import Tokenizer, models

from realm.errors import SettingError
from realm.examples.packing import Packed, Packer, PackingSettings, TokenBatch, length_batches

PAD, CLS, SEP, MASK = 0, 1, 2, 3
BERT = Tokenizer(models.WordPiece({"[PAD]": PAD, "[CLS]": CLS, "[SEP]": SEP, "[MASK]": MASK}))


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def make_packer(**settings: object) -> Packer:
    values = {"query_tokens": 5, "passage_tokens": 9, **settings}
    return Packer(BERT, PackingSettings.model_validate(values))


def facts(packed: Packed) -> tuple[list[int], int, int, int]:
    return packed.ids.tolist(), packed.segment_start, packed.body_start, packed.body_end


def test_a_query_by_hand() -> None:
    packer = make_packer()
    assert facts(packer.query(ids(10, 11))) == ([CLS, 10, 11, SEP], 4, 1, 3)
    assert facts(packer.query(ids(10, 11, 12, 13))) == ([CLS, 10, 11, 12, SEP], 5, 1, 4)
    assert facts(packer.query(ids())) == ([CLS, SEP], 2, 1, 1)


def test_a_passage_by_hand() -> None:
    packer = make_packer()
    packed = packer.passage(ids(20), ids(30, 31, 32))
    assert facts(packed) == ([CLS, 20, SEP, 30, 31, 32, SEP], 3, 3, 6)
    # Nine in all: the body gives way to the title.
    packed = packer.passage(ids(20, 21), ids(30, 31, 32, 33, 34))
    assert facts(packed) == ([CLS, 20, 21, SEP, 30, 31, 32, 33, SEP], 4, 4, 8)
    packed = packer.passage(np.arange(20, 30), ids(30))
    assert facts(packed) == ([CLS, 20, 21, 22, 23, 24, 25, SEP, SEP], 8, 8, 8)


def test_a_joint_shows_the_body_alone() -> None:
    packed = make_packer().joint(ids(10, 11), ids(20), ids(30, 31))
    assert facts(packed) == ([CLS, 10, 11, SEP, 30, 31, SEP], 4, 4, 6)
    # At most passage_tokens - 2 of the body, so that query and passage together fit the trunk.
    packed = make_packer().joint(np.arange(10, 20), ids(), np.arange(30, 50))
    assert facts(packed) == ([CLS, 10, 11, 12, SEP, *range(30, 37), SEP], 5, 5, 12)


def test_a_joint_with_a_length_of_its_own_leaves_the_body_what_the_query_does_not_take() -> None:
    packer = make_packer(joint_tokens=10)
    packed = packer.joint(ids(10), ids(), np.arange(30, 50))
    assert facts(packed) == ([CLS, 10, SEP, *range(30, 36), SEP], 3, 3, 9)
    packed = packer.joint(ids(10, 11, 12), ids(), np.arange(30, 50))
    assert facts(packed) == ([CLS, 10, 11, 12, SEP, *range(30, 34), SEP], 5, 5, 9)


def test_a_joint_with_a_length_of_its_own_is_never_longer() -> None:
    """What the query leaves is the title's first; the last wordpiece ends the input."""
    for joint_tokens in range(6, 20):
        packer = make_packer(joint_tokens=joint_tokens, title_in_joint=True)
        packed = packer.joint(np.arange(10, 20), np.arange(20, 26), np.arange(30, 50))
        assert len(packed) == joint_tokens
        assert packed.body_start <= packed.body_end == len(packed) - 1
    packed = make_packer(joint_tokens=10, title_in_joint=True).joint(
        np.arange(10, 20), np.arange(20, 26), np.arange(30, 50)
    )
    assert facts(packed) == ([CLS, 10, 11, 12, SEP, 20, 21, 22, SEP, SEP], 5, 9, 9)


def test_a_joint_with_its_title() -> None:
    packer = make_packer(title_in_joint=True)
    packed = packer.joint(ids(10, 11), ids(20), ids(30, 31))
    assert facts(packed) == ([CLS, 10, 11, SEP, 20, SEP, 30, 31, SEP], 4, 6, 8)
    packed = packer.joint(ids(10, 11), ids(), ids(30, 31))
    assert facts(packed) == ([CLS, 10, 11, SEP, 30, 31, SEP], 4, 4, 6)


def test_a_passage_without_its_title() -> None:
    packer = make_packer(title_in_passage=False)
    assert facts(packer.passage(ids(20), ids(30, 31))) == ([CLS, SEP, 30, 31, SEP], 2, 2, 4)
    # The room is the body's, and the reader's side is another setting.
    packed = packer.passage(ids(20, 21), np.arange(30, 50))
    assert facts(packed) == ([CLS, SEP, *range(30, 36), SEP], 2, 2, 8)
    shown = make_packer(title_in_passage=False, title_in_joint=True)
    assert shown.joint(ids(10), ids(20), ids(30)).ids.tolist() == [CLS, 10, SEP, 20, SEP, 30, SEP]


def test_the_null_passage_is_packed_like_any_other() -> None:
    packer = make_packer()
    assert facts(packer.passage(ids(), ids())) == ([CLS, SEP, SEP], 2, 2, 2)
    assert facts(packer.joint(ids(10), ids(), ids())) == ([CLS, 10, SEP, SEP], 3, 3, 3)
    assert facts(make_packer(title_in_joint=True).joint(ids(10), ids(), ids())) == (
        [CLS, 10, SEP, SEP],
        3,
        3,
        3,
    )


def test_a_single_segment() -> None:
    packer = make_packer(segments="single")
    batch = packer.pad([packer.passage(ids(20), ids(30)), packer.joint(ids(10), ids(), ids(30))])
    assert batch.segment_ids.sum() == 0


def test_padding_by_hand() -> None:
    packer = make_packer()
    batch = packer.pad([packer.joint(ids(10), ids(), ids(30)), packer.query(ids(11))])
    assert batch.input_ids.tolist() == [[CLS, 10, SEP, 30, SEP], [CLS, 11, SEP, PAD, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.segment_ids.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]
    assert batch.to(torch.device("cpu")).input_ids.dtype == torch.int64


def test_ids_keep_their_values_in_any_integer_type() -> None:
    packer = make_packer()
    body = np.array([65_000], dtype=np.uint16)
    assert packer.query(body).ids.tolist() == [CLS, 65_000, SEP]
    assert packer.pad([packer.query(body)]).input_ids.tolist() == [[CLS, 65_000, SEP]]


def test_a_batch_of_unequal_shapes_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        TokenBatch(
            torch.zeros(2, 3, dtype=torch.int64),
            torch.zeros(2, 4, dtype=torch.int64),
            torch.zeros(2, 3, dtype=torch.int64),
        )


def test_special_tokens_are_found_by_either_spelling() -> None:
    roberta = Tokenizer(models.WordPiece({"<pad>": 5, "<s>": 6, "</s>": 7, "<mask>": 8}))
    packer = Packer(roberta, PackingSettings())
    assert (packer.pad_id, packer.cls_id, packer.sep_id, packer.mask_id) == (5, 6, 7, 8)
    with pytest.raises(SettingError, match=r"has no \[MASK\] token"):
        Packer(Tokenizer(models.WordPiece({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2})), PackingSettings())


wordpieces = st.lists(st.integers(4, 99), max_size=40).map(lambda values: ids(*values))


@given(
    query=wordpieces,
    title=wordpieces,
    body=wordpieces,
    query_tokens=st.integers(2, 20),
    passage_tokens=st.integers(3, 20),
    title_in_joint=st.booleans(),
)
def test_nothing_is_longer_than_it_may_be(
    query: np.ndarray,
    title: np.ndarray,
    body: np.ndarray,
    query_tokens: int,
    passage_tokens: int,
    title_in_joint: bool,
) -> None:
    packer = make_packer(
        query_tokens=query_tokens, passage_tokens=passage_tokens, title_in_joint=title_in_joint
    )
    joint = packer.joint(query, title, body)
    assert len(packer.query(query)) <= query_tokens
    assert len(packer.passage(title, body)) <= passage_tokens
    assert len(joint) <= query_tokens + passage_tokens
    for packed in (packer.query(query), packer.passage(title, body), joint):
        assert 0 < packed.body_start <= packed.body_end <= len(packed) - 1
        assert packed.ids[packed.body_end] == SEP
    # Whatever stands beside it, the query stands where it stood alone.
    alone = packer.query(query)
    assert joint.ids[: len(alone)].tolist() == alone.ids.tolist()
    assert joint.ids[joint.body_start : joint.body_end].tolist() == (
        body[: joint.body_end - joint.body_start].tolist()
    )


def cost(groups: list[np.ndarray], lengths: list[int], group_cost: int) -> int:
    return sum(len(group) * max(lengths[i] for i in group) + group_cost for group in groups)


def all_cuts(order: list[int]) -> Iterator[list[np.ndarray]]:
    if not order:
        yield []
    for size in range(1, len(order) + 1):
        for rest in all_cuts(order[size:]):
            yield [np.array(order[:size]), *rest]


@given(
    st.lists(st.integers(1, 300), max_size=60),
    st.integers(1, 2000),
    st.sampled_from(["cpu", "cuda"]),
)
def test_length_batches(lengths: list[int], token_budget: int, device: str) -> None:
    groups = length_batches(lengths, token_budget, device)
    assert sorted(i for group in groups for i in group.tolist()) == list(range(len(lengths)))
    for group in groups:
        assert len(group) >= 1
        longest = max(lengths[i] for i in group)
        assert len(group) == 1 or longest * len(group) <= token_budget
    # Sorted by length across groups, longest first: a batch that fits no more comes first.
    in_order = [lengths[i] for group in groups for i in group]
    assert in_order == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 300), max_size=8), st.integers(1, 1000))
def test_no_other_cut_costs_less(lengths: list[int], token_budget: int) -> None:
    order = np.argsort(-np.array(lengths), kind="stable").tolist()
    allowed = [
        cost(cut, lengths, 96)
        for cut in all_cuts(order)
        if all(len(g) == 1 or len(g) * lengths[g[0]] <= token_budget for g in cut)
    ]
    assert cost(length_batches(lengths, token_budget, "cpu"), lengths, 96) == min(allowed)


def test_length_batches_by_hand() -> None:
    groups = length_batches([3, 9, 4, 4, 20], token_budget=12, device_type="cpu")
    assert [group.tolist() for group in groups] == [[4], [1], [2, 3, 0]]


def test_short_inputs_stand_apart_where_padding_costs_more_than_a_group() -> None:
    lengths = [20, 150, 160, 20, 155, 20]
    for device, expected in (("cpu", [[2, 4, 1], [0, 3, 5]]), ("cuda", [[2, 4, 1, 0, 3, 5]])):
        groups = length_batches(lengths, 4096, device)
        assert [group.tolist() for group in groups] == expected
