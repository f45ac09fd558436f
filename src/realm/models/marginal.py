"""How likely is a target when the passage it is read from is not known?

    log p(y|x) = logsumexp over z of  log p(z|x) + log p(y|z,x)         (REALM, eq. 1)

The sum runs over the retrieved candidates, of which the first is the null passage. All losses
of the program are here, as functions of tensors alone.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NULL = 0  # the candidate that says "no passage helps"


def marginal_log_likelihood(
    retrieval_scores: Float[Tensor, "batch candidates"],
    reader_log_probs: Float[Tensor, "batch candidates targets"],
) -> Float[Tensor, "batch targets"]:
    """Mix the reader's likelihoods, weighted by the retriever's beliefs.

    Scores are inner products; they are normalised here over the candidates alone, since p(z|x)
    over a whole corpus cannot be computed. With one target for each masked wordpiece this is
    the released code's marginal; with `span_log_probs` as targets it is the paper's.
    """
    retrieval_log_probs = retrieval_scores.log_softmax(dim=-1)
    return torch.logsumexp(retrieval_log_probs[..., None] + reader_log_probs, dim=1)


def span_log_probs(
    reader_log_probs: Float[Tensor, "batch candidates masks"],
    is_target: Bool[Tensor, "batch masks"],
) -> Float[Tensor, "batch candidates 1"]:
    """Log p(y|z,x) of a whole span: the product over its wordpieces (section 3.2)."""
    return (reader_log_probs * is_target[:, None]).sum(dim=-1, keepdim=True)


def mean_over_targets(
    values: Float[Tensor, "batch masks"], is_target: Bool[Tensor, "batch masks"]
) -> Float[Tensor, ""]:
    """Mean over the real targets of a padded batch; zero where there is none."""
    return (values * is_target).sum() / is_target.sum().clamp(min=1)


def retrieval_utility(
    reader_log_probs: Float[Tensor, "batch candidates targets"],
) -> Float[Tensor, "batch candidates targets"]:
    """RU(z|x) = log p(y|z,x) - log p(y|null,x): what each candidate adds (appendix D)."""
    return reader_log_probs - reader_log_probs[:, NULL : NULL + 1]


def in_batch_softmax(
    scores: Float[Tensor, "queries passages"], first: int = 0
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy and accuracy of each query's own passage; that of the first is `first`."""
    own = first + torch.arange(scores.shape[0], device=scores.device)
    accuracy = (scores.argmax(dim=-1) == own).float().mean()
    return torch.nn.functional.cross_entropy(scores, own), accuracy


def divergence_from_teacher(
    scores: Float[Tensor, "queries passages"], teacher: Float[Tensor, "queries passages"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of a ranking of passages from a teacher's, mean over queries."""
    target, guess = teacher.log_softmax(dim=-1), scores.log_softmax(dim=-1)
    return (target.exp() * (target - guess)).sum(dim=-1).mean()


def positive_log_likelihood(
    scores: Float[Tensor, "batch outcomes"], is_positive: Bool[Tensor, "batch outcomes"]
) -> Float[Tensor, " batch"]:
    """Log of the probability that the softmax gives to all positive outcomes together.

    Rows without a positive outcome give zero and no gradient, as in the released code. Outcomes
    that do not exist carry the score -inf.
    """
    has_positive = is_positive.any(dim=-1)
    # Rows without a positive count all outcomes, so that no -inf enters the backward pass.
    counted = torch.where(has_positive[:, None], is_positive, torch.ones_like(is_positive))
    positive = scores.masked_fill(~counted, -torch.inf).logsumexp(dim=-1)
    return torch.where(
        has_positive, positive - scores.logsumexp(dim=-1), torch.zeros_like(positive)
    )
