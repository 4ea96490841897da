"""`Levels`: sub-goals from a slow level that says where to be next; the plan says how (HWM, arXiv 2604.03208)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.agent.actor.careful import Careful
from innerworld.agent.cost.cost import Shape, goal_cost
from innerworld.agent.energies import to_goal
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import Planner, cold, generators
from innerworld.types import State
from innerworld.world import WorldModel


@runtime_checkable
class TwoLevels(Protocol):
    """A world model that has another one `above` it: the same latents `z`, but each of its actions is many of these."""

    above: WorldModel


class UpperConfig(Config):
    shape: Shape = Field(default="mean", description="which latents foreseen above count: last, mean, or ramp")
    power: float = Field(default=0.05, description="exponent of the energy in the upper cost", gt=0)
    effort: float = Field(default=0.0, description="weight of the macro-actions' mean square in the upper cost", ge=0)


class Levels:
    """Before each plan search macro-actions towards the goal with the model's `above`; the first latent that they lead
    to is what the plan pursues, unless the goal itself is nearer, or the first macro-action comes as near to it as any.

    The upper search begins where its last one ended, and no deadline bounds it. The horizon of `planner` counts
    macro-actions, that of the agent's own should be one macro-action at least.
    """

    def __init__(self, planner: Planner, config: UpperConfig = UpperConfig()) -> None:
        self.planner, self.config = planner, config

    def begin(self, model: WorldModel, state: State, seed: int, first: int) -> None:
        if not isinstance(model, TwoLevels):
            raise UserError(f"{model.card.name} has no level above to plan with: teach an hjepa, or leave Levels out")
        self.above = model.above
        b = len(state["z"])
        self._start = cold(b, self.planner.horizon, self.above.spec.action, device=state["z"].device)
        self._rng: list[Generator] = generators(seed + 1, first + b)[first:]

    def aim(self, state: State, goal: State) -> State:
        """The first latent on the way, or the goal, `b ...`."""
        upper = self.config
        here, there = {"z": state["z"]}, {"z": goal["z"]}
        far = goal_cost(self.above, here, there, upper.shape, upper.power)

        def cost(codes: Tensor) -> Tensor:
            return far(codes) + upper.effort * codes.square().mean(dim=(-1, -2))

        plan = self.planner(Careful(cost, None), self._start, self._rng)  # a row that is lost must not stop the others
        self._start = plan.actions
        way = self.above.imagine(here, plan.actions[:, None])["z"][:, 0]  # b h d
        next, left = way[:, 0], to_goal(self.above, {"z": way}, {"z": goal["z"]}, 2)
        arrives = left.argmin(dim=1) == 0  # no later macro-action comes nearer than the first
        nearer = self.above.energy(here, there) <= self.above.energy(here, {"z": next})
        return goal | {"z": torch.where((arrives | nearer)[:, None], goal["z"], next)}

    def refresh(self, model: WorldModel) -> None:
        """Nothing to do: the macro-actions where the next search begins are no beliefs."""

    def keep(self, rows: Tensor) -> None:
        self._start = self._start[rows]
        self._rng = [self._rng[int(i)] for i in rows]
