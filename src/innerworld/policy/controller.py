"""`Controllers`: linear maps from what is believed to what is done, many at once (Ha & Schmidhuber 2018, § 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.types import Spec, State

Squash = Literal["tanh", "rest"]
"""How a number becomes one dimension of an action in [-1, 1]. "tanh": as it says. "rest": -1 as long as the number is
not positive, then up to 1, for what is not touched most of the time, such as CarRacing's brake, which the paper clips
to [0, 1] after tanh. Its gas, (tanh + 1) / 2, is "tanh" here, where 0 stands for half."""


@dataclass(frozen=True)
class Controllers:
    """n linear controllers side by side: a policy for rows of beliefs, the first b / n of which are the first's.

    Of discrete actions each takes the choice with the highest score.
    """

    weights: Tensor  # n ((d + 1) a)   bias last
    spec: Spec  # of the actions; those of a model that skips frames are blocks of `repeat` equal ones
    features: Callable[[State], Tensor]  # belief `b ...` → `b d`
    squash: tuple[Squash, ...] = ()  # of each dimension; none: tanh
    repeat: int = 1

    def __post_init__(self) -> None:
        check_squash(self.squash, self.spec, self.repeat)

    def __call__(self, state: State, rng: Generator | None = None) -> Tensor:
        """The action `b a`, as the model takes it; nothing is drawn."""
        return self.act(self.features(state)).repeat(1, self.repeat)

    def act(self, features: Tensor) -> Tensor:
        """The action `b a` as the environment takes it, of features `b d`."""
        n = len(self.weights)
        matrix = self.weights.unflatten(1, (features.shape[1] + 1, -1))  # n d+1 a
        rows = rearrange(features, "(n r) d -> n r d", n=n)
        score = torch.baddbmm(matrix[:, -1:], rows, matrix[:, :-1]).flatten(0, 1)  # b a
        if self.spec.discrete:
            return F.one_hot(score.argmax(dim=-1), score.shape[-1]).float()
        return _squashed(score.tanh(), self.squash)

    def only(self, rows: Tensor | slice) -> Controllers:
        """Some of them."""
        return Controllers(self.weights[rows], self.spec, self.features, self.squash, self.repeat)


def count(features: int, spec: Spec, repeat: int = 1) -> int:
    """The parameters of a controller that reads so many numbers: CarRacing's (32 + 256) · 3 + 3 = 867."""
    return (features + 1) * (spec.action // repeat)


def check_squash(squash: tuple[Squash, ...], spec: Spec, repeat: int = 1) -> None:
    """Raise `UserError` unless there is a squash for each dimension of the action, or none."""
    if repeat < 1 or spec.action % repeat or (spec.discrete and repeat > 1):
        raise UserError(f"repeat={repeat} does not fit actions of {spec.action} numbers: they are blocks of others")
    if not squash:
        return
    if spec.discrete:
        raise UserError("squash is for continuous actions, these are choices: leave it out")
    if len(squash) != spec.action // repeat:
        raise UserError(f"squash names {len(squash)} dimensions, an action has {spec.action // repeat}: name each")
    assert all(each in get_args(Squash) for each in squash), f"a squash is one of {get_args(Squash)}, got {squash}"


def _squashed(unit: Tensor, squash: tuple[Squash, ...]) -> Tensor:
    """`b a` in [-1, 1] → same."""
    if "rest" not in squash:
        return unit
    rests = torch.tensor([each == "rest" for each in squash], device=unit.device)
    return torch.where(rests, 2 * unit.clamp(min=0) - 1, unit)
