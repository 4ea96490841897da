"""An agent that reaches goals by imagining: believe, search, act, for many worlds at once."""

from __future__ import annotations

import logging
import time

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.agent.careful import Careful, Late
from innerworld.agent.cost import Shape, goal_cost
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import Plan, Planner, cold, generators, shift
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel

logger = logging.getLogger(__name__)


class AgentConfig(Config):
    shape: Shape = Field(default="mean", description="which imagined steps count: last, mean, or ramp (0.1 to 1)")
    power: float = Field(
        default=0.05, description="exponent of the energy in the cost: 1 as it is, near 0 least time", gt=0
    )
    every: int = Field(default=1, description="count every k-th imagined step only; saves where energy is dear", ge=1)
    execute: int = Field(default=1, description="steps of a plan that are executed before planning anew", ge=1)
    deadline_s: float | None = Field(
        default=None, description="longest that an answer may take, seconds; null: as long as the search wants", gt=0
    )


class Agent:
    """Perceives with the model, keeps the belief, plans toward a goal picture, acts; row i stands for world i.

    `again` is the planner for all plans but the first, which has a warm start and may search less; it must have the
    same horizon. What is seen is encoded once a step and a goal once an episode; all candidates of all worlds are one
    batch. Nothing here tracks gradients.

    It always has an answer: a row whose predictions are not finite, and every row when the search cannot end before the
    deadline, goes on with the last good plan, and stands still (a discrete one takes choice 0) when that is at its end.
    `degraded` says for which rows the last action is such a one.
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
        self._longest_s = 0.0  # of an evaluation of the cost
        self._warned = False

    @torch.no_grad()
    def begin(self, obs: Obs, goal: Obs, seed: int = 0, first: int = 0) -> None:
        """A new episode in every world: what is seen first and the goal, each `b ...`.

        `first` is the number of the first world among all that share `seed`, when others play the rest.
        """
        self.model.eval()
        self.state: State = self.model.encode(obs)
        self.goal: State = self.model.encode(goal)
        b = next(iter(obs.values())).shape[0]
        spec = self.model.spec
        self._start = cold(b, self.planner.horizon, spec.action, spec.discrete, next(iter(obs.values())).device)
        self._rng = generators(seed, first + b)[first:]
        self._ahead = self._still(cold(b, self.planner.horizon, spec.action, device=self._start.device))
        self._due = 0  # steps of it to be executed before planning anew
        self.degraded = torch.zeros(b, dtype=torch.bool, device=self._start.device)
        self._action: Tensor | None = None
        self._fresh = True

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        """The next action of every world, `b a`; `obs` is what is seen now (at first: what `begin` saw)."""
        began = time.perf_counter()
        if self._action is not None:
            self.state = self._believe(obs, self._action)
        if self._due == 0:
            self._think(began)
        self._action, rest = self._ahead[:, 0], self._ahead[:, 1:]
        self._ahead = torch.cat([rest, self._still(torch.zeros_like(self._action))[:, None]], dim=1)
        self._due -= 1
        return self._action

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (`rows`: indices); the others have reached their goal."""
        self.state, self.goal = each(lambda v: v[rows], self.state), each(lambda v: v[rows], self.goal)
        self._start = self._start[rows]
        self._rng: list[Generator] = [self._rng[int(i)] for i in rows]
        self._ahead, self.degraded = self._ahead[rows], self.degraded[rows]
        self._action = None if self._action is None else self._action[rows]

    def _believe(self, obs: Obs, action: Tensor) -> State:
        """What is believed now. A row whose belief is NaN begins anew with what it sees, or it stayed lost."""
        state = self.model.encode(obs, self.state, action)
        lost = torch.stack([value.isnan().reshape(len(value), -1).any(dim=1) for value in state.values()]).any(
            dim=0
        )  # b
        if not bool(lost.any()):
            return state
        anew = self.model.encode(obs)
        return {
            name: torch.where(lost.view(-1, *[1] * (value.ndim - 1)), anew[name], value)
            for name, value in state.items()
        }

    def _think(self, began: float) -> None:
        since = time.perf_counter()
        deadline = None if self.config.deadline_s is None else began + self.config.deadline_s
        cost = goal_cost(self.model, self.state, self.goal, self.config.shape, self.config.power, self.config.every)
        careful = Careful(cost, deadline, self._longest_s)
        try:
            planner = self.planner if self._fresh else self.again
            self.plan = planner(careful, self._start, self._rng, self.model.spec.discrete)
        except Late:
            self.degraded = torch.ones_like(self.degraded)
        else:
            actions, self.degraded = careful.lost(self.plan)
            self._ahead = torch.where(self.degraded[:, None, None], self._ahead, actions)
            self._fresh = False
        self._longest_s = careful.longest_s
        self._warn()
        self._due = self.config.execute
        self._start = shift(self._ahead, self.config.execute, self.model.spec.discrete)
        self.plan_ms.append((time.perf_counter() - since) * 1000 / len(self._rng))

    def _still(self, actions: Tensor) -> Tensor:
        """Actions `... a` that do as little as possible: zero, or choice 0."""
        still = torch.zeros_like(actions)
        if self.model.spec.discrete:
            still[..., 0] = 1
        return still

    def _warn(self) -> None:
        if not self._warned and bool(self.degraded.any()):
            self._warned = True
            logger.warning(
                "no plan for %d of %d worlds (predictions that are not finite, or the deadline): they go on with the "
                "last good plan, else stand still",
                int(self.degraded.sum()),
                len(self.degraded),
            )
