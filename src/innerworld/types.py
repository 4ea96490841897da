"""What flows through the library: `Obs`, `State`, `Clip`, and the `Spec` of a world.

The legend of axes, used in every shape comment and einops pattern:

    b batch    t time    n candidate plan    h horizon    a action    d latent
    g k categorical groups and classes       s token or patch         y x c image rows, columns, channels

Three conventions, each kept in one place:

- **Time is in the shape**: `obs` is one longer than `action`; `action[t]` takes `obs[t]` to `obs[t+1]`.
- **Images outside a model are `y x c`**, `uint8` when observed and float in [0, 1] when decoded; `nn/sensors.py` is the
  only file that turns them.
- **Actions are floats**: a continuous one lies in [-1, 1] (the border to an environment or a log scales it, see
  `envs/`), a discrete one is one-hot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from innerworld.errors import UserError, nearest

Obs = dict[str, Tensor]
"""One entry per sensor, each `b ...` (or `b t+1 ...` in a clip)."""

State = dict[str, Tensor]
"""A belief, each `b ...`; opaque outside the model that made it."""


@dataclass(frozen=True)
class Spec:
    """All that is needed to build a model for a world.

    `obs` gives each sensor's shape: three numbers `y x c` are a `uint8` image, one number a float vector, two `s d` the
    tokens that frozen eyes made of an image (half precision, see `models/tokens.py`).
    `action` is the size of an action: its dimensions, or the number of choices when `discrete`; 0 where nobody acts or
    it was not recorded, as in a video.
    """

    obs: dict[str, tuple[int, ...]]
    action: int
    discrete: bool = False

    def __post_init__(self) -> None:
        if not self.obs:
            raise UserError("a spec needs at least one sensor")
        if self.action < self.discrete:
            raise UserError(f"a spec needs an action size of at least {int(self.discrete)}, got {self.action}")
        for name, shape in self.obs.items():
            if len(shape) not in (1, 2, 3) or min(shape) < 1:
                raise UserError(f"sensor {name!r}: shape {shape} is neither an image (y, x, c) nor a vector (n,)")
            if len(shape) == 3 and shape[2] not in (1, 3, 4):
                raise UserError(f"sensor {name!r}: an image is (y, x, c) with c in 1, 3, 4; got {shape}")

    def only(self, *sensors: str) -> Spec:
        """The same world seen through some of its sensors. Raises `UserError` for a sensor it lacks."""
        for sensor in sensors:
            if sensor not in self.obs:
                known = list(self.obs)
                raise UserError(f"no sensor {sensor!r} here.{nearest(sensor, known)} There are: {', '.join(known)}")
        return replace(self, obs={name: self.obs[name] for name in sensors})

    def blank(self) -> Obs:
        """A sight (b = 1) of nothing, of the kinds that a model is shown: to ask what it makes of one."""
        kinds = {3: torch.uint8, 2: torch.float16, 1: torch.float32}
        return {name: torch.zeros(1, *shape, dtype=kinds[len(shape)]) for name, shape in self.obs.items()}

    def images(self) -> list[str]:
        return [name for name, shape in self.obs.items() if len(shape) == 3]

    def vectors(self) -> list[str]:
        return [name for name, shape in self.obs.items() if len(shape) == 1]


@dataclass(frozen=True)
class Clip:
    """`b` stretches of experience of one length; an episode is a `Clip` with b = 1. Shapes are checked when made.

    A clip lies within one episode and nothing is known of what was before. Only the replay of online training gives
    others: `first` marks where the next episode begins (the action before it means nothing, nor do reward and end; what
    was remembered is forgotten there), `past` is what was believed at time 0 as `WorldModel.packed`
    keeps it; what was seen then is not looked at again.
    """

    obs: Obs  # b t+1 ...   uint8 images y x c, float vectors
    action: Tensor  # b t a
    reward: Tensor  # b t
    terminated: Tensor  # b t         the world ended (not: time ran out)
    first: Tensor | None = None  # b t+1   an episode begins here; none: at most at time 0
    past: State | None = None  # b ...   what was believed at time 0, packed

    def __post_init__(self) -> None:
        if self.action.ndim != 3:
            raise UserError(f"clip: action has shape {tuple(self.action.shape)}, expected (b, t, a)")
        b, t = self.action.shape[:2]
        if not self.obs:
            raise UserError("clip: no sensor in obs")
        for name, value in self.obs.items():
            if value.ndim < 3 or tuple(value.shape[:2]) != (b, t + 1):
                raise UserError(
                    f"clip: sensor {name!r} has shape {tuple(value.shape)}, expected ({b}, {t + 1}, ...): "
                    "one observation more than actions"
                )
        for name in ("reward", "terminated"):
            shape = tuple(getattr(self, name).shape)
            if shape != (b, t):
                raise UserError(f"clip: {name} has shape {shape}, expected ({b}, {t})")
        if self.first is not None and tuple(self.first.shape) != (b, t + 1):
            raise UserError(f"clip: first has shape {tuple(self.first.shape)}, expected ({b}, {t + 1})")

    @property
    def length(self) -> int:
        """t, the number of actions."""
        return self.action.shape[1]

    def at(self, t: int) -> Obs:
        """The observation at time t: each `b ...`."""
        return {name: value[:, t] for name, value in self.obs.items()}

    def cut(self, start: int, length: int) -> Clip:
        """The stretch of `length` actions that begins at `start`."""
        if start < 0 or start + length > self.length:
            raise UserError(f"clip: cannot cut {length} actions from {start} out of {self.length}")
        stop = start + length
        return Clip(
            {name: value[:, start : stop + 1] for name, value in self.obs.items()},
            self.action[:, start:stop],
            self.reward[:, start:stop],
            self.terminated[:, start:stop],
            None if self.first is None else self.first[:, start : stop + 1],
            self.past if start == 0 else None,
        )

    def rows(self, index: Tensor | slice) -> Clip:
        """Some of the batch."""
        return self._each(lambda value: value[index])

    def to(self, device: torch.device | str) -> Clip:
        return self._each(lambda value: value.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Clip:
        return Clip(
            each(change, self.obs),
            change(self.action),
            change(self.reward),
            change(self.terminated),
            None if self.first is None else change(self.first),
            None if self.past is None else each(change, self.past),
        )


def each(change: Callable[[Tensor], Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Apply `change` to every tensor of a state or observation."""
    return {name: change(value) for name, value in tensors.items()}


def random_actions(spec: Spec, shape: tuple[int, ...], rng: Generator) -> Tensor:
    """Valid actions `... a` for `spec`, each independent of the others: uniform in [-1, 1], or one-hot."""
    if spec.discrete:
        return one_hot(torch.randint(spec.action, shape, generator=rng), spec.action).float()
    return torch.rand(*shape, spec.action, generator=rng) * 2 - 1
