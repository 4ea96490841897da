"""Resetting and stepping a vector of worlds, and what of them is refused: shared by all who act in worlds.

A vector is stepped as a whole; a world whose episode has ended waits until a reset with `reset_mask` begins the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from innerworld.errors import UserError
from innerworld.types import Spec

Sensors = Mapping[str, np.ndarray]
"""Each `n ...`."""


class Episode(Protocol):
    """What is told of an episode where something is wrong with it; one that is not `recorded` matters to nobody."""

    @property
    def number(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def recorded(self) -> bool: ...


def check_envs(envs: VectorEnv, spec: Spec, whose: str = "the spec") -> int:
    """Raise `UserError` unless `envs` shows and takes what `spec` says; return the number of the first choice.

    `whose` spec it is, is told where they differ.
    """
    if envs.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
        raise UserError("episodes are begun one by one: make the vector environment with AutoresetMode.DISABLED")
    seen, acted = envs.single_observation_space, envs.single_action_space
    if not isinstance(seen, spaces.Dict):
        raise UserError(
            f"a world shows a Dict of sensors, not a {type(seen).__name__}: wrap it with innerworld.envs.make"
        )
    shapes = {name: space.shape for name, space in seen.spaces.items()}
    if shapes != spec.obs:
        raise UserError(f"the environments show {shapes}, {whose} says {spec.obs}")
    if isinstance(acted, spaces.Discrete):
        given: tuple[int, bool] = int(acted.n), True
    elif isinstance(acted, spaces.Box) and len(acted.shape) == 1:
        given = acted.shape[0], False
    else:
        raise UserError(f"an action is a flat Box or Discrete, got {acted}: wrap it with innerworld.envs.make")
    if given != (spec.action, spec.discrete):
        raise UserError(f"the environments take {acted}, {whose} says {spec.action} (discrete: {spec.discrete})")
    return int(acted.start) if isinstance(acted, spaces.Discrete) else 0


def seeds_from(seed: int) -> int:
    """The seed of episode 0; that of episode k is k more.

    Below 2^31, because some environments hand their seed on to generators that take no more than 32 bits.
    """
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) >> 1


def reset(
    envs: VectorEnv,
    started: np.ndarray,
    seeds: Sequence[int],
    options: Mapping[str, Any] | None,
    episodes: Sequence[Episode],
) -> Sensors:
    """Begin anew where `started` (`n` bool) is true. Raises `UserError` when a world fails."""
    # A new dict each time, because Gymnasium takes the mask out of it.
    asked = {**(options or {}), "reset_mask": started.copy()}
    # Typed as one number in Gymnasium's base class; all vectors take one for each environment.
    chosen: Any = [seed if new else None for seed, new in zip(seeds, started, strict=True)]
    try:
        obs, _ = envs.reset(seed=chosen, options=asked)
    except Exception as error:
        raise _failed(error, "reset", episodes) from error
    return obs


def step(
    envs: VectorEnv, action: np.ndarray, episodes: Sequence[Episode]
) -> tuple[Sensors, np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """What Gymnasium's step gives, with the rows that were lost in the place of the info.

    Raises `UserError` when a world fails.
    """
    try:
        obs, reward, terminated, truncated, info = envs.step(action)
    except Exception as error:
        raise _failed(error, "step", episodes) from error
    return obs, reward, terminated, truncated, np.flatnonzero(info.get("lost", ())).tolist()


def _failed(error: Exception, verb: str, episodes: Sequence[Episode]) -> UserError:
    what = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    where = ", ".join(f"{each.number} (step {each.length})" for each in episodes if each.recorded)
    return UserError(f"the environment failed in {verb}, one of the episodes {where}: {kind}{what}")


def check_action(action: np.ndarray, spec: Spec, n: int) -> np.ndarray:
    """What the policy chose as float32 `n a`. Raises `UserError` if it is not an action."""
    action = np.asarray(action, np.float32)
    if action.shape != (n, spec.action):
        raise UserError(f"the policy gave actions of shape {action.shape}, expected ({n}, {spec.action})")
    if spec.discrete:
        if not (np.all((action == 0) | (action == 1)) and np.all(action.sum(1) == 1)):
            raise UserError("the policy gave an action that is not one-hot")
    elif not np.all(np.abs(action) <= 1 + 1e-6):
        raise UserError("the policy gave an action that is outside [-1, 1] or not a number")
    return action


def to_env(action: np.ndarray, spec: Spec, choices_from: int) -> np.ndarray:
    """The library's actions `n a` → the environments' own."""
    return action.argmax(1) + choices_from if spec.discrete else action


def check_obs(obs: Sensors, spec: Spec, episodes: Sequence[Episode]) -> None:
    """Raise `UserError` unless what is seen is what was promised, and finite where somebody looks."""
    if not isinstance(obs, Mapping) or obs.keys() != spec.obs.keys():
        raise UserError(f"the environment does not show the sensors {', '.join(spec.obs)} that its space promises")
    for sensor, shape in spec.obs.items():
        value = obs[sensor]
        if value.shape != (len(episodes), *shape):
            where = f"episode {episodes[0].number} step {episodes[0].length}"
            raise UserError(f"{where}: sensor {sensor!r} has shape {value.shape[1:]}, its space promises {shape}")
        if len(shape) == 3 and value.dtype != np.uint8:
            raise UserError(f"sensor {sensor!r} is an image, which is uint8; the environment gave {value.dtype}")
        if len(shape) == 1:
            _check_finite(np.asarray(np.isfinite(value).all(1)), f"sensor {sensor!r}", episodes)


def check_reward(reward: np.ndarray, episodes: Sequence[Episode]) -> None:
    """Raise `UserError` for a reward that is not finite, where somebody looks."""
    _check_finite(np.asarray(np.isfinite(reward)), "the reward", episodes)


def _check_finite(finite: np.ndarray, what: str, episodes: Sequence[Episode]) -> None:
    for row in np.flatnonzero(~finite).tolist():
        if episodes[row].recorded:
            raise UserError(f"episode {episodes[row].number} step {episodes[row].length}: {what} is not finite")
