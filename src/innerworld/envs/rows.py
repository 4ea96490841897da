"""From one world to many and back: `Rows` steps single worlds one after another, `Single` is a vector of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from innerworld.errors import UserError


class Restorable(Protocol):
    """A Gymnasium environment with a `state` sensor, whose `reset` takes the option `state`: where to begin."""

    @property
    def observation_space(self) -> Any: ...
    @property
    def action_space(self) -> Any: ...

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]: ...
    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]: ...
    def render(self) -> Any: ...
    def close(self) -> None: ...
    def success(self, state: ArrayLike, goal: ArrayLike) -> NDArray[np.bool_]: ...


class Rows(VectorEnv):
    """Each row ends, and waits for `reset_mask`, as its world does.

    `reset` takes the options `reset_mask` (n booleans) and `state` (n k: where to begin). `name` stands in errors.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, name: str, worlds: Sequence[Restorable]) -> None:
        self.name, self.worlds = name, list(worlds)
        self.num_envs = len(self.worlds)
        self.render_mode = "rgb_array"
        self.single_observation_space: spaces.Dict = self.worlds[0].observation_space
        self.single_action_space = self.worlds[0].action_space
        self.observation_space: Any = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._last: list[dict[str, NDArray[Any]]] = [{} for _ in self.worlds]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin anew where `reset_mask` says (everywhere by default). An integer `seed` gives world i `seed + i`."""
        options = options or {}
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)), bool)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, (int, np.integer)) else seed
        states = None if "state" not in options else np.asarray(options["state"], np.float64)
        expected = self.observation_space["state"].shape
        if states is not None and states.shape != expected:
            raise UserError(f"{self.name}: option state has the shape {states.shape}, expected {expected}")
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(mask).tolist():
            self._last[i], info = self.worlds[i].reset(
                seed=None if seeds is None else seeds[i], options=None if states is None else {"state": states[i]}
            )
            infos = self._add_info(infos, info, i)
        if not all(self._last):
            raise UserError(f"{self.name}: begin all worlds once before you begin some of them anew")
        return self._observe(), infos

    def step(
        self, actions: ArrayLike
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise UserError(f"{self.name}: actions have the shape {actions.shape}, expected {self.action_space.shape}")
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        infos: dict[str, Any] = {}
        for i, (world, action) in enumerate(zip(self.worlds, actions, strict=True)):
            self._last[i], rewards[i], terminated[i], truncated[i], info = world.step(action)
            infos = self._add_info(infos, info, i)
        return self._observe(), rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        return tuple(world.render() for world in self.worlds)

    def success(self, state: ArrayLike, goal: ArrayLike) -> NDArray[np.bool_]:
        """Is a state a goal? `n k` and `n k` → n; what that means, each kind of world says."""
        return self.worlds[0].success(state, goal)

    def close_extras(self, **kwargs: Any) -> None:  # Gymnasium's signature
        for world in self.worlds:
            world.close()

    def _observe(self) -> dict[str, NDArray[Any]]:
        return {name: np.stack([obs[name] for obs in self._last]) for name in self.single_observation_space}


class Single(gymnasium.Env):
    """One world, as a plain Gymnasium environment: a vectorised one with a single row."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, worlds: VectorEnv, render_mode: str | None) -> None:
        self.worlds = worlds
        self.render_mode = render_mode
        self.observation_space = worlds.single_observation_space
        self.action_space = worlds.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        super().reset(seed=seed)
        obs, _ = self.worlds.reset(seed=seed, options=options)
        return {name: value[0] for name, value in obs.items()}, {}

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = self.worlds.step(np.asarray(action)[None])
        first = {name: value[0] for name, value in obs.items()}
        return first, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        pictures: Any = self.worlds.render()
        return pictures[0]


def begun_anew(
    rngs: list[np.random.Generator], seed: int | Sequence[int | None] | None, options: dict[str, Any]
) -> NDArray[np.int64]:
    """Which worlds a `reset` begins anew: those of `reset_mask`, or all. Their generators are seeded in place, an
    integer giving world i `seed + i`."""
    mask = np.asarray(options.get("reset_mask", np.ones(len(rngs), bool)), bool)
    seeds = [seed + i for i in range(len(rngs))] if isinstance(seed, (int, np.integer)) else seed or []
    for i, own in enumerate(seeds):
        if mask[i] and own is not None:
            rngs[i] = np.random.default_rng(own)
    return np.flatnonzero(mask)
