"""`Draws`: how often each moment of a replay began a clip, so that those that seldom did are drawn next.

The dynamic frequency sampling of DRAMA (arXiv 2410.08893) for the clips that a world model learns from.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from innerworld.disk import write_atomic
from innerworld.errors import UserError

COUNT = np.dtype(np.int32)  # of a moment: all that is held in memory


class Draws:
    """Of `lives` rings of `rows` moments. The chance of a start falls with each draw of it by the factor e^(-1/tau)."""

    def __init__(self, lives: int, rows: int, tau: float) -> None:
        self.tau = tau
        self.counts = np.zeros((lives, rows), COUNT)

    def forget(self, life: int, moment: int) -> None:
        """A new moment stands where an older one did: nothing was drawn from it yet."""
        self.counts[life, moment % self.counts.shape[1]] = 0

    def draw(
        self, rng: np.random.Generator, oldest: np.ndarray, windows: np.ndarray, batch: int
    ) -> list[tuple[int, int]]:
        """`batch` lives and starts, each of `windows` (n) from `oldest` (n) on, and count them.

        No start twice in a batch, as upstream has it, unless there are fewer than that.
        """
        ends = np.cumsum(windows)
        chosen: list[tuple[int, int]] = []
        while len(chosen) < batch:
            counts = np.concatenate(
                [self._some(*one) for one in zip(range(len(windows)), oldest, windows, strict=True)]
            )
            found = _without_repeats(rng, counts, self.tau, min(batch - len(chosen), len(counts)))
            lives = np.searchsorted(ends, found, side="right")
            starts = oldest[lives] + found - (ends - windows)[lives]
            self.counts[lives, starts % self.counts.shape[1]] += 1
            chosen += zip(lives.tolist(), starts.tolist(), strict=True)
        return chosen

    def save(self, path: Path) -> None:
        """Raises `UserError` when the disk refuses."""
        file = io.BytesIO()
        np.save(file, self.counts)
        write_atomic(path, [file.getbuffer()])

    def load(self, path: Path) -> None:
        """What was saved. Raises `UserError` if it cannot be read, or is of other rows."""
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"cannot read {path}: {error}. Delete the replay's note to begin with an empty one"
            ) from None
        if found.shape != self.counts.shape or found.dtype != COUNT:
            raise UserError(f"{path} is of a replay with other rows: give the run's own settings, or delete it")
        self.counts = found

    def _some(self, life: int, first: int, n: int) -> np.ndarray:
        """The counts of `n` moments from `first` on: views, and a copy only where they go round the ring's end."""
        rows = self.counts.shape[1]
        begin, end = first % rows, first % rows + n
        counts = self.counts[life]
        return counts[begin:end] if end <= rows else np.concatenate([counts[begin:], counts[: end - rows]])


def _without_repeats(rng: np.random.Generator, counts: np.ndarray, tau: float, n: int) -> np.ndarray:
    """`n` different places by the softmax of -counts / tau, one after the other.

    First how often they were drawn before, then which of those that were drawn so often: that asks for no random number
    for each moment of the replay.
    """
    least = counts.min()
    alike = np.bincount(counts - least)  # how many were drawn so often
    chosen = np.zeros_like(alike)  # and how many of them are drawn now
    for _ in range(n):
        beyond = np.arange(len(alike)) - np.flatnonzero(alike - chosen)[0]
        weight = (alike - chosen) * np.exp(-np.maximum(beyond, 0) / tau)
        chosen[rng.choice(len(alike), p=weight / weight.sum())] += 1
    often = np.flatnonzero(chosen)
    places = [rng.choice(np.flatnonzero(counts == least + one), chosen[one], replace=False) for one in often]
    return np.concatenate(places)
