"""Heads read only where they are asked, and that equals reading everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from realm.examples.packing import Packed
from realm.models.checkpoint import Model
from realm.models.embedder import evaluating
from realm.models.reader import (
    ReadGroup,
    masked_log_probs,
    masked_predictions,
    read,
    span_scores,
)

NOTHING = np.empty(0, dtype=np.int64)
POSITIONS = torch.tensor([[1, 3], [2, 0], [1, 2], [4, 5]])
TARGETS = torch.tensor([[9, 8], [7, 0], [6, 5], [10, 11]])
IS_TARGET = torch.tensor([[True, True], [True, False], [True, True], [False, False]])


def some_joints(model: Model) -> list[Packed]:
    generator = np.random.default_rng(0)
    vocab = model.tokenizer.get_vocab_size()

    def words(length: int) -> np.ndarray:
        return generator.integers(5, vocab, length)

    bodies = (words(6), words(30), NOTHING, words(2))
    return [model.packer.joint(words(7 + i), NOTHING, body) for i, body in enumerate(bodies)]


def read_all(model: Model, joints: list[Packed], *, token_budget: int = 4096) -> list[ReadGroup]:
    return read(model.reader, joints, packer=model.packer, token_budget=token_budget)


def all_logits(model: Model, joint: Packed) -> Tensor:
    """Logits at every position of one pair, read alone: the naive computation."""
    hidden = model.reader(model.packer.pad([joint]))[0]
    logits: Tensor = model.reader.masked_head(hidden, model.reader.output_embeddings())
    return logits


@pytest.fixture
def model(small_model: Model) -> Model:
    small_model.modules().eval()
    return small_model


@pytest.mark.parametrize("token_budget", [1, 60, 4096])
def test_masked_log_probs_equal_the_naive_computation(model: Model, token_budget: int) -> None:
    joints = some_joints(model)
    with evaluating(model.reader):
        groups = read_all(model, joints, token_budget=token_budget)
        found = masked_log_probs(model.reader, groups, POSITIONS, TARGETS, IS_TARGET)
        expected = torch.zeros(4, 2)
        for item, joint in enumerate(joints):
            log_probs = all_logits(model, joint).log_softmax(dim=-1)
            for mask in range(2):
                if IS_TARGET[item, mask]:
                    expected[item, mask] = log_probs[POSITIONS[item, mask], TARGETS[item, mask]]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found[~IS_TARGET].tolist() == [0.0, 0.0, 0.0]
    assert (found[IS_TARGET] < -1).all()


def test_predictions_are_a_distribution_over_the_vocabulary(model: Model) -> None:
    joints = some_joints(model)
    with evaluating(model.reader):
        groups = read_all(model, joints, token_budget=60)
        found = masked_predictions(model.reader, groups, 3)
        expected = [all_logits(model, joint)[3].log_softmax(dim=-1) for joint in joints]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.exp().sum(dim=-1), torch.ones(4))


@pytest.mark.parametrize("token_budget", [1, 60, 4096])
def test_spans_batched_equal_one_by_one(model: Model, token_budget: int) -> None:
    joints = some_joints(model)
    with evaluating(model.reader):
        spans, silence = span_scores(
            model.reader, read_all(model, joints, token_budget=token_budget)
        )
        for item, joint in enumerate(joints):
            alone, alone_silence = span_scores(model.reader, read_all(model, [joint]))
            width = alone.shape[1]
            torch.testing.assert_close(spans[item, :width], alone[0], atol=1e-5, rtol=0)
            assert spans[item, width:].isneginf().all()
            torch.testing.assert_close(silence[item], alone_silence[0], atol=1e-5, rtol=0)


def test_spans_outside_the_body_do_not_exist(model: Model) -> None:
    joints = some_joints(model)
    with evaluating(model.reader):
        spans, silence = span_scores(model.reader, read_all(model, joints))
    assert spans.shape == (4, 30, 4)  # the longest body, max_answer_tokens
    assert silence.isfinite().all()
    for item, joint in enumerate(joints):
        length = joint.body_end - joint.body_start
        for start in range(30):
            for width in range(4):
                exists = start + width < length
                assert spans[item, start, width].isfinite().item() is exists
    assert spans[2].isneginf().all()  # the null passage holds no answer


def test_a_span_is_scored_from_its_first_and_last_state(model: Model) -> None:
    joint = some_joints(model)[0]
    head = model.reader.span_head
    with evaluating(model.reader):
        spans, silence = span_scores(model.reader, read_all(model, [joint]))
        hidden = model.reader(model.packer.pad([joint]))[0]

        def score(first: int, last: int) -> float:
            joined = torch.relu(head.start(hidden[first]) + head.end(hidden[last]))
            return float(head.output(head.layer_norm(joined)))

        for start, width in ((0, 0), (0, 3), (2, 1), (5, 0)):
            first = joint.body_start + start
            expected = score(first, first + width)
            assert spans[0, start, width].item() == pytest.approx(expected, abs=1e-5)
        assert silence[0].item() == pytest.approx(score(0, 0), abs=1e-5)


def test_gradients_reach_trunk_and_head(model: Model) -> None:
    groups = read_all(model, some_joints(model))
    masked_log_probs(model.reader, groups, POSITIONS, TARGETS, IS_TARGET).sum().backward()
    reader = model.reader
    for parameter in (reader.masked_head.dense.weight, reader.output_embeddings()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert reader.span_head.start.weight.grad is None


def test_spans_that_do_not_exist_leave_no_nan_in_the_gradient(model: Model) -> None:
    spans, silence = span_scores(model.reader, read_all(model, some_joints(model)))
    (spans.flatten().logsumexp(dim=0) + silence.sum()).backward()
    for parameter in model.reader.span_head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_targets_of_another_shape_are_refused(model: Model) -> None:
    groups = read_all(model, some_joints(model))
    with pytest.raises(TypeCheckError, match="targets"):
        masked_log_probs(model.reader, groups, POSITIONS, TARGETS[:, :1], IS_TARGET)


def test_a_read_group_knows_its_places(model: Model) -> None:
    joints = some_joints(model)
    groups = read_all(model, joints, token_budget=60)
    assert len(groups) > 1
    for group in groups:
        assert [joints[i] for i in group.places.tolist()] == group.items
    with pytest.raises(TypeCheckError):
        replace(groups[0], hidden=groups[0].hidden[..., 0])
