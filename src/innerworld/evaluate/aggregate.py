"""Scores of several tasks and seeds as one number: interquartile mean, its interval, and who is likely to be better.

The maths of rliable (Agarwal et al. 2021, arXiv 2108.13264), whose point is that a handful of seeds says little unless
its uncertainty is told: the interquartile mean is steadier than the mean and wastes less than the median, intervals
come from a bootstrap that draws seeds within each task, and one is better than another with a probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = Mapping[str, Sequence[float]]
"""For each task the scores of its runs, one for each seed."""

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Of scores `... n`: `...`."""

CUT = 0.25  # of the scores at either end that the interquartile mean leaves out
RESAMPLES = 2000
COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval (NaN where no task has two runs), and of how many runs it is."""

    value: float
    low: float
    high: float
    runs: int


def estimate(scores: Scores, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The interquartile mean over all runs of all tasks, with a stratified bootstrap interval. NaN without a run."""
    runs = [np.asarray(values, np.float64) for values in scores.values() if len(values)]
    if not runs:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(interquartile_mean(np.concatenate(runs)))
    low, high = interval(scores, interquartile_mean, seed, resamples)
    return Estimate(value, low, high, sum(map(len, runs)))


def interquartile_mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of what is left of `... n` without the lowest and the highest quarter, each rounded down: `...`.

    As `scipy.stats.trim_mean(scores, 0.25, axis=-1)`: of fewer than four scores it is their mean.
    """
    n = scores.shape[-1]
    cut = int(CUT * n)
    return np.sort(scores, axis=-1)[..., cut : n - cut].mean(axis=-1)


def interval(
    scores: Scores, statistic: Statistic = interquartile_mean, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic over all runs: each task's runs are drawn again, with replacement.

    Drawing within tasks keeps every task in every sample, so that the interval tells of seeds and not of which tasks
    there are. NaN where no task has two runs: one seed says nothing of the next.
    """
    runs = [np.asarray(values, np.float64) for values in scores.values() if len(values)]
    if max(map(len, runs), default=0) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([one[rng.integers(len(one), size=(resamples, len(one)))] for one in runs], axis=1)
    low, high = np.quantile(statistic(drawn), [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def improvement(x: Scores, y: Scores, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """How likely a run of x scores higher than one of y on the same task, averaged over the tasks that both have.

    For each task the share of pairs of runs in which x is above y, a tie a half: Mann and Whitney's U over n m
    (arXiv 2108.13264, §4.3). 0.5: neither. The interval draws the runs of both anew within each task.
    """
    tasks = [task for task in x if len(x[task]) and len(y.get(task, ()))]
    pairs = [(np.asarray(x[task], np.float64), np.asarray(y[task], np.float64)) for task in tasks]
    if not pairs:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(np.mean([_above(a, b) for a, b in pairs]))
    low = high = math.nan
    if max(max(len(a), len(b)) for a, b in pairs) > 1:
        rng = np.random.default_rng(seed)
        again = lambda one: one[rng.integers(len(one), size=(resamples, len(one)))]
        drawn = np.mean([_above(again(a), again(b)) for a, b in pairs], axis=0)
        low, high = map(float, np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]))
    return Estimate(value, low, high, sum(len(a) + len(b) for a, b in pairs))


def _above(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the pairs of `... n` and `... m` in which the first is above, ties a half: `...`."""
    return (0.5 * (1 + np.sign(a[..., :, None] - b[..., None, :]))).mean(axis=(-2, -1))
