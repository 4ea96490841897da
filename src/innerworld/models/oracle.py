"""The oracle: a simulator's true dynamics as a `WorldModel`, so that a planner's fault is never taken for a model's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

Dynamics = Callable[[Obs, Tensor], Obs]
"""Sensors `b ...` and actions `b a` → the same sensors one step later."""


class OracleConfig(Config):
    """The oracle has nothing to set."""


class Oracle(WorldModel):
    """The world itself. It reads what nobody else may: the simulator's state. It has nothing to learn."""

    Config = OracleConfig
    card = Card(name="oracle", predicts="state", decodes=True, backbone="the simulator", paper="-")

    def __init__(self, config: OracleConfig, spec: Spec, dynamics: Dynamics | None = None) -> None:
        super().__init__(config, spec)
        if dynamics is None:
            raise UserError("the oracle needs a world's true dynamics: Oracle(config, spec, dynamics)")
        self.dynamics = dynamics

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {name: obs[name].float() for name in self.spec.obs}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self.dynamics(state, action)

    def decode(self, state: State) -> dict[str, Tensor]:
        return dict(state)

    def energy(self, state: State, goal: State) -> Tensor:
        """Squared distance, summed over the sensors."""
        return torch.stack([(state[name] - goal[name]).square().sum(dim=-1) for name in state]).sum(dim=0)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of one step; zero but for rounding where the clip comes from the same world."""
        errors = []
        for t in range(clip.length):
            after = self.predict(self.encode(clip.at(t)), clip.action[:, t])
            errors.append(self.energy(after, self.encode(clip.at(t + 1))))
        error = torch.stack(errors).mean()
        return error, {"predict": error.detach()}
