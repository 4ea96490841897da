"""Any Gymnasium environment in the library's convention: a dict of images and vectors in, actions in [-1, 1] out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from innerworld.errors import UserError, nearest

if TYPE_CHECKING:  # types.py imports torch, which worlds that step in processes of their own do not need
    from innerworld.types import Spec

Sensors = dict[str, NDArray[Any]]

TOLERANCE = 1e-6  # an action this far outside its bounds is rounding; farther is a mistake
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
    where the environment shows images of its own. `action_low`, `action_high` (numbers, or one per dimension) narrow
    the environment's own bounds, and are needed where it has none. Raises `UserError` for what has no place in the
    convention.
    """
    return Adapted(env, size, sensors, action_low, action_high)


class Adapted(gymnasium.Wrapper):
    """`env` with a `Dict` of sensors and, where it is continuous, the action space [-1, 1]^a.

    - `uint8` images (y, x, c) are resized to (size, size, c) by area averaging, whatever their proportions. The only
      one is called "pixels". Without any, the environment's `rgb_array` picture is "pixels".
    - Numbers become float32 vectors: the only ones are called "state", those of a `Dict` or `Tuple` go by their keys,
      joined by dots. `Discrete` observations are one-hot.
    - `Box` actions go from [-1, 1] to the environment's own bounds; `Discrete` ones pass unchanged.

    Raises `UserError` for numbers that are not finite and for actions out of bounds: nothing is silently clipped.
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
        self.size = size
        own = _leaves(env.observation_space)
        self._sources = _choose(own, _rendered(env, own, sensors), sensors)
        self.observation_space = spaces.Dict(
            {name: _space_of(name, space, size) for name, space in self._sources.items()}
        )
        self._actions = _Actions.of(env.action_space, action_low, action_high)
        self.action_space = self._actions.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Sensors, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._sense(obs), info

    def step(self, action: Any) -> tuple[Sensors, float, bool, bool, dict[str, Any]]:
        obs, given, terminated, truncated, info = self.env.step(self._actions.to_env(action))
        reward = float(given)
        if not np.isfinite(reward):
            raise UserError(f"the environment gave the reward {reward}: rewards must be finite numbers")
        return self._sense(obs), reward, bool(terminated), bool(truncated), info

    def _sense(self, obs: Any) -> Sensors:
        values = _values(self.env.observation_space, obs)
        return {name: self._read(name, space, values) for name, space in self._sources.items()}

    def _read(self, name: str, space: spaces.Space | None, values: dict[str, Any]) -> NDArray[Any]:
        if space is None:
            return shrink(_picture(self.env), self.size)
        if _is_image(space):
            return shrink(_with_channel(np.asarray(values[name])), self.size)
        vector = np.asarray(spaces.flatten(space, values[name]), np.float32)
        if not np.all(np.isfinite(vector)):
            at = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise UserError(f"the environment gave sensor {name!r} the value {vector[at]} in dimension {at}")
        return vector


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


def _choose(
    own: dict[str, spaces.Space], rendered: bool, sensors: Sequence[str] | None
) -> dict[str, spaces.Space | None]:
    """The sensors to give and the spaces they come from; None is a rendered picture."""
    sources: dict[str, spaces.Space | None] = {"pixels": None} if rendered else {}
    sources.update(own)
    if sensors is None:
        return sources
    for name in sensors:
        if name not in sources:
            raise UserError(f"no sensor {name!r} here.{nearest(name, list(sources))} There are: {', '.join(sources)}")
    return {name: sources[name] for name in sensors}


def _space_of(name: str, space: spaces.Space | None, size: int) -> spaces.Box:
    if space is None:
        return spaces.Box(0, 255, (size, size, 3), np.uint8)
    if isinstance(space, spaces.Box) and _is_image(space):
        channels = space.shape[2] if len(space.shape) == 3 else 1
        if channels not in CHANNELS:
            raise UserError(
                f"sensor {name!r} has the shape {space.shape}: an image is (y, x, c) with c in {CHANNELS}; "
                "choose other sensors, for example sensors=['pixels'] for a rendered picture"
            )
        return spaces.Box(0, 255, (size, size, channels), np.uint8)
    if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
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


def _with_channel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[..., None] if image.ndim == 2 else image


def _picture(env: gymnasium.Env) -> NDArray[np.uint8]:
    picture = np.asarray(env.render())
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UserError(
            f"render() of {env} gave {picture.dtype} of shape {picture.shape}, not a uint8 picture (y, x, 3): "
            "leave it out with sensors=[…]"
        )
    return picture


# ---------------------------------------------------------------------- actions


@dataclass(frozen=True)
class _Actions:
    """The way from the convention's actions to the environment's own."""

    own: spaces.Space
    space: spaces.Space
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, own: spaces.Space, low: ArrayLike | None, high: ArrayLike | None) -> _Actions:
        if isinstance(own, spaces.Discrete):
            if low is not None or high is not None:
                raise UserError(
                    "action_low and action_high are for continuous actions; this environment's are Discrete"
                )
            return cls(own, own, np.empty(0), np.empty(0))
        if not isinstance(own, spaces.Box) or not np.issubdtype(own.dtype, np.floating):
            raise UserError(
                f"the action space {own} is neither Discrete nor a Box of floats: wrap the environment first"
            )
        below, above = _bounds(own, low, high)
        return cls(own, spaces.Box(-1, 1, below.shape, np.float32), below, above)

    def to_env(self, action: Any) -> Any:
        if isinstance(self.own, spaces.Discrete):
            if not self.own.contains(action):
                raise UserError(f"action {action!r} is not one of the {self.own.n} choices of {self.own}")
            return action
        unit = np.asarray(action, np.float64)
        if unit.shape != self.low.shape:
            raise UserError(f"an action has the shape {unit.shape}, expected {self.low.shape}")
        check_unit(unit)
        value = self.low + (np.clip(unit, -1, 1) + 1) / 2 * (self.high - self.low)
        return value.reshape(self.own.shape or ()).astype(self.own.dtype)


def _bounds(
    own: spaces.Box, low: ArrayLike | None, high: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    own_low, own_high = own.low.reshape(-1).astype(np.float64), own.high.reshape(-1).astype(np.float64)
    try:
        below = own_low if low is None else np.broadcast_to(np.asarray(low, np.float64).reshape(-1), own_low.shape)
        above = own_high if high is None else np.broadcast_to(np.asarray(high, np.float64).reshape(-1), own_high.shape)
    except ValueError:
        raise UserError(f"action_low and action_high are one number or {own_low.size}, one per dimension") from None
    for i in range(own_low.size):
        if not (np.isfinite(below[i]) and np.isfinite(above[i])):
            raise UserError(
                f"action dimension {i} has no bounds ({below[i]} to {above[i]}): "
                "give them with action_low and action_high"
            )
        if not own_low[i] <= below[i] < above[i] <= own_high[i]:
            raise UserError(
                f"action dimension {i}: {below[i]} to {above[i]} is not a range within {own_low[i]} to {own_high[i]}; "
                "mend action_low or action_high"
            )
    return below, above


def check_unit(unit: NDArray[np.float64]) -> None:
    outside = np.flatnonzero(~(np.abs(unit) <= 1 + TOLERANCE))  # written so that NaN is outside, too
    if len(outside):
        i = int(outside[0])
        bound = -1 if unit[i] < 0 else 1
        raise UserError(f"action dimension {i} is {unit[i]:g}, its bound is {bound}: scale or clip actions to [-1, 1]")
