"""An agent that reaches goals by imagining: believe, search, act, for many worlds at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.agent.careful import Careful, Late
from innerworld.agent.cost import Shape, goal_cost
from innerworld.agent.route import Route
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import Limits, Plan, Planner, cold, generators, shift
from innerworld.plan.constraints import each_step
from innerworld.types import Obs, Spec, State, each
from innerworld.world import WorldModel, choose_rows

logger = logging.getLogger(__name__)


class AgentConfig(Config):
    shape: Shape = Field(default="mean", description="which imagined steps count: last, mean, or ramp (0.1 to 1)")
    power: float = Field(
        default=0.05, description="exponent of the energy in the cost: 1 as it is, near 0 least time", gt=0
    )
    every: int = Field(default=1, description="count every k-th imagined step only; saves where energy is dear", ge=1)
    execute: int = Field(default=1, description="steps of a plan that are executed before planning anew", ge=1)
    limits: Limits = Field(default=Limits(), description="what a robot may be told beside [-1, 1]; continuous only")
    via_steps: tuple[int, ...] = Field(
        default=(), description="steps for each goal on the way before going on to the next, environment steps"
    )
    via_energy: float | None = Field(
        default=None, description="energy to a goal on the way below which to go on to the next; null: none", gt=0
    )
    deadline_s: float | None = Field(
        default=None, description="longest that an answer may take, seconds; null: as long as the search wants", gt=0
    )


class Agent:
    """Perceives with the model, keeps the belief, plans toward a goal picture, acts; row i stands for world i.

    `again` is the planner for all plans but the first, which has a warm start and may search less; it must have the
    same horizon. What is seen is encoded once a step and a goal once an episode; all candidates of all worlds are one
    batch. Nothing here tracks gradients.

    A model that was taught with frames skipped takes a `block` of that many actions as one (see `data.Clips`). Then the
    agent plans in blocks, does their actions one by one, and looks and believes once a block: plans, `execute` and the
    planner's horizon count blocks.

    It always has an answer: a row whose predictions are not finite, and every row when the search cannot end before the
    deadline, goes on with the last good plan, and stands still (a discrete one takes choice 0) when that is at its end.
    `degraded` says for which rows the last action is such a one. `closest` tells how near each row came to its goal:
    1 where it never came nearer than it was, as for a goal that cannot be reached.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: Planner,
        config: AgentConfig = AgentConfig(),
        again: Planner | None = None,
        block: int = 1,
    ) -> None:
        self.again = again or planner
        if self.again.horizon != planner.horizon:
            raise UserError(f"the planners' horizons differ: {planner.horizon} and {self.again.horizon}")
        for name, steps in (("execute", config.execute), ("every", config.every)):
            if steps > planner.horizon:
                raise UserError(f"{name}={steps} is beyond the plan's {planner.horizon} steps")
        self.model, self.planner, self.config, self.block = model, planner, config, block
        self.action = _primitive(model.spec, block)  # size of an action, as the environment takes it
        config.limits.check(self.action)
        self._constrain = each_step(config.limits.constraint(), block)
        self._finish = each_step(config.limits.finish(), block)
        self.plan_ms: list[float] = []
        self.plan: Plan | None = None
        self._longest_s = 0.0  # of an evaluation of the cost
        self._warned = False

    @torch.no_grad()
    def begin(self, obs: Obs, goal: Obs, seed: int = 0, first: int = 0, via: Sequence[Obs] = ()) -> None:
        """A new episode in every world: what is seen first and the goal, each `b ...`.

        `via` are goals on the way, each `b ...`, pursued one after another before the last (V-JEPA 2-AC's sub-goals);
        `AgentConfig.via_steps` and `via_energy` say when to go on. `first` is the number of the first world among all
        that share `seed`, when others play the rest. Raises `UserError` for what the model's eyes do not fit.
        """
        b, spec = next(iter(obs.values())).shape[0], self.model.spec
        for what, seen in (("what is seen", obs), ("the goal", goal), *(("a goal on the way", g) for g in via)):
            _check_sight(spec, seen, b, what)
        self.model.eval()
        self.state: State = self.model.encode(obs)
        goals = [self.model.encode(each_goal) for each_goal in (*via, goal)]
        self._route = Route(goals, self.config.via_steps if via else (), self.config.via_energy)
        self.goal: State = self._route.goal
        self._start = cold(b, self.planner.horizon, spec.action, spec.discrete, next(iter(obs.values())).device)
        self._rng = generators(seed, first + b)[first:]
        self._ahead = self._still(cold(b, self.planner.horizon, spec.action, device=self._start.device))
        self._due = 0  # steps of it to be executed before planning anew
        self.degraded = torch.zeros(b, dtype=torch.bool, device=self._start.device)
        self._action: Tensor | None = None  # b (k a)   the block that is being done
        self._left = 0  # actions of it still to do
        self._fresh = True

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        """The next action of every world, `b a`; `obs` is what is seen now (at first: what `begin` saw).

        Within a block nothing is looked at.
        """
        if self._left == 0:
            self._action = self._choose(obs)
            self._left = self.block
        assert self._action is not None
        action = self._action.unflatten(1, (self.block, self.action))[:, self.block - self._left]
        self._left -= 1
        self._route.spend(1)
        return action

    @property
    def closest(self) -> Tensor:
        """The least energy to its goal that each row came to, relative to where it began: `b`; see `Route`."""
        return self._route.closest

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (`rows`: indices); the others have reached their goal."""
        self.state = each(lambda v: v[rows], self.state)
        self.goal = each(lambda v: v[rows], self.goal)
        self._route.keep(rows)
        self._start = self._start[rows]
        self._rng: list[Generator] = [self._rng[int(i)] for i in rows]
        self._ahead, self.degraded = self._ahead[rows], self.degraded[rows]
        self._action = None if self._action is None else self._action[rows]

    def _choose(self, obs: Obs) -> Tensor:
        """Look, believe, plan where a plan is due: the next step of it, `b (k a)`."""
        began = time.perf_counter()
        if self._action is not None:
            self.state = self._believe(obs, self._action)
        self._route.look(self.model, self.state)
        if self._due == 0:
            self._think(began)
        action, rest = self._ahead[:, 0], self._ahead[:, 1:]
        self._ahead = torch.cat([rest, self._still(torch.zeros_like(action))[:, None]], dim=1)
        self._due -= 1
        return action

    def _believe(self, obs: Obs, action: Tensor) -> State:
        """What is believed now. A row whose belief is NaN begins anew with what it sees, or it stayed lost."""
        state = self.model.encode(obs, self.state, action)
        lost = torch.stack([value.isnan().reshape(len(value), -1).any(dim=1) for value in state.values()]).any(
            dim=0
        )  # b
        if not bool(lost.any()):
            return state
        return choose_rows(lost, self.model.encode(obs), state)

    def _think(self, began: float) -> None:
        since = time.perf_counter()
        self._route.move_on(self.model, self.state)
        self.goal = self._aim()
        deadline = None if self.config.deadline_s is None else began + self.config.deadline_s
        cost = goal_cost(self.model, self.state, self.goal, self.config.shape, self.config.power, self.config.every)
        careful = Careful(cost, deadline, self._longest_s)
        try:
            planner = self.planner if self._fresh else self.again
            self.plan = planner(careful, self._start, self._rng, self.model.spec.discrete, self._constrain)
        except Late:
            self.degraded = torch.ones_like(self.degraded)
        else:
            actions, self.degraded = careful.lost(self.plan)
            actions = self._finish(actions)
            self._ahead = torch.where(self.degraded[:, None, None], self._ahead, actions)
            self._fresh = False
        self._longest_s = careful.longest_s
        self._warn()
        self._due = self.config.execute
        self._start = shift(self._ahead, self.config.execute, self.model.spec.discrete)
        self.plan_ms.append((time.perf_counter() - since) * 1000 / len(self._rng))

    def _aim(self) -> State:
        """What the next plan pursues, `b ...`."""
        return self._route.goal

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


def _primitive(spec: Spec, block: int) -> int:
    """The size of one action of a block. Raises `UserError` where the model's actions are no blocks of so many."""
    if block < 1 or spec.action % block or (spec.discrete and block > 1):
        kind = "choices" if spec.discrete else "numbers"
        raise UserError(f"block={block} does not fit: the model's action, {spec.action} {kind}, is no block of {block}")
    return spec.action // block


def _check_sight(spec: Spec, seen: Obs, b: int, what: str) -> None:
    for name, shape in spec.obs.items():
        if name not in seen:
            raise UserError(f"{what} lacks the sensor {name!r}; there are: {', '.join(seen)}")
        if tuple(seen[name].shape) != (b, *shape):
            found = tuple(seen[name].shape)
            raise UserError(f"{what}: sensor {name!r} has shape {found}, the model was taught with {(b, *shape)}")
