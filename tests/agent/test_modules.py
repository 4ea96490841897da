"""Each of the six modules, ours and the least that a class of yours may be: what its protocol asks, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from innerworld.agent import (
    Cost,
    Director,
    DirectorConfig,
    Effort,
    Ensemble,
    GoalEnergy,
    Guardrail,
    Members,
    Milestone,
    OneFuture,
    Sampled,
    Searcher,
    Senses,
    ShortTermMemory,
    Stuck,
)
from innerworld.agent.actor.habit import Reflex, TwoModes
from innerworld.agent.configurator.tasks import Reach
from innerworld.agent.modules import Believed, Decision, Imagined, Memory, Moment, Setting, Situation
from innerworld.errors import UserError
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.rssm import RSSM, RSSMConfig
from innerworld.plan import CEM
from innerworld.policy.actor import ActorConfig
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.testing import agent as checks
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import WorldModel

SPEC, CHOICES = Spec({"at": (2,)}, 2), Spec({"at": (2,)}, 3, discrete=True)
PLANNER = CEM(horizon=3, samples=8, rounds=2, elites=3)


def dreamer(spec: Spec = SPEC) -> RSSM:
    torch.manual_seed(0)
    return RSSM(RSSMConfig(deter=16, hidden=8, stoch=4, classes=4, units=8, layers=1), spec)


def jepa(spec: Spec = SPEC) -> JEPA:
    torch.manual_seed(0)
    return JEPA(JEPAConfig(latent=6, hidden=8), spec)


def habit(model: WorldModel) -> Habit:
    torch.manual_seed(0)
    width = model.features(model.encode(model.spec.blank())).shape[1]
    return Habit(HabitConfig(actor=ActorConfig(units=8, layers=1), heads=2), width, model.spec)


# ------------------------------------------------------------------ the least that may stand in


class Eyes:
    """Believes what it sees, and where it sees nothing what it believed."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def begin(self, obs: Obs) -> None:
        self.state = self.model.encode(obs)
        self.blind = torch.zeros(len(obs["at"]), dtype=torch.bool)
        self.surprise = torch.full(self.blind.shape, torch.nan)

    def look(self, obs: Obs, action: Tensor) -> None:
        self.blind = ~obs["at"].isfinite().all(dim=1) if obs else torch.ones_like(self.blind)
        if obs and not bool(self.blind.any()):
            self.state = self.model.encode(obs)

    def refresh(self, clip: Clip, rows: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None:
        self.state = each(lambda value: value[rows], self.state)
        self.blind, self.surprise = self.blind[rows], self.surprise[rows]


class Notes:
    """A list of moments."""

    def begin(self, b: int) -> None:
        self.moments: list[Moment] = []

    def pursue(self, goal: Tensor) -> None: ...

    def remember(self, moment: Moment) -> None:
        self.moments.append(moment)

    def recall(self, last: int) -> Sequence[Moment]:
        return self.moments[-last:]

    def keep(self, rows: Tensor) -> None:
        self.moments = [
            Moment(m.time, m.features[rows], m.action[rows], m.cost[rows], m.foreseen[rows], m.surprise[rows])
            for m in self.moments
        ]

    def refresh(self, version: int, again: Believed) -> None:
        nothing = [replace(m, features=torch.full_like(m.features, torch.nan)) for m in self.moments]
        self.moments = nothing  # stale, and nobody believes them anew


class Twice:
    """The likeliest future, and the same once more."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        return [Imagined(self.model, state, self.model.imagine(state, actions), actions, goal)] * 2


class Distance:
    """Where does it end? No bounds."""

    bounded = False

    def cost(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> Tensor:
        future = futures[0]
        if future.goal is None:
            return torch.zeros(future.actions.shape[:2])
        last = {name: value[:, :, -1].flatten(0, 1) for name, value in future.states.items()}
        n = future.actions.shape[1]
        goal = {name: future.goal[name].repeat_interleave(n, dim=0) for name in last}
        return future.model.energy(last, goal).unflatten(0, (-1, n))

    def breach(self, futures: Sequence[Imagined]) -> Tensor:
        return torch.zeros(futures[0].actions.shape[:2])

    def now(self, model: WorldModel, state: State, goal: State | None, action: Tensor) -> Tensor:
        return torch.zeros(len(action)) if goal is None else model.energy(state, goal)

    def parts(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> dict[str, Tensor]:
        return {"distance": self.cost(futures, weights)}


class Bounded(Distance):
    """It must not exert itself."""

    bounded = True

    def breach(self, futures: Sequence[Imagined]) -> Tensor:
        return (futures[0].actions.abs().amax(dim=(2, 3)) - 0.9).clamp(min=0)


class Sleeper:
    """Always does the same."""

    horizon = 2

    def __init__(self, model: WorldModel) -> None:
        self.spec = model.spec

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        self.b = b

    def decide(self, situation: Situation) -> Decision:
        actions = torch.zeros(self.b, self.horizon, self.spec.action)
        if self.spec.discrete:
            actions[..., -1] = 1
        return Decision(actions, torch.zeros(self.b, dtype=torch.bool), torch.ones(self.b))

    def done(self, steps: int, decided: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None:
        self.b = len(rows)


class Stubborn:
    """Wants one goal, whatever happens."""

    watches = False

    def begin(self, task: Any, model: WorldModel, state: State, seed: int, first: int) -> None:
        self.goal = model.encode(task.goal)
        self.closest = torch.full((len(next(iter(self.goal.values()))),), torch.nan)

    def look(self, state: State) -> None: ...

    def set(self, state: State, memory: Memory, decided: Decision | None, futures: Sequence[Imagined]) -> Setting:
        return Setting(self.goal)

    def spend(self, steps: int) -> None: ...

    def refresh(self, state: State) -> None: ...

    def keep(self, rows: Tensor) -> None:
        self.goal = each(lambda value: value[rows], self.goal)
        self.closest = self.closest[rows]


# ------------------------------------------------------------------ what is asked of all

CHECKS: dict[str, Callable[[], None]] = {
    "perception: Eyes": lambda: checks.check_perception(Eyes),
    "perception: Senses": lambda: checks.check_perception(Senses),
    "perception: Senses of rssm": lambda: checks.check_perception(Senses, dreamer()),
    "perception: Senses of jepa": lambda: checks.check_perception(Senses, jepa()),
    "memory: Notes": lambda: checks.check_memory(Notes),
    "memory: ShortTermMemory": lambda: checks.check_memory(ShortTermMemory),
    "foresight: Twice": lambda: checks.check_foresight(Twice),
    "foresight: OneFuture": lambda: checks.check_foresight(OneFuture, jepa()),
    "foresight: Sampled": lambda: checks.check_foresight(lambda model: Sampled(model, 2), dreamer()),
    "foresight: Members": lambda: checks.check_foresight(
        lambda model: Members(model) if isinstance(model, Ensemble) else OneFuture(model), Ensemble([jepa(), jepa()])
    ),
    "cost: Distance": lambda: checks.check_judge(lambda model: Distance()),
    "cost: Bounded": lambda: checks.check_judge(lambda model: Bounded()),
    "cost: Cost": lambda: checks.check_judge(lambda model: Cost((GoalEnergy(), Effort())), jepa()),
    "cost: Cost with a guardrail": lambda: checks.check_judge(
        lambda model: Cost((GoalEnergy(),), (Guardrail(Effort(), 0.1),))
    ),
    "actor: Sleeper": lambda: checks.check_actor(Sleeper),
    "actor: Sleeper among choices": lambda: checks.check_actor(Sleeper, jepa(CHOICES)),
    "actor: Searcher": lambda: checks.check_actor(lambda model: Searcher(PLANNER, model.spec)),
    "actor: Searcher among choices": lambda: checks.check_actor(
        lambda model: Searcher(PLANNER, model.spec), jepa(CHOICES)
    ),
    "actor: Reflex": lambda: checks.check_actor(lambda model: Reflex(habit(model), model.spec, 2, noise=0.1)),
    "actor: TwoModes": lambda: checks.check_actor(
        lambda model: TwoModes(Reflex(habit(model), model.spec, 2), Searcher(PLANNER, model.spec)), jepa(CHOICES)
    ),
    "configurator: Stubborn": lambda: checks.check_configurator(Stubborn),
    "configurator: Director": lambda: checks.check_configurator(Director, jepa()),
    "configurator: Director with monitors": lambda: checks.check_configurator(
        lambda: Director(DirectorConfig(via_steps=(2,)), [Stuck(), Milestone()]),
        task=lambda sight: Reach(sight, [each(lambda value: 0.5 * value, sight)]),
    ),
}


class Weighed(Distance):
    """It has a name for what it weighs, and weighs what it does not know as well."""

    names = ("distance",)

    def cost(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> Tensor:
        return weights.get("distance", 1.0) * super().cost(futures, weights)


class Picky(Weighed):
    """And refuses what it does not know."""

    def cost(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> Tensor:
        if set(weights) - set(self.names):
            raise UserError("no such term")
        return super().cost(futures, weights)


CHECKS["cost: Picky"] = lambda: checks.check_judge(lambda model: Picky())


@pytest.mark.parametrize("name", CHECKS)
def test_a_module_keeps_what_is_asked_of_it(name: str) -> None:
    CHECKS[name]()


class Deaf(Weighed):
    """Its parts know nothing of weights."""

    def parts(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> dict[str, Tensor]:
        return {"distance": self.cost(futures, {})}


class Forgetful(Notes):
    """It hands out features of other eyes."""

    def refresh(self, version: int, again: Believed) -> None: ...


def test_named_terms_and_stale_features_are_checked() -> None:
    with pytest.raises(AssertionError, match="is not refused"):
        checks.check_judge(lambda model: Weighed())
    with pytest.raises(AssertionError, match="`parts` ignore the weight"):
        checks.check_judge(lambda model: Deaf())
    with pytest.raises(AssertionError, match="after `refresh` features of before"):
        checks.check_memory(Forgetful)
