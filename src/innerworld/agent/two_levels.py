"""An agent on two levels: the upper search says where to be next, the lower one how to get there (HWM, 2604.03208)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from innerworld.agent.agent import Agent, AgentConfig
from innerworld.agent.cost import Shape, goal_cost
from innerworld.config import Config
from innerworld.plan import Planner, cold, generators
from innerworld.types import Obs, State
from innerworld.world import WorldModel


@runtime_checkable
class TwoLevels(Protocol):
    """A world model that has another one `above` it: the same latents `z`, but each of its actions is many of these."""

    above: WorldModel


class UpperConfig(Config):
    shape: Shape = Field(default="mean", description="which latents foreseen above count: last, mean, or ramp")
    power: float = Field(default=0.05, description="exponent of the energy in the upper cost", gt=0)
    effort: float = Field(default=0.0, description="weight of the macro-actions' mean square in the upper cost", ge=0)


class TwoLevelAgent(Agent):
    """Before each plan it searches macro-actions towards the goal with `above`; the first latent that they lead to is
    what the plan pursues, unless the goal itself is nearer, or the first macro-action comes as near to it as any.

    The upper search begins where its last one ended, and `deadline_s` bounds the lower one only. The horizon of `above`
    counts macro-actions, that of `planner` should be one macro-action at least.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: Planner,
        above: Planner,
        config: AgentConfig = AgentConfig(),
        upper: UpperConfig = UpperConfig(),
        again: Planner | None = None,
        block: int = 1,
    ) -> None:
        super().__init__(model, planner, config, again, block)
        assert isinstance(model, TwoLevels), "the caller asked whether it has two levels"
        self.above, self.upper = model.above, upper
        self._search = above

    @torch.no_grad()
    def begin(self, obs: Obs, goal: Obs, seed: int = 0, first: int = 0, via: Sequence[Obs] = ()) -> None:
        super().begin(obs, goal, seed, first, via)
        b = len(self._rng)
        self._upper_start = cold(b, self._search.horizon, self.above.spec.action, device=self._start.device)
        self._upper_rng = generators(seed + 1, first + b)[first:]

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self._upper_start = self._upper_start[rows]
        self._upper_rng = [self._upper_rng[int(i)] for i in rows]

    def _aim(self) -> State:
        goal, upper = self._route.goal, self.upper
        here, there = {"z": self.state["z"]}, {"z": goal["z"]}
        far = goal_cost(self.above, here, there, upper.shape, upper.power)

        def cost(codes: Tensor) -> Tensor:
            return far(codes) + upper.effort * codes.square().mean(dim=(-1, -2))

        plan = self._search(cost, self._upper_start, self._upper_rng)
        self._upper_start = plan.actions
        way = self.above.imagine(here, plan.actions[:, None])["z"][:, 0]  # b h d
        next, left = way[:, 0], self._away(way, goal["z"])
        arrives = left.argmin(dim=1) == 0  # no later macro-action comes nearer than the first
        nearer = self.above.energy(here, there) <= self.above.energy(here, {"z": next})
        return goal | {"z": torch.where((arrives | nearer)[:, None], goal["z"], next)}

    def _away(self, way: Tensor, goal: Tensor) -> Tensor:
        """Energies to the goal `b d` along a way `b h d`: `b h`."""
        goals = goal[:, None].expand_as(way)
        return self.above.energy({"z": way.flatten(0, 1)}, {"z": goals.flatten(0, 1)}).unflatten(0, way.shape[:2])
