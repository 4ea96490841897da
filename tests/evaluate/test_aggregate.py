"""One number of several seeds and tasks: as SciPy and rliable's formulas have it, and honest about a single seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from innerworld.evaluate.aggregate import estimate, improvement, interquartile_mean, interval


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3.0], 3.0),
        ([1.0, 2.0, 6.0], 3.0),  # of fewer than four nothing is left out
        ([9.0, 1.0, 2.0, 3.0], 2.5),
        ([0.0, 1.0, 2.0, 3.0, 100.0], 2.0),
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -100.0, 100.0], 2.5),
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(scores: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(scores)) == pytest.approx(expected)


def test_it_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in range(1, 30):
        scores = rng.standard_cauchy((3, n))
        assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores, 0.25, axis=-1))


def test_of_one_task_the_interval_is_the_percentile_bootstrap_of_scipy() -> None:
    scores = np.random.default_rng(1).normal(10, 2, 25)
    low, high = interval({"task": scores.tolist()}, resamples=20_000)
    theirs = stats.bootstrap(
        (scores,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_seeds_are_drawn_within_tasks() -> None:
    apart = {"a": [0.0, 0.0, 0.0], "b": [10.0, 10.0, 10.0]}
    assert interval(apart, lambda scores: scores.mean(axis=-1)) == (5.0, 5.0)  # drawn over tasks it would be wide


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        scores = {task: rng.normal(level, 1, 20).tolist() for task, level in (("a", -3), ("b", 3))}
        low, high = interval(scores, lambda values: values.mean(axis=-1), seed=trial, resamples=500)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_one_seed_has_no_interval() -> None:
    found = estimate({"a": [1.0], "b": [2.0], "c": []})
    assert found.value == 1.5 and found.runs == 2 and math.isnan(found.low) and math.isnan(found.high)
    nothing = estimate({"a": []})
    assert nothing.runs == 0 and math.isnan(nothing.value)


def test_the_probability_of_improvement_is_that_of_mann_and_whitney() -> None:
    x, y = [1.0, 4.0, 6.0], [2.0, 4.0, 5.0]
    above = sum((a > b) + 0.5 * (a == b) for a in x for b in y) / 9
    assert improvement({"t": x}, {"t": y}).value == pytest.approx(above)
    assert improvement({"t": y}, {"t": x}).value == pytest.approx(1 - above)
    assert above == pytest.approx(stats.mannwhitneyu(x, y).statistic / 9)


def test_every_task_counts_alike_and_only_those_of_both() -> None:
    x = {"a": [2.0, 2.0, 2.0, 2.0], "b": [0.0], "c": [5.0]}
    y = {"a": [1.0, 1.0], "b": [1.0], "d": [0.0]}
    found = improvement(x, y)
    assert found.value == 0.5 and found.runs == 8
    assert math.isnan(improvement({"a": [1.0]}, {"b": [1.0]}).value)


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = {"a": [1.0, 2.0, 3.0], "b": [2.0, 5.0, 9.0]}
    assert estimate(scores) == estimate(scores)
    many = {"a": [float(score) for score in range(20)]}
    assert interval(many) != interval(many, seed=1)
