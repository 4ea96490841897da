"""The statistics that LeRobot keeps of every feature, per episode and of all: min, max, mean, std, count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Stats = dict[str, np.ndarray]
"""min, max, mean, std in the shape of the feature (3 1 1 for a camera), count (1)."""

ALL = ("min", "max", "mean", "std", "count")
MOST_FRAMES = 64
"""Frames of an episode that the statistics of a camera look at, evenly spread, as LeRobot does too."""


def of_vectors(rows: np.ndarray) -> Stats:
    """Of `t n`."""
    wide = rows.astype(np.float64)
    return {
        "min": wide.min(0),
        "max": wide.max(0),
        "mean": wide.mean(0),
        "std": wide.std(0),
        "count": np.array([len(rows)]),
    }


def of_frames(frames: np.ndarray) -> Stats:
    """Of `t y x c` bytes, per channel, with white at 1; grey as the three channels that its video has."""
    at = np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).round().astype(int))
    chosen = np.broadcast_to(frames[at], (*frames[at].shape[:3], 3)).reshape(-1, 3) / 255
    found = of_vectors(chosen)
    return {**{name: found[name].reshape(3, 1, 1) for name in ALL[:4]}, "count": np.array([len(at)])}


def joined(one: Mapping[str, Stats], other: Mapping[str, Stats]) -> dict[str, Stats]:
    """Of both together, feature by feature."""
    return {**one, **{name: _joined(one[name], stats) if name in one else stats for name, stats in other.items()}}


def _joined(one: Stats, other: Stats) -> Stats:
    n, m = int(one["count"][0]), int(other["count"][0])
    mean = (n * one["mean"] + m * other["mean"]) / (n + m)
    between = n * m / (n + m) ** 2 * (one["mean"] - other["mean"]) ** 2
    return {
        "min": np.minimum(one["min"], other["min"]),
        "max": np.maximum(one["max"], other["max"]),
        "mean": mean,
        "std": np.sqrt((n * one["std"] ** 2 + m * other["std"] ** 2) / (n + m) + between),
        "count": np.array([n + m]),
    }
