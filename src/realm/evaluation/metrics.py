"""When is an answer right, when does a passage hold one, and is a difference more than chance?

Answers are compared as the open question answering literature does (the SQuAD rules after
Unicode decomposition). Pure functions: no files, no models. A change of any rule raises
`METRIC_VERSION`, which every report carries.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realm.examples.question import Question
from realm.openqa.labels import matches_regex, normalise_answer

METRIC_VERSION = "2"

# Numbers drawn at once by the bootstrap: 32 MB.
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds between which it lies at the stated confidence."""

    estimate: float
    low: float
    high: float


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """Whether the prediction equals one of the answers after normalisation."""
    normalised = normalise_answer(prediction)
    return any(normalised == normalise_answer(answer) for answer in answers)


def f1(prediction: str, answers: Iterable[str]) -> float:
    """The best overlap of words with one of the answers, between 0 and 1."""
    words = normalise_answer(prediction).split()
    return max((_word_f1(words, normalise_answer(a).split()) for a in answers), default=0.0)


def is_correct(prediction: str, question: Question) -> bool:
    """Apply the rule that the question asks for: a regular expression or an exact match."""
    rule = matches_regex if question.is_regex else exact_match
    return rule(prediction, question.answers)


def paired_bootstrap(
    first: Sequence[float | int],
    second: Sequence[float | int],
    *,
    clusters: Sequence[str] | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate mean(first) - mean(second) for two systems scored on the same questions.

    Questions of one cluster (a document, say) are drawn together: they are not independent,
    and an interval that draws them one by one would be too narrow.

    Raises:
        ValueError: the scores (or clusters) are not of one length, or there are none.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    num_questions = len(differences)
    groups = np.arange(num_questions)
    if clusters is not None:
        groups = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if num_questions == 0 or len(first) != len(second) or len(groups) != num_questions:
        raise ValueError("the scores and clusters must be of one length of at least 1")
    sums = np.bincount(groups, weights=differences).astype(np.float64)
    sizes = np.bincount(groups)
    means = _resampled_means(sums, sizes, num_resamples, np.random.default_rng(seed))
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(differences.mean()), float(low), float(high))


def _word_f1(predicted: list[str], expected: list[str]) -> float:
    if not predicted or not expected:
        return float(predicted == expected)
    num_common = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * num_common / (len(predicted) + len(expected))


def _resampled_means(
    sums: NDArray[np.float64],
    sizes: NDArray[np.int64],
    num_resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    num_clusters = len(sums)
    num_at_once = max(1, _DRAWS_AT_ONCE // num_clusters)
    means = []
    for begin in range(0, num_resamples, num_at_once):
        shape = (min(num_at_once, num_resamples - begin), num_clusters)
        drawn = generator.integers(num_clusters, size=shape)
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
