"""`Recording`: a log that others made, opened but not yet read, in its own units; what every importer hands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from innerworld.config import Config
from innerworld.data.store.store import About


class ImportConfig(Config):
    """What all importers understand; one with more to ask extends this."""

    size: int | None = Field(
        default=None, ge=1, description="side of the pictures in pixels, cut square and shrunk; null: as they are"
    )
    sensors: tuple[str, ...] | None = Field(default=None, description="sensors to keep; null: all")
    white: Literal[1, 255] = Field(default=255, description="what white is in pictures that are stored as floats")
    frame_skip: int = Field(default=1, ge=1, description="keep every k-th frame")
    actions: Literal["join", "sum"] = Field(
        default="join", description="what becomes of the k actions in between: one after another, or added up"
    )
    action_low: tuple[float, ...] | float | None = Field(
        default=None, description="what -1 is to stand for, one number or one per dimension; null: as the log says"
    )
    action_high: tuple[float, ...] | float | None = Field(default=None, description="what +1 is to stand for")
    limit: int | None = Field(default=None, ge=1, description="import no more than this many episodes; null: all")
    episode_gb: float = Field(
        default=4.0, gt=0, description="refuse an episode that says it has more gigabytes than this"
    )
    follow_links: bool = Field(default=False, description="follow links that leave the folder of the log")

    @property
    def most_bytes(self) -> int:
        """How much an episode may take in memory."""
        return int(self.episode_gb * 1e9)


@dataclass(frozen=True)
class Take:
    """One episode as the log holds it: `t+1` observations for `t` actions.

    Where the log has an action beside every observation, the last one goes with no outcome: the importer drops it.
    """

    obs: Mapping[str, np.ndarray]  # t+1 ...   uint8 images y x c, vectors of any number type
    action: np.ndarray | None  # t a in the log's units, t whole numbers where there are choices; None: video only
    reward: np.ndarray | None = None  # t
    terminated: np.ndarray | None = None  # t bool: the world ended (not: time ran out)
    seed: int | None = None


Bounds = tuple[np.ndarray, np.ndarray]
"""The smallest and the largest action, each `a`."""


@dataclass(frozen=True)
class Episode:
    """`read` may raise `UserError`: that episode alone is bad then. `name` is what errors call it."""

    name: str  # with the file that holds it
    read: Callable[[], Take]


@dataclass(frozen=True)
class Recording:
    """Opening checks what can be checked without reading everything; episodes are read one at a time."""

    about: About  # env, policy, fps (of the log, before frame_skip), source
    episodes: Sequence[Episode]
    choices: int | None = None  # actions are whole numbers below this
    bounds: Callable[[], Bounds] | None = None  # of all actions, where the log knows; None: they lie in [-1, 1]
