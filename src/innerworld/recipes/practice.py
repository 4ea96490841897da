"""A practice: one family that learns to act in one world, as one frozen value that is kept in `run.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from pydantic import Field

from innerworld import envs
from innerworld.config import Config, build
from innerworld.errors import UserError
from innerworld.recipes.whereabouts import found_from
from innerworld.training import TrainConfig
from innerworld.types import Spec

ROWS = 1_000_000
ROWS_OF_PICTURES = 100_000


class Online(Config):
    """The world, and how much is lived in it for what is learnt."""

    env: str = Field(default="CartPole-v1", description="the world, a name of `innerworld envs` or a Gymnasium id")
    sensors: tuple[str, ...] = Field(
        default=(), description="what the model sees; none: what the world itself shows, all images before vectors"
    )
    size: int = Field(default=64, description="side of the pictures, pixels", ge=1)
    max_steps: int | None = Field(
        default=None, description="longest episode, environment steps; null: the world's own", ge=1
    )
    action_repeat: int = Field(default=1, description="environment steps in an agent step", ge=1)
    envs: int = Field(default=1, description="worlds that are lived in side by side", ge=1)
    parallel: bool = Field(default=False, description="each world in a process of its own")
    timeout_s: float = Field(default=60.0, description="parallel: how long it may take to answer, seconds", gt=0)
    restarts: int = Field(default=3, description="parallel: how often each is begun again", ge=0)
    ratio: float = Field(
        default=128.0, description="agent steps that are replayed for each one that is lived: batch * length / it", gt=0
    )
    batch: int = Field(default=16, description="clips in an update", ge=1)
    length: int = Field(default=64, description="actions in a clip", ge=1)
    prefill: int = Field(
        default=1024,
        description="moments that are lived before the first update: agent steps, and last sights of episodes",
        ge=1,
    )
    prefill_by: Literal["uniform", "policy"] = Field(
        default="uniform", description="who acts then: everything equally likely, or the untaught policy"
    )
    capacity: int | None = Field(
        default=None,
        description="moments that the replay keeps; null: 1,000,000, with pictures 100,000, or all if they are fewer",
        ge=2,
    )
    sampling: Literal["uniform", "frequency"] = Field(
        default="uniform",
        description="clips that are learnt from: new ones once, then all alike; or the likelier the seldomer their"
        " beginning was drawn (DRAMA's dynamic frequency sampling)",
    )
    tau: float = Field(
        default=10.0, description="frequency: draws after which a beginning is e times less likely than a new one", gt=0
    )
    eval_every: int = Field(default=250, description="updates between two evaluations; 0: none", ge=0)
    eval_episodes: int = Field(default=10, description="episodes in an evaluation, as many worlds at most", ge=1)
    eval_sampled: bool = Field(default=False, description="evaluate with drawn actions, not the most likely ones")

    @property
    def rarity(self) -> float | None:
        """`tau` where clips are drawn by how often they were, else None."""
        return self.tau if self.sampling == "frequency" else None

    @property
    def steps_per_update(self) -> float:
        """Agent steps that are lived for one update."""
        return self.batch * self.length / self.ratio

    def make(self, n: int) -> VectorEnv:
        """`n` such worlds, that draw no picture which nobody looks at. Raises `UserError`."""
        return envs.make(
            self.env,
            n,
            self.size,
            max_steps=self.max_steps,
            sensors=None if self.env in envs.ENVS else self.seen(),
            parallel=self.parallel,
            timeout_s=self.timeout_s,
            restarts=self.restarts,
            action_repeat=self.action_repeat,
        )

    def seen(self) -> list[str]:
        """The sensors that the model sees. Raises `UserError`."""
        if self.sensors:
            return list(self.sensors)
        env = envs.make_one(self.env, self.size, max_steps=self.max_steps)
        try:
            return _own_sensors(env)
        finally:
            env.close()


class Practice(Config):
    """Who learns to act, where, and how."""

    family: str = Field(default="dreamer", description="name in the registry of world models")
    init_from: str = Field(default="", description="the run whose weights it begins with; empty: they are drawn")
    model: dict[str, Any] = Field(default={}, description="the family's configuration")
    online: Online = Field(default=Online(), description="the world")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")

    def capacity(self, spec: Spec) -> int:
        """How many moments the replay keeps: an episode has one more than actions."""
        online = self.online
        if online.capacity is not None:
            return online.capacity
        lived = online.prefill + round(self.train.steps * online.steps_per_update)
        least = 2 * online.envs * (online.length + 1)
        return min(ROWS_OF_PICTURES if spec.images() else ROWS, lived + lived // 8 + least)


def is_practice(folder: Path | str) -> bool:
    """Was what is in this folder taught in a world, not from a store?"""
    return "practice" in _values(Path(folder) / "run.json")


def read_practice(folder: Path | str) -> Practice:
    """The practice that a run's folder holds. Raises `UserError` when it holds none."""
    path = Path(folder) / "run.json"
    if not path.exists():
        raise UserError(f"{folder} holds no run: there is no {path.name} in it")
    values = _values(path)
    if "practice" not in values:
        raise UserError(f"{folder} is no run that learnt in a world: there is no practice in its run.json")
    return found_from(build(Practice, values["practice"], str(path)), path.parent)


def _values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"cannot read {path}: it is not a JSON object")
    return values


def _own_sensors(env: gymnasium.Env) -> list[str]:
    """Images where the world shows some, else vectors; a picture that must be drawn, where there is nothing else."""
    spec = envs.spec_of(env.observation_space, env.action_space)
    shown = env.env.observation_space if isinstance(env, envs.Adapted) else env.observation_space
    return spec.images() if _has_image(shown) else spec.vectors() or spec.images()


def _has_image(space: spaces.Space) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_image, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_has_image, space.spaces))
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)
