"""`Acting`: a taught policy in several worlds at once, as replay and evaluation want it: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor

from innerworld.agent import Reactor
from innerworld.data.stepping import Sensors
from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel


@runtime_checkable
class HasPolicy(Protocol):
    """What a family must have beside a world model's verbs to learn in a world."""

    beliefs: State | None
    """Those of its last loss, each `b t+1 ...`, without their gradients."""

    def policy(self, state: State, rng: Generator | None = None) -> Tensor:
        """An action `b a`: a draw, or without `rng` the most likely one."""
        ...


@runtime_checkable
class Dreams(Protocol):
    """A family that learns to act in what it imagines, and can say beforehand how much memory that takes."""

    def imagination(self, b: int, t: int) -> tuple[int, int, int]:
        """To learn from b clips of t actions: beliefs imagined from, steps, and bytes."""
        ...


class Acting:
    """Row i stands for world i. With `sample` actions are drawn, else they are the most likely ones.

    Raises `UserError` for a family that cannot learn in a world.
    """

    def __init__(self, model: Learns, sample: bool, seed: int = 0) -> None:
        self.model, policy = check_acts(model)
        self._reactor = Reactor(self.model, policy.policy, sample, seed)

    @property
    def belief(self) -> State:
        """What was believed when it acted last, `n ...`."""
        return self._reactor.state

    def act(self, obs: Sensors, first: np.ndarray) -> np.ndarray:
        """What to do, `n a`; what was before is forgotten where an episode begins (`first` `n` bool)."""
        seen = self._tensors(obs)
        if first.all():
            self._reactor.begin(seen)
        elif first.any():
            rows = torch.from_numpy(np.flatnonzero(first)).to(self.device)
            self._reactor.begin_rows(rows, each(lambda value: value[rows], seen))
        return self._reactor.act(seen).cpu().numpy()

    def did(self, action: np.ndarray) -> np.ndarray:
        """Somebody else chose this instead, `n a`."""
        self._reactor.action = torch.from_numpy(action).to(self.device)
        return action

    @torch.no_grad()
    def glance(self, obs: Sensors) -> State:
        """What would be believed after the last action: for sights after which nothing comes."""
        return self.model.encode(self._tensors(obs), self._reactor.state, self._reactor.action)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _tensors(self, obs: Sensors) -> Obs:
        """The sensors that the model sees."""
        return {name: torch.from_numpy(np.ascontiguousarray(obs[name])).to(self.device) for name in self.model.spec.obs}


def check_acts(model: Learns) -> tuple[WorldModel, HasPolicy]:
    """Raise `UserError` unless it can learn in a world: it restarts where episodes do, and has a policy."""
    if not isinstance(model, WorldModel) or not isinstance(model, HasPolicy) or not model.restarts:
        raise UserError(
            f"{type(model).__name__} has no policy to act with: only families that act, such as dreamer, learn in a "
            "world; others learn from a store (--data)"
        )
    return model, model


def to_numpy(state: State) -> Mapping[str, np.ndarray]:
    """Packed beliefs as a replay takes them."""
    return {name: value.numpy() for name, value in each(lambda value: value.detach().cpu(), state).items()}
