"""`Goals`: for each clip of a batch something to be reached, seen later in its own episode or elsewhere (hindsight)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from innerworld.data.clips.sampler import Places, Sampler, random_state
from innerworld.errors import UserError, choose
from innerworld.types import Obs

ELSEWHERE = -1
"""How far away a goal is that was not seen in the same episode."""

KINDS = {"near": 0, "future": 1, "final": 2, "random": 3}


class Goals:
    """Goals for the clips of a sampler: `goals.batch(step)` belongs to `clips.batch(step)`, row by row.

    Kinds, one for all or shares of several (`{"future": 0.7, "random": 0.3}`), are counted from a clip's last
    observation, which is the nearest goal there is, in actions of a clip:

    - `near`: a geometric number on, `mean` on average, as a discount of mean / (mean + 1) weighs them
      (Eysenbach et al., arXiv 2206.07568); the episode's last if it ends before
    - `future`: any number on within the episode, all equally likely (Andrychowicz et al., arXiv 1707.01495)
    - `final`: the episode's last observation
    - `random`: any observation of the episode of another clip in the batch: mostly out of reach
    """

    def __init__(
        self, clips: Sampler, kind: str | Mapping[str, float] = "near", mean: float = 20.0, seed: int = 0
    ) -> None:
        shares = {kind: 1.0} if isinstance(kind, str) else dict(kind)
        for name in shares:
            choose("kind of goal", name, KINDS)
        if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0 or mean < 0:
            raise UserError(f"goals need shares of at least 0, one above it, and a mean of at least 0, got {shares}")
        self.clips = clips
        self.mean = mean
        self.seed = seed
        self._kinds = np.array([KINDS[name] for name in shares])
        self._shares = np.array(list(shares.values())) / sum(shares.values())

    def batch(self, step: int) -> tuple[Obs, torch.Tensor]:
        """Observations, `b ...` each, and `b` ints: how many actions after the clip's end they were seen (0: it ends
        there; `ELSEWHERE` for `random`). Always the same for one step.
        """
        return self.rows(step, 0, self.clips.size)

    def rows(self, step: int, start: int, stop: int) -> tuple[Obs, torch.Tensor]:
        """Some of `batch(step)`, nothing else read."""
        places, steps = self._choose(step)
        part = places.cut(start, stop)
        out: Obs = {}
        for i in np.unique(part.source).tolist():
            rows = np.flatnonzero(part.source == i)
            for sensor, seen in self.clips.cutters[i].frames(part.episode[rows], part.start[rows]).items():
                value = torch.from_numpy(seen)
                if sensor not in out:
                    out[sensor] = value.new_empty((stop - start, *value.shape[1:]))
                out[sensor][torch.from_numpy(rows)] = value
        return out, torch.from_numpy(steps[start:stop])

    def _choose(self, step: int) -> tuple[Places, np.ndarray]:
        """Where the goals of a whole batch are, and how far."""
        clips = self.clips.places(step)
        b = len(clips.episode)
        rng = random_state(self.seed, step, 3)
        kind = rng.choice(self._kinds, b, p=self._shares)
        near, part = rng.geometric(1 / (self.mean + 1), b) - 1, rng.random(b)
        other = (np.arange(b) + rng.integers(1, max(2, b))) % b  # another row for each, unless there is but one

        skip = self.clips.cutters[0].frame_skip
        last = clips.start + self.clips.cutters[0].span  # b
        length = self._lengths(clips)  # b
        left = (length - last) // skip  # b   actions that the episode has after the clip
        steps = np.where(kind == KINDS["near"], np.minimum(near, left), left)
        steps = np.where(kind == KINDS["future"], (part * (left + 1)).astype(np.int64), steps)
        at = np.where(kind == KINDS["final"], length, last + steps * skip)

        stranger = kind == KINDS["random"]
        places = Places(
            np.where(stranger, clips.source[other], clips.source),
            np.where(stranger, clips.episode[other], clips.episode),
            np.where(stranger, (part * (length[other] + 1)).astype(np.int64), at),
        )
        return places, np.where(stranger, ELSEWHERE, steps)

    def _lengths(self, places: Places) -> np.ndarray:
        lengths = np.empty_like(places.episode)
        for i in np.unique(places.source).tolist():
            rows = places.source == i
            lengths[rows] = self.clips.cutters[i].store.lengths[places.episode[rows]]
        return lengths
