"""`physics_2d` and `physics_3d`: possible films as a world in which nobody acts, to be collected like anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from innerworld.config import Config
from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.envs.physics.quadruplets import Sensors, film
from innerworld.envs.physics.scene import FRAMES, HIDDEN, SIDE, STATE
from innerworld.envs.rows import Single, begun_anew
from innerworld.errors import UserError, choose


class PhysicsConfig(Config):
    size: int = Field(default=64, description="side of the picture, pixels", ge=8)
    steps: int = Field(default=FRAMES - 1, description="truncates after so many steps", ge=1, le=FRAMES - 1)
    dimensions: Literal[2, 3] = Field(default=2, description="of the pictures; 3: drawn by MuJoCo (extra: mujoco)")
    principles: tuple[str, ...] = Field(default=tuple(PRINCIPLES), description="whose scenes are shown", min_length=1)


class PhysicsVector(VectorEnv):
    """Many films, shown beside each other. Each episode is a possible film of a scene of one of the principles.

    Actions have no dimensions. Sensors: `pixels` (y, x, 3) uint8; `state`, which tells all that decides what follows
    (`scene.STATE`), and `hidden`, what hides what (`scene.HIDDEN`): these two are for probes and the oracle.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    Config = PhysicsConfig

    def __init__(self, num_envs: int = 1, config: PhysicsConfig | None = None) -> None:
        self.config = config = config or PhysicsConfig()
        for principle in config.principles:
            choose("principle", principle, PRINCIPLES)
        self.num_envs, self.render_mode = num_envs, "rgb_array"
        reals = {name: spaces.Box(-_FAR, _FAR, (n,), np.float32) for name, n in _NUMBERS.items()}
        pixels = spaces.Box(0, 255, (config.size, config.size, 3), np.uint8)
        self.single_observation_space = spaces.Dict({"pixels": pixels, **reals})
        self.single_action_space = spaces.Box(-1, 1, (0,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._films: list[Sensors] = [{} for _ in range(num_envs)]
        self._time = np.zeros(num_envs, np.int64)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin new films where `reset_mask` says (everywhere by default). An integer `seed` gives film i `seed + i`.

        Raises `UserError` without pymunk, or in three dimensions MuJoCo.
        """
        for i in begun_anew(self._rngs, seed, options or {}):
            self._films[i] = film(self._rngs[i], self.config.size, self.config.principles, self.config.dimensions)
            self._time[i] = 0
        if not all(self._films):
            raise UserError("physics: begin all films once before you begin some of them anew")
        return self._observe(), {}

    def step(
        self, actions: ArrayLike
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """The next picture of every film; `actions` is `n 0`. One that has ended stays where it is."""
        if np.shape(actions) != (self.num_envs, 0):
            raise UserError(f"physics: nobody acts here, actions have shape ({self.num_envs}, 0)")
        self._time = np.minimum(self._time + 1, self.config.steps)
        nothing, never = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        return self._observe(), nothing, never, self._time >= self.config.steps, {}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        return tuple(self._observe()["pixels"])

    def _observe(self) -> dict[str, NDArray[Any]]:
        shown = list(zip(self._films, self._time, strict=True))
        return {name: np.stack([film[name][t] for film, t in shown]) for name in ("pixels", *_NUMBERS)}


class Physics(Single):
    """One film, as a plain Gymnasium environment."""

    Config = PhysicsConfig

    def __init__(self, config: PhysicsConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(PhysicsVector(1, config), render_mode)


_FAR = np.float32(4 * SIDE)  # beyond all places and ways of a film
_NUMBERS = {"state": len(STATE), "hidden": len(HIDDEN)}
