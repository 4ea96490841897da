"""`Questions`: what a world of memory asks of one who was shown episodes, each with its possible answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER = -1
"""The lag of what had never been shown."""


@dataclass(frozen=True)
class Questions:
    """q questions about what a sensor shows in `n` episodes, at a time when whoever answers does not see.

    A question concerns some of the sensor's numbers, for a picture its pixels' channels as uint8: they are as one of k
    candidates says, and which one follows from what was shown `lag` steps before.
    """

    sensor: str
    row: NDArray[np.int64]  # q       which episode
    time: NDArray[np.int64]  # q      steps from the episode's beginning
    lag: NDArray[np.int64]  # q       steps since what answers it was seen last; NEVER: it was not
    where: NDArray[np.int64]  # q m   of the flat sensor
    candidates: NDArray[Any]  # q k m
    answer: NDArray[np.int64]  # q    of the k
    ceiling: NDArray[np.float64]  # q  chance to be right of who forgets nothing

    @property
    def floor(self) -> float:
        """Chance to be right of who remembers nothing: candidates are equally likely."""
        return 1 / self.candidates.shape[1]

    def __len__(self) -> int:
        return len(self.row)
