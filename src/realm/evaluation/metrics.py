"""When is an answer right, when does a passage hold one, and is a difference more than chance?

Answers are compared as the open question answering literature does (the SQuAD rules after
Unicode decomposition). Pure functions: no files, no models. A change of any rule raises
`METRIC_VERSION`, which every report carries.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from realm.examples.question import Question
from realm.openqa.labels import matches_regex, normalise_answer

METRIC_VERSION = "2"

# Numbers drawn at once by the bootstrap: 32 MB.
_DRAWS_AT_ONCE = 4_000_000
# Student's t below which 97.5% lies, by degrees of freedom from 1; then that of the normal.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.95996


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of 95% confidence; not a number where one draw gives none."""

    estimate: float
    low: float
    high: float

    def rounded(self, factor: float = 1.0) -> dict[str, float | None]:
        """Values for a report, times a factor; a bound that is not known is None."""
        return {
            name: round(factor * value, 2) if math.isfinite(value) else None
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Two systems' scores on the questions of one file, and which questions are drawn together."""

    first: Sequence[float | int]
    second: Sequence[float | int]
    clusters: Sequence[str] | None = None

    def differences(self) -> NDArray[np.float64]:
        """By question, the first less the second."""
        if len(self.first) == 0 or len(self.first) != len(self.second):
            raise ValueError("the scores and clusters must be of one length of at least 1")
        return np.asarray(self.first, dtype=np.float64) - np.asarray(self.second, dtype=np.float64)

    def groups(self) -> NDArray[np.int64]:
        """By question, the number of its cluster."""
        if self.clusters is None:
            return np.arange(len(self.first))
        if len(self.clusters) != len(self.first):
            raise ValueError("the scores and clusters must be of one length of at least 1")
        return np.unique(np.asarray(self.clusters), return_inverse=True)[1]


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
    seed: int = 0,
) -> Interval:
    """Estimate mean(first) - mean(second) for two systems scored on the same questions.

    Questions of one cluster (a document, say) are drawn together: they are not independent,
    and an interval that draws them one by one would be too narrow.

    Raises:
        ValueError: the scores (or clusters) are not of one length, or there are none.
    """
    return paired_bootstrap_of_average(
        [PairedScores(first, second, clusters)],
        num_resamples=num_resamples, seed=seed,
    )  # fmt: skip


def paired_bootstrap_of_average(
    files: Sequence[PairedScores],
    *,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The same for the average of several files, each drawn for itself and each of one weight.

    Raises:
        ValueError: there is no file, or the scores (or clusters) of one are not of one length.
    """
    if not files:
        raise ValueError("an average needs the scores of at least one file")
    generator = np.random.default_rng(seed)
    estimates, deviations = [], []
    for scores in files:
        differences, groups = scores.differences(), scores.groups()
        sums = np.bincount(groups, weights=differences).astype(np.float64)
        estimates.append(differences.mean())
        means = _resampled_means(sums, np.bincount(groups), num_resamples, generator)
        deviations.append(_stretch(len(sums)) * (means - estimates[-1]))
    estimate = float(np.mean(estimates))
    low, high = np.quantile(np.mean(deviations, axis=0), [0.025, 0.975])
    return Interval(estimate, estimate + float(low), estimate + float(high))


def mean_with_interval(values: Sequence[float]) -> Interval:
    """The mean of a few independent trainings and its 95% interval by Student's t.

    A single one has no interval: its bounds are not a number.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    mean, degrees = float(np.mean(values)), len(values) - 1
    if degrees == 0:
        return Interval(mean, math.nan, math.nan)
    half = _student(degrees) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def _student(degrees: int) -> float:
    """Student's t below which 97.5% lies; beyond the table by its expansion (error below 2e-4)."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    z = _NORMAL
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))


def _stretch(num_clusters: int) -> float:
    """What resampled deviations of few clusters are too small by.

    Draws from G clusters vary by sqrt(1 - 1/G) less than the clusters do, and G are too few to
    know how much that is. Of seven articles a plain interval of 95% holds 88%.
    """
    degrees = num_clusters - 1
    if degrees == 0:
        return math.nan
    return math.sqrt(num_clusters / degrees) * _student(degrees) / _NORMAL


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
