"""Any Gymnasium environment in the library's convention: a dict of images and vectors in, actions in [-1, 1] out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from innerworld.envs.actions import Actions
from innerworld.errors import UserError, nearest

if TYPE_CHECKING:  # types.py imports torch, which worlds that step in processes of their own do not need
    from innerworld.types import Spec

Sensors = dict[str, NDArray[Any]]
Source = spaces.Space | tuple[str, ...] | None
"""Where a sensor comes from: a space of the environment's own, vectors by their names to be joined, or a picture."""

CHANNELS = (1, 3, 4)


def adapt(
    env: gymnasium.Env,
    size: int = 64,
    sensors: Sequence[str] | None = None,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
) -> Adapted:
    """Wrap `env` so that models, planners and the agent understand it; see `Adapted`.

    `sensors` chooses and orders some of the sensors (by default all). Naming "pixels" asks for a rendered picture even
    where the environment shows images of its own; leaving it out saves the drawing. "state" may always be asked for:
    where there are several vectors it is all of them, joined in their order. `action_low`, `action_high` (numbers, or
    one per dimension) narrow the environment's own bounds, and are needed where it has none. Raises `UserError` for
    what has no place in the convention.
    """
    return Adapted(env, size, sensors, action_low, action_high)


class Adapted(gymnasium.Wrapper):
    """`env` with a `Dict` of sensors and, where it is continuous, the action space [-1, 1]^a.

    - `uint8` images (y, x, c) are resized to (size, size, c) by area averaging, whatever their proportions. The only
      one is called "pixels". Without any, the environment's `rgb_array` picture is "pixels".
    - Numbers become float32 vectors: the only ones are called "state", those of a `Dict` or `Tuple` go by their keys,
      joined by dots. `Discrete` observations are one-hot.
    - `Box` actions go from [-1, 1] to the environment's own bounds; `Discrete` ones pass unchanged.

    `metadata["frames_per_step"]` says how many frames of the world a step takes, 1 where the world does not say.
    Raises `UserError` for numbers that are not finite, for observations that are not what their space promises and for
    actions out of bounds: nothing is silently clipped.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        size: int = 64,
        sensors: Sequence[str] | None = None,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
    ) -> None:
        super().__init__(env)
        self.metadata = {"frames_per_step": 1, **env.metadata}
        self.size = size
        self._own = own = _leaves(env.observation_space)
        self._sources = _choose(own, _rendered(env, own, sensors), sensors)
        self.observation_space = spaces.Dict(
            {name: _space_of(name, source, own, size) for name, source in self._sources.items()}
        )
        self._actions = Actions.of(env.action_space, action_low, action_high)
        self.action_space = self._actions.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Sensors, dict[str, Any]]:
        answer = self.env.reset(seed=seed, options=options)
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise UserError(
                f"reset() of {self.env} must give (observation, info): is it made for gym before Gymnasium?"
            )
        obs, info = answer
        return self._sense(obs), info

    def step(self, action: Any) -> tuple[Sensors, float, bool, bool, dict[str, Any]]:
        answer = self.env.step(self._actions.to_env(action))
        if len(answer) != 5:
            raise UserError(
                f"step() of {self.env} gave {len(answer)} things, not (observation, reward, terminated, truncated, "
                "info): is it made for gym before Gymnasium?"
            )
        obs, given, terminated, truncated, info = answer
        return self._sense(obs), checked_reward(given), bool(terminated), bool(truncated), info

    def _sense(self, obs: Any) -> Sensors:
        values = _values(self.env.observation_space, obs)
        return {name: self._read(name, source, values) for name, source in self._sources.items()}

    def _read(self, name: str, source: Source, values: dict[str, Any]) -> NDArray[Any]:
        if source is None:
            return shrink(_picture(self.env), self.size)
        if isinstance(source, tuple):
            return np.concatenate([self._read(part, self._own[part], values) for part in source])
        if _is_image(source):
            return shrink(_with_channel(_checked_array(name, source, values[name])), self.size)
        vector = _numbers(name, source, values[name])
        if not np.all(np.isfinite(vector)):
            at = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise UserError(f"the environment gave sensor {name!r} the value {vector[at]} in dimension {at}")
        return vector


def checked_reward(given: Any) -> float:
    """The reward that an environment gave, as a number. Raises `UserError` if it is none, or not finite."""
    try:
        reward = float(np.asarray(given).item())
    except (TypeError, ValueError):
        raise UserError(f"the environment gave the reward {given!r}: rewards must be finite numbers") from None
    if not np.isfinite(reward):
        raise UserError(f"the environment gave the reward {reward}: rewards must be finite numbers")
    return reward


def spec_of(observation_space: spaces.Space, action_space: spaces.Space) -> Spec:
    """What a model must know of a world that follows the convention (for many at once: its `single_…` spaces)."""
    from innerworld.types import Spec

    if not isinstance(observation_space, spaces.Dict):
        raise UserError(
            f"a world's sensors are a Dict space, not {observation_space}: wrap it in innerworld.envs.adapt"
        )
    obs = {name: tuple(space.shape or ()) for name, space in observation_space.spaces.items()}
    if isinstance(action_space, spaces.Discrete):
        return Spec(obs, action=int(action_space.n), discrete=True)
    if isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        return Spec(obs, action=action_space.shape[0])
    raise UserError(f"a world's actions are Discrete or a Box with one axis, not {action_space}: wrap it in adapt")


def shrink(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture (y, x, c) → (size, size, c): each new pixel is the mean over the area that it covers."""
    if image.shape[:2] == (size, size):
        return image
    y, x, c = image.shape
    rows = _cover(y, size) @ image.reshape(y, x * c).astype(np.float32)  # size (x c)
    return np.rint(_cover(x, size) @ rows.reshape(size, x, c)).astype(np.uint8)  # size size c


@lru_cache
def _cover(old: int, new: int) -> NDArray[np.float32]:
    """Which part of each new pixel lies on each old one, along one axis: `new old`, every row sums to 1."""
    edges = np.linspace(0, old, new + 1)
    left = np.arange(old)
    overlap = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    return (np.clip(overlap, 0, None) * (new / old)).astype(np.float32)


# ---------------------------------------------------------------------- sensors


def _leaves(space: spaces.Space, prefix: str = "") -> dict[str, spaces.Space]:
    """The spaces at the ends of a nested one, by name."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return {
            name: leaf for key, child in _children(space) for name, leaf in _leaves(child, _join(prefix, key)).items()
        }
    return {prefix or ("pixels" if _is_image(space) else "state"): space}


def _values(space: spaces.Space, value: Any, prefix: str = "") -> dict[str, Any]:
    """The values that belong to `_leaves`, by the same names."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        parts = value if isinstance(space, spaces.Dict) else {str(i): part for i, part in enumerate(value)}
        for key, _ in _children(space):
            if key not in parts:
                raise UserError(f"the environment did not give sensor {_join(prefix, key)!r}, which its space promises")
        return {
            name: leaf
            for key, child in _children(space)
            for name, leaf in _values(child, parts[key], _join(prefix, key)).items()
        }
    return {prefix or ("pixels" if _is_image(space) else "state"): value}


def _children(space: spaces.Dict | spaces.Tuple) -> list[tuple[str, spaces.Space]]:
    if isinstance(space, spaces.Dict):
        return list(space.spaces.items())
    return [(str(i), child) for i, child in enumerate(space.spaces)]


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _rendered(env: gymnasium.Env, own: dict[str, spaces.Space], sensors: Sequence[str] | None) -> bool:
    """Is "pixels" a picture that the environment must be asked to draw?"""
    if "pixels" in own:
        return False
    asked = sensors is not None and "pixels" in sensors
    if asked and env.render_mode != "rgb_array":
        raise UserError(
            f'sensor "pixels" needs pictures, but {env} was made with render_mode={env.render_mode!r}: '
            'make it with render_mode="rgb_array"'
        )
    return asked or (env.render_mode == "rgb_array" and not any(map(_is_image, own.values())))


def _choose(own: dict[str, spaces.Space], rendered: bool, sensors: Sequence[str] | None) -> dict[str, Source]:
    """The sensors to give and where they come from."""
    sources: dict[str, Source] = {"pixels": None} if rendered else {}
    sources.update(own)
    if sensors is None:
        return sources
    vectors = tuple(name for name, space in own.items() if _is_numbers(space))
    if len(vectors) > 1 and "state" not in sources:
        sources["state"] = vectors
    for name in sensors:
        if name not in sources:
            raise UserError(f"no sensor {name!r} here.{nearest(name, list(sources))} There are: {', '.join(sources)}")
    return {name: sources[name] for name in sensors}


def _space_of(name: str, space: Source, own: dict[str, spaces.Space], size: int) -> spaces.Box:
    if space is None:
        return spaces.Box(0, 255, (size, size, 3), np.uint8)
    if isinstance(space, tuple):
        parts = [_space_of(part, own[part], own, size) for part in space]
        low, high = (np.concatenate(ends) for ends in zip(*((part.low, part.high) for part in parts), strict=True))
        return spaces.Box(low, high, dtype=np.float32)
    if isinstance(space, spaces.Box) and _is_image(space):
        channels = space.shape[2] if len(space.shape) == 3 else 1
        if channels not in CHANNELS:
            raise UserError(
                f"sensor {name!r} has the shape {space.shape}: an image is (y, x, c) with c in {CHANNELS}; "
                "choose other sensors, for example sensors=['pixels'] for a rendered picture"
            )
        return spaces.Box(0, 255, (size, size, channels), np.uint8)
    if _is_numbers(space):
        flat = spaces.flatten_space(space)
        assert isinstance(flat, spaces.Box)
        return spaces.Box(flat.low.astype(np.float32), flat.high.astype(np.float32), dtype=np.float32)
    raise UserError(
        f"sensor {name!r} is a {type(space).__name__} space, neither an image nor numbers: "
        "name the sensors you want, for example sensors=['pixels']"
    )


def _is_image(space: spaces.Space) -> bool:
    """Bytes with two axes (grey) or three are a picture; bytes in a row (an Atari's memory) are numbers."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _is_numbers(space: spaces.Space) -> bool:
    kinds = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    return isinstance(space, kinds) and not _is_image(space)


def _numbers(name: str, space: spaces.Space, value: Any) -> NDArray[np.float32]:
    if isinstance(space, spaces.Box):
        return _checked_array(name, space, value).astype(np.float32).reshape(-1)
    if not space.contains(value):
        raise UserError(f"the environment gave sensor {name!r} the value {value!r}, its space promises {space}")
    return np.asarray(spaces.flatten(space, value), np.float32)


def _checked_array(name: str, space: spaces.Space, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape != space.shape or (_is_image(space) and array.dtype != np.uint8):
        given, promised = f"{array.dtype} {array.shape}", f"{space.dtype} {space.shape}"
        raise UserError(f"the environment gave sensor {name!r} as {given}, its space promises {promised}")
    return array


def _with_channel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[..., None] if image.ndim == 2 else image


def _picture(env: gymnasium.Env) -> NDArray[np.uint8]:
    try:
        picture = np.asarray(env.render())
    except gymnasium.error.DependencyNotInstalled:
        raise UserError(
            'this environment draws with pygame: pip install "innerworld[envs]", or leave the pictures out with '
            "sensors=['state']"
        ) from None
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UserError(
            f"render() of {env} gave {picture.dtype} of shape {picture.shape}, not a uint8 picture (y, x, 3): "
            "leave it out with sensors=[…]"
        )
    return picture
