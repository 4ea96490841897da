"""`Fit`: what one `Take` of a log becomes in a store: sensors chosen, pictures cut and shrunk, actions in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from innerworld.data.importers.recording import Bounds, ImportConfig, Recording, Take
from innerworld.data.store.store import About
from innerworld.envs.adapter import shrink
from innerworld.errors import UserError, nearest
from innerworld.types import Clip, Spec

CHANNELS = (1, 3, 4)
OUTSIDE = 1e-6
"""How far an action may leave its bounds, as a part of them: a log that wrote them rounded."""


@dataclass(frozen=True)
class Fit:
    """The same for all episodes of an import. Calling it raises `UserError` for a take that cannot be fitted."""

    config: ImportConfig
    choices: int | None
    bounds: Bounds | None  # None: actions lie in [-1, 1] already

    @classmethod
    def to(cls, recording: Recording, config: ImportConfig) -> Fit:
        """As the configuration says, else as the log says. Raises `UserError` where the two do not go together."""
        given = _given_bounds(config)
        if recording.choices is not None:
            if given is not None:
                raise UserError("give either choices or action_low and action_high: a choice has no scale")
            if config.frame_skip > 1:
                raise UserError("frame_skip joins actions, which choices do not allow: use frame_skip=1")
            return cls(config, recording.choices, None)
        if given is None and recording.bounds is not None:
            given = recording.bounds()
        return cls(config, None, None if given is None else _widened(given))

    def __call__(self, take: Take) -> Clip:
        obs = {name: self._sensor(name, value) for name, value in self._chosen(take).items()}
        lengths = {name: len(value) for name, value in obs.items()}
        t = min(lengths.values()) - 1 if take.action is None else len(take.action)
        for name, length in lengths.items():
            if length != t + 1:
                raise UserError(f"sensor {name!r} has {length} rows, but there are {t} actions: expected {t + 1}")
        if t < 1:
            raise UserError(f"it has {t + 1} observations: at least 2 are needed")
        action = np.zeros((t, 0), np.float32) if take.action is None else self._action(take.action)
        reward = _row("reward", take.reward, t).astype(np.float64)
        terminated = _row("terminated", take.terminated, t)
        if not np.all(np.isfinite(reward)):
            raise UserError(f"reward is not finite at time step {int((~np.isfinite(reward)).argmax())}")
        return self._skip(obs, action, reward, terminated)

    def spec(self, clip: Clip) -> Spec:
        """The world as this episode shows it."""
        shapes = {name: tuple(value.shape[2:]) for name, value in clip.obs.items()}
        return Spec(shapes, clip.action.shape[2], self.choices is not None)

    def about(self, about: About, actions: int) -> About:
        """What is known of the log, and what was done to it; `actions` is the size of an action in the store."""
        k = self.config.frame_skip
        change: dict[str, object] = {}
        if self.bounds is not None and actions:
            low, high = (np.broadcast_to(bound, actions // self._joined()) for bound in self.bounds)
            times = k if self.config.actions == "sum" else 1
            change |= {"action_low": tuple((low * times).tolist()) * self._joined()}
            change |= {"action_high": tuple((high * times).tolist()) * self._joined()}
        if k > 1:
            change |= {"fps": None if about.fps is None else about.fps / k}
            change |= {"more": {**about.more, "frame_skip": k, "actions": self.config.actions}}
        return about.model_copy(update=change)

    def _joined(self) -> int:
        return self.config.frame_skip if self.config.actions == "join" else 1

    def _chosen(self, take: Take) -> dict[str, np.ndarray]:
        known = list(take.obs)
        for name in self.config.sensors or ():
            if name not in known:
                raise UserError(f"no sensor {name!r} here.{nearest(name, known)} There are: {', '.join(known)}")
        chosen = {name: take.obs[name] for name in self.config.sensors or known}
        if not chosen:
            raise UserError("it has no sensors")
        return chosen

    def _sensor(self, name: str, value: np.ndarray) -> np.ndarray:
        if value.dtype.kind not in "fiub":
            raise UserError(f"{name!r} is of type {value.dtype}, expected numbers")
        if value.ndim == 0:
            raise UserError(f"{name!r} is a single number, expected one row for each observation")
        if is_picture(value):
            return picture(name, value, self.config)
        flat = value.reshape(len(value), -1).astype(np.float32)
        good = np.isfinite(flat).all(1)
        if not good.all():
            raise UserError(f"sensor {name!r} is not finite at time step {int((~good).argmax())}")
        return flat

    def _action(self, action: np.ndarray) -> np.ndarray:
        """As the library wants them: float32 `t a` in [-1, 1], or one-hot."""
        if self.choices is not None:
            return _one_hot(action, self.choices)
        if action.dtype.kind not in "fiub":
            raise UserError(f"'action' is of type {action.dtype}, expected numbers")
        if action.ndim != 2 or not action.shape[1]:
            raise UserError(f"'action' has shape {action.shape}, expected (t, a)")
        value = action.astype(np.float64)
        good = np.isfinite(value).all(1)
        if not good.all():
            raise UserError(f"action is not finite at time step {int((~good).argmax())}")
        if self.bounds is not None:
            low, high = self.bounds
            if len(low) not in (1, value.shape[1]):
                raise UserError(f"'action' has {value.shape[1]} numbers, action_low has {len(low)}")
            if np.any(low != -1) or np.any(high != 1):  # what needs no scaling is kept to the last bit
                value = (value - low) / (high - low) * 2 - 1
        far = np.abs(value).max(1)
        if far.max() > 1 + OUTSIDE:
            step = int(far.argmax())
            outside = "[-1, 1]" if self.bounds is None else "its bounds"
            raise UserError(
                f"action at time step {step} leaves {outside}: {action[step].tolist()}; say what the bounds are "
                "with action_low and action_high"
            )
        return np.clip(value, -1, 1).astype(np.float32)

    def _skip(self, obs: dict[str, np.ndarray], action: np.ndarray, reward: np.ndarray, terminated: np.ndarray) -> Clip:
        """Every k-th observation, and what was done in between; a remainder at the end is left out."""
        k = self.config.frame_skip
        t = len(action) // k
        if t < 1:
            raise UserError(f"it has {len(action)} actions: frame_skip={k} needs at least {k}")
        blocks = action[: t * k].reshape(t, k, action.shape[1])
        # The sum of k actions lies between k times the bounds: their mean in [-1, 1].
        joined = blocks.mean(1) if self.config.actions == "sum" else blocks.reshape(t, k * action.shape[1])
        return Clip(
            {name: torch.from_numpy(np.require(v[: t * k + 1 : k], None, ("C", "W")))[None] for name, v in obs.items()},
            torch.from_numpy(np.require(joined, np.float32, ("C", "W")))[None],
            torch.from_numpy(reward[: t * k].reshape(t, k).sum(1).astype(np.float32))[None],
            torch.from_numpy(terminated[: t * k].reshape(t, k).any(1))[None],
        )


# ---------------------------------------------------------------------- pictures


def is_picture(value: np.ndarray) -> bool:
    """Whether rows are pictures: `t y x`, `t y x c` or `t c y x` of bytes, or of floats with their channels last."""
    if value.dtype == np.uint8:
        return value.ndim == 3 or (value.ndim == 4 and (value.shape[3] in CHANNELS or value.shape[1] in CHANNELS))
    return value.dtype.kind == "f" and value.ndim == 4 and value.shape[3] in CHANNELS


def picture(name: str, value: np.ndarray, config: ImportConfig) -> np.ndarray:
    """Pictures as `t y x c` bytes, cut to the square in their middle and shrunk by area when a size is asked for.

    Raises `UserError` for a size above their own: pictures are not enlarged, for that adds bytes and no information.
    """
    if value.dtype != np.uint8:
        value = _bytes(name, value, config.white)
    if value.ndim == 3:
        value = value[..., None]
    elif value.shape[3] not in CHANNELS:
        value = np.moveaxis(value, 1, 3)
    if config.size is None:
        return value
    side = min(value.shape[1:3])
    if config.size > side:
        raise UserError(f"size must be between 1 and the log's own {side}, got {config.size}: nothing is enlarged")
    top, left = (value.shape[1] - side) // 2, (value.shape[2] - side) // 2
    square = value[:, top : top + side, left : left + side]
    out = np.empty((len(value), config.size, config.size, value.shape[3]), np.uint8)
    for i, frame in enumerate(square):
        out[i] = shrink(np.ascontiguousarray(frame), config.size)
    return out


def _bytes(name: str, value: np.ndarray, white: int) -> np.ndarray:
    if not np.all((value >= 0) & (value <= white)):  # NaN is not, either
        raise UserError(f"{name} are not all between 0 and {white}, the white of pictures stored as floats (white=)")
    if white == 255 and 0 < value.max(initial=0) <= 1:
        raise UserError(f"{name} lie between 0 and 1: give white=1")
    return np.rint(value * (255 / white)).astype(np.uint8)


# ---------------------------------------------------------------------- actions


def _given_bounds(config: ImportConfig) -> Bounds | None:
    if config.action_low is None and config.action_high is None:
        return None
    if config.action_low is not None and config.action_high is not None:
        low, high = (np.atleast_1d(np.asarray(b, np.float64)) for b in (config.action_low, config.action_high))
        if len(low) == len(high) and len(low) and np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
            return low, high
    raise UserError(
        "action_low and action_high are needed together, low below high in every axis: "
        f"{config.action_low}, {config.action_high}"
    )


def _widened(bounds: Bounds) -> Bounds:
    """An axis that never moves gets bounds around its value, which is 0 then."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    still = high <= low
    around = np.maximum(1, 1e-6 * np.abs(low))  # next to a very large number 1 is nothing
    return np.where(still, low - around, low), np.where(still, low + around, high)


def _one_hot(action: np.ndarray, choices: int) -> np.ndarray:
    if action.ndim == 2 and action.shape[1] == 1:
        action = action[:, 0]
    if action.ndim != 1 or action.dtype.kind not in "iu":
        raise UserError(f"'action' has shape {action.shape} and type {action.dtype}, expected whole numbers (t)")
    if len(action) and not 0 <= action.min() <= action.max() < choices:
        raise UserError(f"'action' lies between {action.min()} and {action.max()}, expected 0 to {choices - 1}")
    return np.eye(choices, dtype=np.float32)[action]


def _row(name: str, value: np.ndarray | None, t: int) -> np.ndarray:
    if value is None:
        return np.zeros(t, np.float32 if name == "reward" else np.bool_)
    if value.shape != (t,):
        raise UserError(f"{name!r} has shape {value.shape}, but action has length {t}: expected ({t},)")
    if value.dtype.kind not in "fiub":
        raise UserError(f"{name!r} is of type {value.dtype}, expected numbers")
    return value if name == "reward" else value.astype(np.bool_)
