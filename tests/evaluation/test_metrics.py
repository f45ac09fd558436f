import math
import os
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm.evaluation.metrics import (
    PairedScores,
    exact_match,
    f1,
    is_correct,
    mean_with_interval,
    paired_bootstrap,
    paired_bootstrap_of_average,
)
from realm.examples.question import Question, read_questions
from realm.openqa.labels import contains_answer, matches_regex, normalise_answer


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_normalised_text_has_single_spaces_and_no_punctuation(text: str) -> None:
    once = normalise_answer(text)
    assert once == " ".join(once.split())
    assert once == once.translate(str.maketrans("", "", string.punctuation))


def test_exact_match() -> None:
    assert exact_match("the Eiffel Tower.", ["Paris", "Eiffel tower"])
    assert not exact_match("Eiffel", ["Eiffel Tower"])
    assert not exact_match("Eiffel", [])


def test_f1_by_hand() -> None:
    # 2 common words, 3 predicted, 4 expected: precision 2/3, recall 1/2.
    assert f1("big red dog", ["red dog house roof"]) == pytest.approx(4 / 7)
    assert f1("red red", ["red"]) == pytest.approx(2 / 3)
    assert f1("dog", ["cat", "dog"]) == 1.0
    assert f1("", ["cat"]) == 0.0
    assert f1("cat", ["the"]) == 0.0
    assert f1("a", ["the"]) == 1.0
    assert f1("cat", []) == 0.0


def test_regex_rule_is_anchored_at_the_start() -> None:
    assert matches_regex("new  york", [r"New\s+York"])
    assert matches_regex("New York City", ["nothing", "New York"])
    assert not matches_regex("in New York", ["New York"])


def test_questions_choose_their_rule() -> None:
    assert is_correct("1969 or so", Question("when?", (r"19\d\d",), is_regex=True))
    assert not is_correct("1969 or so", Question("when?", ("1969",)))


def test_contains_answer_respects_words() -> None:
    question = Question("q", ("the New York", "cat"))
    assert contains_answer("He moved to New York, they say.", "", question)
    assert contains_answer("Nothing", "A Cat", question)
    assert not contains_answer("A new Yorkshire concatenation", "category", question)
    assert not contains_answer("New", "York", question)
    assert not contains_answer("any text", "", Question("q", ("the", "!")))


def test_contains_answer_searches_regular_expressions() -> None:
    question = Question("q", ("nothing", r"Sept?(ember)?"), is_regex=True)
    assert contains_answer("It is in september.", "", question)
    assert contains_answer("x", "Sep", question)
    assert not contains_answer("It is in May.", "", question)


def test_real_patterns_compile_without_warnings() -> None:
    file = Path(os.environ.get("REALM_DATA", "../shared/data")) / "openqa/curatedtrec-train.jsonl"
    if not file.is_file():
        pytest.skip("REALM_DATA is absent")
    assert not any(is_correct("\0", question) for question in read_questions(file))


def test_bootstrap_estimates_the_difference() -> None:
    interval = paired_bootstrap([1, 1, 0, 1], [0, 1, 0, 0], num_resamples=2000)
    assert interval.estimate == 0.5
    # Resampled means lie from 0 to 1; of four questions that is too narrow by this much.
    stretch = math.sqrt(4 / 3) * 3.182 / 1.96
    assert interval.low == pytest.approx(0.5 - 0.5 * stretch, abs=1e-3)
    assert interval.high == pytest.approx(0.5 + 0.5 * stretch, abs=1e-3)
    assert paired_bootstrap([1, 0], [1, 0]) == paired_bootstrap([0, 0], [0, 0])


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.3, 1, 400), generator.normal(0.0, 1, 400)
    interval = paired_bootstrap(list(first), list(second))
    error = float((first - second).std()) / math.sqrt(400)
    assert interval.low == pytest.approx(interval.estimate - 1.96 * error, abs=0.02)
    assert interval.high == pytest.approx(interval.estimate + 1.96 * error, abs=0.02)


def test_clusters_of_equal_questions_widen_the_interval() -> None:
    generator = np.random.default_rng(2)
    scores = list(np.repeat(generator.integers(0, 2, 30), 10).astype(float))
    zeros, clusters = [0.0] * 300, [str(i // 10) for i in range(300)]
    apart = paired_bootstrap(scores, zeros)
    together = paired_bootstrap(scores, zeros, clusters=clusters)
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.15)
    one_by_one = paired_bootstrap(scores, zeros, clusters=[f"{i:03}" for i in range(300)])
    assert one_by_one == apart


@pytest.mark.parametrize("num_clusters", [2, 4, 7])
def test_few_clusters_are_covered_as_often_as_is_said(num_clusters: int) -> None:
    generator = np.random.default_rng(4)
    names = [str(i // 20) for i in range(20 * num_clusters)]
    covered = 0
    for _ in range(400):
        own = np.repeat(generator.normal(0, 1, num_clusters), 20)
        scores = own + generator.normal(0, 1, len(own))
        interval = paired_bootstrap(
            scores.tolist(), [0.0] * len(own), clusters=names, num_resamples=500
        )
        covered += interval.low <= 0.0 <= interval.high
    assert covered / 400 == pytest.approx(0.95, abs=0.04)


def test_one_cluster_tells_no_interval() -> None:
    interval = paired_bootstrap([1, 0], [0, 0], clusters=["a", "a"])
    assert interval.rounded(100) == {"estimate": 50.0, "low": None, "high": None}


def test_the_average_gives_every_file_one_weight() -> None:
    # +100 points on 2 questions and none on 200: the average is +50, over all questions it is +1.
    few, many = PairedScores([1, 1], [0, 0]), PairedScores([1] * 200, [1] * 200)
    interval = paired_bootstrap_of_average([few, many], num_resamples=100)
    assert (interval.estimate, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_the_average_of_two_files_varies_less() -> None:
    generator = np.random.default_rng(3)
    scores = [PairedScores(generator.normal(0.2, 1, 300).tolist(), [0.0] * 300) for _ in range(2)]
    widths = [
        interval.high - interval.low
        for interval in map(paired_bootstrap_of_average, ([scores[0]], [scores[1]], scores))
    ]
    assert widths[2] == pytest.approx((widths[0] + widths[1]) / 2 / math.sqrt(2), rel=0.08)
    with pytest.raises(ValueError, match="at least one file"):
        paired_bootstrap_of_average([])


def test_the_interval_over_seeds_by_hand() -> None:
    # Mean 3, deviation 2, t of two degrees 4.303: 3 -+ 4.303 * 2 / sqrt 3.
    interval = mean_with_interval([1.0, 3.0, 5.0])
    assert interval.estimate == 3.0
    assert interval.high - 3.0 == 3.0 - interval.low == pytest.approx(4.9687, abs=1e-3)
    assert math.isnan(mean_with_interval([4.0]).low)
    with pytest.raises(ValueError, match="at least one value"):
        mean_with_interval([])


def test_bootstrap_refuses_scores_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="length"):
        paired_bootstrap([], [])
    with pytest.raises(ValueError, match="length"):
        paired_bootstrap([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="length"):
        paired_bootstrap([1.0], [1.0], clusters=["a", "b"])
