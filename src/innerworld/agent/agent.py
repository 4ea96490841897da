"""An agent that acts by imagining: six modules around one world model, for many worlds at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from innerworld.agent.actor.searcher import Searcher
from innerworld.agent.config import AgentConfig, check_steps, constraints, primitive, safe_action
from innerworld.agent.configurator.director import Director, DirectorConfig
from innerworld.agent.configurator.tasks import Reach, Task
from innerworld.agent.cost.cost import Cost
from innerworld.agent.cost.readout import Reading
from innerworld.agent.cost.search import Search
from innerworld.agent.cost.terms import GoalEnergy
from innerworld.agent.explain import Explanation, explained
from innerworld.agent.foresight.futures import OneFuture
from innerworld.agent.memory.short_term import ShortTermMemory
from innerworld.agent.modules import (
    Actor,
    Configurator,
    Decision,
    Foresight,
    Imagined,
    Judge,
    Learner,
    Memory,
    Moment,
    Named,
    Perception,
    Setting,
    Situation,
)
from innerworld.agent.perception.senses import Senses
from innerworld.agent.safety import aimless, broken, held
from innerworld.agent.what_if import WhatIf, what_if
from innerworld.errors import UserError
from innerworld.plan import Plan, Planner
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel

NOT_BEGUN = -1

logger = logging.getLogger(__name__)


class Agent:
    """Perceives, remembers, sets itself a goal, imagines, judges and acts; row i stands for world i.

    Each module can be replaced by one argument (`agent/modules.py` says what is asked of it). By default it pursues a
    goal picture with `planner`; `again` is the planner for all plans but the first, which has a warm start and may
    search less. What is seen is encoded once a step and a goal once an episode; all candidates of all worlds are one
    batch. Nothing here tracks gradients.

    A model that was taught with frames skipped takes a `block` of that many actions as one (see `data.Clips`). Then the
    agent plans in blocks, does their actions one by one, and looks and believes once a block: plans, `execute` and the
    planner's horizon count blocks.

    It always has an answer. A row whose predictions are not finite, and every row when the search cannot end before the
    deadline, goes on with the last good plan, and does the safe action when that is at its end; so does a row whose
    goal is not finite, at once. A row whose plan breaks a guardrail under the model takes the best candidate that does
    not, else the safe action, else what breaks it least. `degraded` says for which rows the last action is such a one.
    Whatever else goes wrong in `act` is told in `trouble` and by one warning, and the safe action is done, unless
    `strict`. `closest` tells how near each row came to its goal: 1 where it never came nearer than it was.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: Planner,
        config: AgentConfig = AgentConfig(),
        again: Planner | None = None,
        block: int = 1,
        *,
        perception: Perception | None = None,
        memory: Memory | None = None,
        foresight: Foresight | None = None,
        cost: Judge | None = None,
        actor: Actor | None = None,
        configurator: Configurator | None = None,
        learner: Learner | None = None,
    ) -> None:
        self.model, self.planner, self.config, self.block = model, planner, config, block
        self.action = primitive(model.spec, block)  # size of an action, as the environment takes it
        self.perception: Perception = perception or Senses(model)
        self.memory: Memory = memory or ShortTermMemory()
        self.foresight: Foresight = foresight or OneFuture(model)
        self.cost: Judge = cost or Cost((GoalEnergy(power=config.power, every=config.every, shape=config.shape),))
        self.actor: Actor = actor or Searcher(planner, model.spec, again)
        self.configurator: Configurator = configurator or Director(
            DirectorConfig(via_steps=config.via_steps, via_energy=config.via_energy),
            terms=self.cost.names if isinstance(self.cost, Named) else (),
        )
        self.learner = learner
        self._updates: int | None = None  # of the weights with which all is believed; none: nothing is yet
        check_steps(config, self.actor.horizon)
        self._safe = safe_action(config.safe, model.spec, block)
        self._constrain, self._finish = constraints(config.limits, model.spec, block)
        self.plan_ms: list[float] = []
        self.trouble: list[str] = []  # what went wrong in act, newest last
        self._warned = False
        self.decision: Decision | None = None
        self._left = NOT_BEGUN  # actions of the present block still to do

    @property
    def state(self) -> State:
        """What is believed now: `b ...`."""
        return self.perception.state

    @property
    def goal(self) -> State | None:
        """What the last plan pursues: `b ...`."""
        return self.setting.goal

    @property
    def plan(self) -> Plan | None:
        """The last plan that was searched."""
        return None if self.decision is None else self.decision.plan

    @property
    def closest(self) -> Tensor:
        """The least energy to its goal that each row came to, relative to where it began: `b`; see `Route`."""
        return self.configurator.closest

    @torch.no_grad()
    def begin(self, obs: Obs, task: Task | Obs, seed: int = 0, first: int = 0, via: Sequence[Obs] = ()) -> None:
        """A new episode in every world: what is seen first, each `b ...`, and what is wanted.

        Plain observations are a goal to be reached, with goals `via` on the way (`Reach`). `first` is the number of the
        first world among all that share `seed`, when others play the rest. Raises `UserError` for what the model's eyes
        do not fit, and for a task that does not fit the model.
        """
        self._left = NOT_BEGUN  # until all is begun: the task may be refused
        self.model.eval()
        self._refresh()
        self.perception.begin(obs)
        b, device = len(self.perception.blind), self.perception.blind.device
        wanted: Task = Reach(task, via) if isinstance(task, Mapping) else task
        self.configurator.begin(wanted, self.model, self.state, seed, first)
        self.memory.begin(b)
        self.actor.begin(b, seed, first, device)
        if self.learner is not None:
            self.learner.begin(obs)
            self._updates = self.learner.updates
        self.setting = Setting(None)
        self.decision = None
        self.degraded = torch.zeros(b, dtype=torch.bool, device=device)
        self._futures: Sequence[Imagined] = ()  # what the decision leads to, where somebody looks at that
        self._decided_in: State = self.state  # the belief that it was made in
        self._ahead = self._still(b, self.actor.horizon)
        self._due = 0  # steps of it to be executed before planning anew
        self._time = 0
        self._action: Tensor | None = None  # b (k a)   the block that is being done
        self._left = 0

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        """The next action of every world, `b a`; `obs` is what is seen now (at first: what `begin` saw).

        Within a block nothing is looked at. Raises `UserError` where nothing has begun.
        """
        if self._left == NOT_BEGUN:
            raise UserError("an agent must begin before it can act: call begin with what is seen first, and a task")
        if self._left == 0:
            self._action = self._answer(obs)
            self._left = self.block
        assert self._action is not None
        action = self._action.unflatten(1, (self.block, self.action))[:, self.block - self._left]
        self._left -= 1
        self.configurator.spend(1)
        return action

    @torch.no_grad()
    def explain(self, row: int = 0) -> Explanation:
        """What was believed, imagined, expected to cost and chosen in world `row` at the last decision, and why.

        Imagines the decision and standing still once more. Raises `UserError` before the first action.
        """
        if self.decision is None:
            raise UserError("there is nothing to explain before the first action: call act first")
        actions = self.decision.actions
        plan, still = (
            self.foresight(self._decided_in, each_row[:, None], self.setting.goal)
            for each_row in (actions, self._still(*actions.shape[:2]))
        )
        sensed = self.perception.surprise, self.perception.blind, self.closest
        return explained(
            row, self._time - 1, self.decision, self.setting, self.cost, plan, still, sensed, self.trouble[-1:]
        )

    @torch.no_grad()
    def what_if(self, actions_a: Tensor, actions_b: Tensor, row: int = 0, readings: Sequence[Reading] = ()) -> WhatIf:
        """What differs between doing A and doing B, each `h a`, from what is believed now in world `row`.

        Judged as a plan would be, toward what the last one pursued. Raises `UserError` for actions that do not fit.
        """
        only = torch.tensor([row], device=self.degraded.device)
        state, goal = (None if at is None else each(lambda value: value[only], at) for at in (self.state, self.goal))
        assert state is not None
        return what_if(
            self.model, state, actions_a, actions_b, goal=goal, judge=self.cost, weights=self.setting.weights,
            readings=readings, foresight=self.foresight,
        )  # fmt: skip

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (`rows`: indices); the others have reached their goal."""
        for module in (self.perception, self.memory, self.actor, self.configurator):
            module.keep(rows)
        if self.learner is not None:
            self.learner.keep(rows)
        self.setting = self.setting.rows(rows)
        self.decision = None if self.decision is None else self.decision.rows(rows)
        self._futures = [future.rows(rows) for future in self._futures]
        self._decided_in = each(lambda value: value[rows], self._decided_in)
        self._ahead, self.degraded = self._ahead[rows], self.degraded[rows]
        self._action = None if self._action is None else self._action[rows]

    def _answer(self, obs: Obs) -> Tensor:
        """The next step of the plan, `b (k a)`; the safe action when anything goes wrong."""
        try:
            return self._choose(obs)
        except Exception as error:
            if self.config.strict:
                raise
            self._tell(f"{type(error).__name__}: {error}")
            self.degraded = torch.ones_like(self.degraded)
            self._due, self._time = 0, self._time + 1
            self._futures = ()  # for the decision is not what was done
            return self._still(len(self.degraded), 1)[:, 0]

    def _choose(self, obs: Obs) -> Tensor:
        """Look, believe, plan where a plan is due, remember: the next step of it."""
        began = time.perf_counter()
        self._refresh()  # it may have learnt since
        if self._action is not None:
            self.perception.look(obs, self._action)
        self.configurator.look(self.state)
        if self._action is not None and self.learner is not None:
            self.learner.notice(obs, self._action)
            self._refresh()
        foreseen = self._foreseen()
        if self._due == 0:
            self._think(began)
        action, rest = self._ahead[:, 0], self._ahead[:, 1:]
        self._ahead = torch.cat([rest, self._still(len(action), 1)], dim=1)
        self._due -= 1
        self._remember(action, foreseen)
        self._time += 1
        return action

    def _refresh(self) -> None:
        """Where the learner has changed the weights, believe and plan all anew."""
        if self.learner is None or self._updates in (None, self.learner.updates):
            return
        self._updates = self.learner.updates
        (clip, rows), device = self.learner.lately(), self.degraded.device
        self.perception.refresh(clip.to(device), rows.to(device))
        self.configurator.refresh(self.state)
        self.memory.refresh(self.learner.eyes, self.learner.believed)
        self._futures, self._due = (), 0

    def _think(self, began: float) -> None:
        since = time.perf_counter()
        self.setting = self.configurator.set(self.state, self.memory, self.decision, self._futures)
        lost = self._without_aim()
        if self.setting.goal is not None:
            self.memory.pursue(self.model.features(self.model.bare(self.setting.goal)))
        deadline = None if self.config.deadline_s is None else began + self.config.deadline_s
        search = Search(self.foresight, self.cost, self.state, self.setting)
        situation = Situation(
            self.model, self.state, self.setting, search, self.perception.surprise, deadline, self._constrain
        )
        self._do(self.actor.decide(situation), lost)
        self._warn()
        self.plan_ms.append((time.perf_counter() - since) * 1000 / len(self.degraded))

    def _without_aim(self) -> Tensor:
        """Rows `b` whose goal is not finite, as a sub-goal may be that a configurator made up: told, never raised
        unless `strict`."""
        lost = torch.zeros_like(self.degraded) if self.setting.goal is None else aimless(self.setting.goal)
        if bool(lost.any()):
            told = f"the goal that was set is not finite in {int(lost.sum())} of {len(lost)} worlds: the safe action"
            if self.config.strict:
                raise UserError(told)
            self._tell(f"UserError: {told}")
        return lost

    def _do(self, decision: Decision, lost: Tensor) -> None:
        """Go on with this decision; rows that have none go on with the last one, and `lost` ones do the safe action."""
        actions = self._finish(decision.actions)
        kept = self._ahead[:, : actions.shape[1]]
        if kept.shape[1] < actions.shape[1]:
            kept = torch.cat([kept, self._still(len(kept), actions.shape[1] - kept.shape[1])], dim=1)
        none, still = decision.degraded | broken(actions)[:, 0, 0], self._still(*actions.shape[:2])
        actions = torch.where(none[:, None, None], kept, actions)
        actions = torch.where(lost[:, None, None], still, actions)
        self.degraded = none | lost
        self._futures = self._imagined(actions) if self.cost.bounded or self.configurator.watches else ()
        if self.cost.bounded:
            spare = None if decision.spare is None else self._finish(decision.spare)
            actions, unsafe, self._futures = held(self.cost, self._imagined, actions, self._futures, spare, still)
            self.degraded = self.degraded | unsafe
        self.decision, self._decided_in = replace(decision, actions=actions, degraded=self.degraded), self.state
        self._ahead = actions
        self._due = self._begun = min(self.config.execute, actions.shape[1])
        self.actor.done(self._due, actions)

    def _imagined(self, actions: Tensor) -> Sequence[Imagined]:
        """What plans `b h a` lead to (n = 1)."""
        return self.foresight(self.state, actions[:, None], self.setting.goal)

    def _remember(self, action: Tensor, foreseen: Tensor | None) -> None:
        """What is true of every world now, and what was foreseen of it."""
        cost = self.cost.now(self.model, self.state, self.setting.goal, action)
        features = self.model.features(self.model.bare(self.state))
        foreseen = torch.full_like(cost, torch.nan) if foreseen is None else foreseen
        sight = None if self.learner is None else self.learner.now
        self.memory.remember(Moment(self._time, features, action, cost, foreseen, self.perception.surprise, sight))

    def _foreseen(self) -> Tensor | None:
        """What the decision was imagined to cost here, `b`; none where nobody looked at that."""
        if not self._futures or self.decision is None:
            return None
        done = self._begun - self._due  # steps of it
        future, action = self._futures[0], self.decision.actions[:, done - 1]
        state = each(lambda value: value[:, 0, done - 1], future.states)
        return self.cost.now(future.model, state, future.goal, action)

    def _still(self, b: int, steps: int) -> Tensor:
        """The safe action for so many steps: `b h (k a)`."""
        return self._safe.to(self.degraded.device).expand(b, steps, -1)

    def _tell(self, trouble: str) -> None:
        self.trouble.append(f"step {self._time}: {trouble}")
        if len(self.trouble) == 1:
            logger.warning("the agent does the safe action (told once, see Agent.trouble): %s", self.trouble[0])

    def _warn(self) -> None:
        if not self._warned and bool(self.degraded.any()):
            self._warned = True
            logger.warning(
                "no plan for %d of %d worlds (predictions that are not finite, the deadline, or a guardrail): they go "
                "on with the last good plan, else do the safe action",
                int(self.degraded.sum()),
                len(self.degraded),
            )
