"""What planners share: the `Cost` they are given, the `Plan` they return, what a `Planner` is, and where it starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan.constraints import Constraint, free

Cost = Callable[[Tensor], Tensor]
"""How bad would that be? Candidate actions `b n h a` → `b n`, lower is better; NaN and infinity count as worst."""


@dataclass(frozen=True)
class Plan:
    """The answer of a planner, one row for each row of its start."""

    actions: Tensor  # b h a   in [-1, 1], or one-hot
    cost: Tensor  # b           the cost of `actions`
    history: Tensor  # b r      the best cost so far after each round
    evaluations: int  # candidates tried, for each row


class Planner(Config, ABC):
    """Search for the actions of least cost. Subclass once: a planner is one frozen leaf class in one file.

    A planner knows a cost, not a model, and keeps nothing between calls: a warm start is the argument `start`.
    """

    presets: ClassVar[dict[str, Planner]] = {}

    horizon: int = Field(default=8, ge=1, description="length of a plan, in steps")

    @abstractmethod
    def __call__(
        self,
        cost: Cost,
        start: Tensor,
        rng: Sequence[Generator],
        discrete: bool = False,
        constrain: Constraint = free,
    ) -> Plan:
        """Plan each row of `start` `b h a` with its own generator, so that a row's plan depends on that row alone.

        `start` is where the search begins: the mean of the actions (zeros are a cold start), or, when `discrete`, the
        probability of each choice (uniform is a cold start). Must not mutate `start`. Every candidate goes through
        `constrain` before its cost is asked, and so does the answer; choices know no constraints. Raises `UserError`
        for a start, a constraint or generators that do not fit, a cost of the wrong shape, and a row whose candidates
        all cost NaN or infinity.
        """


def generators(seed: int, b: int, device: torch.device | str = "cpu") -> list[Generator]:
    """One generator for each of `b` rows; row i is the same whatever `b` is."""
    seeds = torch.randint(2**62, (b,), generator=Generator().manual_seed(seed)).tolist()
    return [Generator(device).manual_seed(row) for row in seeds]


def cold(b: int, horizon: int, a: int, discrete: bool = False, device: torch.device | str = "cpu") -> Tensor:
    """A start that knows nothing, `b h a`: zeros, or equal probabilities when `discrete`."""
    return torch.full((b, horizon, a), 1 / a if discrete else 0.0, device=device)


def shift(actions: Tensor, steps: int = 1, discrete: bool = False, sure: float = 0.8) -> Tensor:
    """The start after executing `steps` of a plan `b h a`: the rest of it, its last action repeated.

    When `discrete`, the one-hot choices become probabilities: `sure` of each choice stays on it, the rest is shared by
    all, so that the next search may still change its mind. Raises `UserError` when `steps` is beyond the plan.
    """
    h = actions.shape[1]
    if not 0 <= steps <= h:
        raise UserError(f"cannot shift a plan of {h} steps by {steps}: choose 0 to {h}")
    rest = torch.cat([actions[:, steps:], actions[:, -1:].expand(-1, steps, -1)], dim=1)  # b h a
    return sure * rest + (1 - sure) / rest.shape[-1] if discrete else rest


def check_start(
    horizon: int, start: Tensor, rng: Sequence[Generator], discrete: bool, constrain: Constraint = free
) -> None:
    """Raise `UserError` unless `start` is `b h a` of valid actions (or probabilities) with a generator for each row,
    and `constrain` suits them."""
    if start.ndim != 3 or start.shape[1] != horizon:
        raise UserError(f"start has shape {tuple(start.shape)}, expected (b, {horizon}, a): the planner's horizon")
    if not start.shape[2]:
        raise UserError("there are no actions to plan: the model was taught from a video, or another log without any")
    if len(rng) != start.shape[0]:
        raise UserError(f"{len(rng)} generators for {start.shape[0]} rows: give one for each, see `generators`")
    if discrete and constrain is not free:
        raise UserError("choices cannot be constrained: limits are for continuous actions")
    if discrete and not _are_probabilities(start):
        raise UserError("start of a discrete plan must hold probabilities that sum to 1 over a: see `cold` and `shift`")
    if not discrete and not bool((start.abs() <= 1).all()):
        raise UserError("start must lie in [-1, 1] and be finite: clip it, or begin with `cold`")


def one_hot(choice: Tensor, a: int, like: Tensor) -> Tensor:
    """Indices `...` → one-hot `... a` in the dtype of `like`."""
    return F.one_hot(choice, a).to(like.dtype)


def _are_probabilities(start: Tensor) -> bool:
    return bool((start >= 0).all()) and bool(((start.sum(-1) - 1).abs() < 1e-3).all())
