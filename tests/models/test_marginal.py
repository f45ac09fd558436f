"""The likelihoods, with numbers worked by hand."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from realm.models.marginal import (
    in_batch_softmax,
    marginal_log_likelihood,
    mean_over_targets,
    positive_log_likelihood,
    retrieval_utility,
    span_log_probs,
)


def log(*values: float) -> torch.Tensor:
    return torch.tensor(values).log()


def test_two_candidates_by_hand() -> None:
    # p(z|x) = 1/4, 3/4;  p(y|z,x) = 0.2, 0.6;  p(y|x) = 0.25 * 0.2 + 0.75 * 0.6 = 0.5
    scores = torch.tensor([[0.0, math.log(3.0)]])
    reader = log(0.2, 0.6).reshape(1, 2, 1)
    assert marginal_log_likelihood(scores, reader).exp().item() == pytest.approx(0.5)


def test_each_target_has_a_marginal_of_its_own() -> None:
    # Equal beliefs: the means (0.2 + 0.6) / 2 and (0.5 + 0.1) / 2.
    reader = torch.stack([log(0.2, 0.5), log(0.6, 0.1)])[None]
    marginal = marginal_log_likelihood(torch.zeros(1, 2), reader).exp()
    assert marginal.tolist() == [pytest.approx([0.4, 0.3])]


def test_only_differences_of_scores_count() -> None:
    scores, reader = torch.tensor([[1.0, -2.0, 0.5]]), log(0.2, 0.6, 0.3).reshape(1, 3, 1)
    expected = marginal_log_likelihood(scores, reader)
    torch.testing.assert_close(marginal_log_likelihood(scores + 7.0, reader), expected)


@pytest.mark.parametrize("score", [1e4, -1e4])
def test_great_scores_do_not_overflow(score: float) -> None:
    scores = torch.tensor([[score, 0.0]], requires_grad=True)
    reader = log(0.2, 0.6).reshape(1, 2, 1).requires_grad_()
    marginal = marginal_log_likelihood(scores, reader)
    marginal.sum().backward()
    assert marginal.exp().item() == pytest.approx(0.2 if score > 0 else 0.6)
    assert scores.grad is not None
    assert reader.grad is not None
    assert scores.grad.isfinite().all()
    assert reader.grad.isfinite().all()


def test_reader_log_probs_far_below_zero_do_not_underflow() -> None:
    reader = torch.tensor([-5000.0, -5000.0]).reshape(1, 2, 1)
    assert marginal_log_likelihood(torch.zeros(1, 2), reader).item() == pytest.approx(-5000.0)


def test_the_gradient_favours_the_helpful_candidate() -> None:
    # d log p(y|x) / d f(x,z) = p(z|y,x) - p(z|x): the posterior less the belief.
    scores = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    reader = log(0.1, 0.9, 0.2).reshape(1, 3, 1)
    marginal_log_likelihood(scores, reader).sum().backward()
    belief = scores.detach().softmax(dim=-1)
    posterior = belief * reader[..., 0].exp()
    posterior = posterior / posterior.sum()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, posterior - belief)
    assert scores.grad[0, 1] > 0
    assert scores.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_a_candidate_as_good_as_the_mixture_gets_no_gradient() -> None:
    scores = torch.tensor([[0.3, -1.0]], requires_grad=True)
    marginal_log_likelihood(scores, log(0.4, 0.4).reshape(1, 2, 1)).sum().backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.zeros(1, 2))


def test_one_useful_passage_gives_the_supervised_gradient() -> None:
    # Appendix B: p(y|z*,x) = 1 and 0 elsewhere. The gradient is that of log p(z*|x).
    scores = torch.tensor([[0.3, -1.0, 2.0, 0.5]], requires_grad=True)
    reader = torch.tensor([-torch.inf, 0.0, -torch.inf, -torch.inf]).reshape(1, 4, 1)
    marginal = marginal_log_likelihood(scores, reader).sum()
    supervised = scores.log_softmax(dim=-1)[0, 1]
    assert marginal.item() == pytest.approx(supervised.item())
    (found,) = torch.autograd.grad(marginal, scores)
    (expected,) = torch.autograd.grad(supervised, scores)
    torch.testing.assert_close(found, expected)
    # By hand: 1 - p(z*|x) for the useful one, -p(z|x) for the others.
    belief = scores.detach().softmax(dim=-1)[0]
    torch.testing.assert_close(found[0], torch.tensor([0.0, 1.0, 0.0, 0.0]) - belief)


def test_the_update_of_a_passage_is_its_belief_times_its_gain() -> None:
    # Appendix A: r(z) = (p(y|z,x) / p(y|x) - 1) p(z|x), through whatever makes the scores.
    torch.manual_seed(0)
    weights = torch.randn(5, requires_grad=True)
    features = torch.randn(1, 3, 5)
    likelihood = torch.tensor([0.1, 0.9, 0.2])
    scores = features @ weights
    marginal_log_likelihood(scores, likelihood.log().reshape(1, 3, 1)).sum().backward()
    belief = scores.detach().softmax(dim=-1)[0]
    gain = (likelihood / (belief @ likelihood) - 1) * belief
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, gain @ features[0])


def test_utility_is_measured_against_the_null_passage() -> None:
    reader = log(0.2, 0.6, 0.1).reshape(1, 3, 1)
    utility = retrieval_utility(reader)
    assert utility.flatten().tolist() == pytest.approx([0.0, math.log(3.0), math.log(0.5)])


def test_a_span_of_one_wordpiece_is_its_wordpiece() -> None:
    scores = torch.tensor([[0.3, -1.0]])
    reader = torch.stack([log(0.2, 0.7), log(0.6, 0.9)])[None]
    is_target = torch.tensor([[True, False]])
    by_span = marginal_log_likelihood(scores, span_log_probs(reader, is_target))
    by_token = marginal_log_likelihood(scores, reader)
    assert by_span[0, 0].item() == pytest.approx(by_token[0, 0].item())


def test_a_span_is_the_product_of_its_wordpieces() -> None:
    # (0.2 * 0.5 + 0.6 * 0.1) / 2 = 0.08, not 0.4 * 0.3 = 0.12: one passage explains all of it.
    reader = torch.stack([log(0.2, 0.5, 0.9), log(0.6, 0.1, 0.9)])[None]
    is_target = torch.tensor([[True, True, False]])
    whole = marginal_log_likelihood(torch.zeros(1, 2), span_log_probs(reader, is_target))
    assert whole.exp().tolist() == [[pytest.approx(0.08)]]


def test_the_mean_leaves_padding_out() -> None:
    values = torch.tensor([[1.0, 2.0], [6.0, 100.0]])
    is_target = torch.tensor([[True, True], [True, False]])
    assert mean_over_targets(values, is_target).item() == 3.0
    assert mean_over_targets(values, torch.zeros_like(is_target)).item() == 0.0


def test_inverse_cloze_by_hand() -> None:
    # Row 0: p = 3/4;  row 1: p = 1/2.  loss = -(log 3/4 + log 1/2) / 2
    scores = torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]])
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert in_batch_softmax(scores)[0].item() == pytest.approx(expected)


def test_the_own_passages_of_a_share_begin_further_on() -> None:
    # Two queries of a second process: their own passages are the third and the fourth.
    scores = log(1.0, 1.0, 2.0, 4.0).repeat(2, 1)
    expected = -(math.log(2 / 8) + math.log(4 / 8)) / 2
    loss, accuracy = in_batch_softmax(scores, 2)
    assert loss.item() == pytest.approx(expected)
    assert accuracy.item() == 0.5


def test_positives_are_counted_together() -> None:
    # softmax = 1/8, 2/8, 4/8, 1/8;  positives 1 and 3: 3/8.
    scores = log(1.0, 2.0, 4.0, 1.0)[None]
    is_positive = torch.tensor([[False, True, False, True]])
    assert positive_log_likelihood(scores, is_positive).exp().item() == pytest.approx(0.375)


def test_rows_without_a_positive_give_nothing() -> None:
    scores = torch.tensor([[1.0, 2.0, -torch.inf], [1.0, 2.0, -torch.inf]], requires_grad=True)
    is_positive = torch.tensor([[False, False, False], [True, False, False]])
    likelihood = positive_log_likelihood(scores, is_positive)
    likelihood.sum().backward()
    assert likelihood[0].item() == 0.0
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0, 0.0]
    # d log softmax_0: 1 - p_0 and -p_1; what does not exist gets nothing.
    first = 1 / (1 + math.e)
    assert scores.grad[1].tolist() == pytest.approx([1 - first, first - 1, 0.0])


def test_a_batch_without_any_positive_has_no_nan() -> None:
    scores = torch.tensor([[1e4, -1e4, -torch.inf]], requires_grad=True)
    positive_log_likelihood(scores, torch.zeros(1, 3, dtype=torch.bool)).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_all_positive_is_certain() -> None:
    scores = torch.tensor([[1e4, -3.0]])
    assert positive_log_likelihood(scores, torch.ones(1, 2, dtype=torch.bool)).item() == 0.0


def test_shapes_that_do_not_fit_are_refused() -> None:
    # Broadcasting would accept one candidate of the reader for three scores.
    with pytest.raises(TypeCheckError, match="reader_log_probs"):
        marginal_log_likelihood(torch.zeros(2, 3), torch.zeros(2, 1, 5))
    with pytest.raises(TypeCheckError, match="is_positive"):
        positive_log_likelihood(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.bool))
    with pytest.raises(TypeCheckError, match="is_target"):
        mean_over_targets(torch.zeros(2, 3), torch.ones(2, 3))
