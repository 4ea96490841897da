"""An agent that reaches goals by imagining: believe, search, act, for many worlds at once."""

from __future__ import annotations

import time

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.agent.cost import Shape, goal_cost
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import Plan, Planner, cold, generators, shift
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel


class AgentConfig(Config):
    shape: Shape = Field(default="mean", description="which imagined steps count: last, mean, or ramp (0.1 to 1)")
    power: float = Field(
        default=0.05, description="exponent of the energy in the cost: 1 as it is, near 0 least time", gt=0
    )
    every: int = Field(default=1, description="count every k-th imagined step only; saves where energy is dear", ge=1)
    execute: int = Field(default=1, description="steps of a plan that are executed before planning anew", ge=1)


class Agent:
    """Perceives with the model, keeps the belief, plans toward a goal picture, acts; row i stands for world i.

    `again` is the planner for all plans but the first, which has a warm start and may search less; it must have the
    same horizon. What is seen is encoded once a step and a goal once an episode; all candidates of all worlds are one
    batch. Nothing here tracks gradients.
    """

    def __init__(
        self, model: WorldModel, planner: Planner, config: AgentConfig = AgentConfig(), again: Planner | None = None
    ) -> None:
        self.again = again or planner
        if self.again.horizon != planner.horizon:
            raise UserError(f"the planners' horizons differ: {planner.horizon} and {self.again.horizon}")
        for name, steps in (("execute", config.execute), ("every", config.every)):
            if steps > planner.horizon:
                raise UserError(f"{name}={steps} is beyond the plan's {planner.horizon} steps")
        self.model, self.planner, self.config = model, planner, config
        self.plan_ms: list[float] = []
        self.plan: Plan | None = None

    @torch.no_grad()
    def begin(self, obs: Obs, goal: Obs, seed: int = 0) -> None:
        """A new episode in every world: what is seen first and the goal, each `b ...`."""
        self.model.eval()
        self.state: State = self.model.encode(obs)
        self.goal: State = self.model.encode(goal)
        b = next(iter(obs.values())).shape[0]
        spec = self.model.spec
        self._start = cold(b, self.planner.horizon, spec.action, spec.discrete, next(iter(obs.values())).device)
        self._rng = generators(seed, b)
        self._queue: list[Tensor] = []
        self._action: Tensor | None = None
        self._fresh = True

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        """The next action of every world, `b a`; `obs` is what is seen now (at first: what `begin` saw)."""
        if self._action is not None:
            self.state = self.model.encode(obs, self.state, self._action)
        if not self._queue:
            self._think()
        self._action = self._queue.pop(0)
        return self._action

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (`rows`: indices); the others have reached their goal."""
        self.state, self.goal = each(lambda v: v[rows], self.state), each(lambda v: v[rows], self.goal)
        self._start = self._start[rows]
        self._rng: list[Generator] = [self._rng[int(i)] for i in rows]
        self._queue = [action[rows] for action in self._queue]
        self._action = None if self._action is None else self._action[rows]

    def _think(self) -> None:
        began = time.perf_counter()
        cost = goal_cost(self.model, self.state, self.goal, self.config.shape, self.config.power, self.config.every)
        planner = self.planner if self._fresh else self.again
        self.plan = planner(cost, self._start, self._rng, self.model.spec.discrete)
        self._queue = list(self.plan.actions[:, : self.config.execute].unbind(dim=1))
        self._start = shift(self.plan.actions, self.config.execute, self.model.spec.discrete)
        self._fresh = False
        self.plan_ms.append((time.perf_counter() - began) * 1000 / len(self._rng))
