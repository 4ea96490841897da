"""Monitors: they look at what the last plan was imagined to lead to, and change what the next one is set to do.

`Stuck` notices worlds that come no nearer and answers in rising order; `Milestone` notices worlds that will be there
soon. Both hold on to what they have changed for a while, so that they do not change their mind at every plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from innerworld.agent.configurator.route import Route
from innerworld.agent.energies import energies, to_goal
from innerworld.agent.modules import Imagined, Setting
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import State, each
from innerworld.world import WorldModel, choose_rows, stack

Answer = Literal["anew", "longer", "shorter", "detour", "help"]
"""What may be done about a world that is stuck: search from scratch and wider, with a longer or a shorter horizon,
by way of what is remembered, or ask for help."""

Help = Callable[[int, str], None]
"""Told the row that asks for help, and why."""


@dataclass(frozen=True)
class View:
    """What a monitor sees before a plan is made."""

    model: WorldModel
    state: State  # b ...   what is believed now
    route: Route  # the goals, and how near each row is and was
    way: Tensor | None  # b h   energies to the goal along the last plan, as it was imagined then; none at first
    executed: int  # steps of it that were done since
    horizon: int | None  # steps of a plan as it usually is; none before the first one
    past: Sequence[State]  # what was believed at earlier plans, each b ..., oldest first


class Monitor(Protocol):
    """Something that watches, and may change what is set."""

    def begin(self, b: int, device: torch.device) -> None:
        """An episode begins in `b` worlds."""

    def watch(self, view: View, setting: Setting) -> Setting:
        """Before each plan that pursues a goal: the setting, changed where that is called for."""
        ...

    def keep(self, rows: Tensor) -> None: ...


class StuckConfig(Config):
    over: int = Field(default=4, description="plans in a row that must come no nearer", ge=1)
    gain: float = Field(default=0.05, description="share by which an energy must fall to count as nearer", gt=0, lt=1)
    still: float = Field(
        default=0.01,
        description="a belief did not move if its energy to where it was is below this share of the goal's",
    )
    there: float = Field(default=0.02, description="share of the first energy, below which it counts as done", ge=0)
    hold: int = Field(default=4, description="plans for which an answer holds, before a further one is given", ge=1)
    answers: tuple[Answer, ...] = Field(
        default=("longer", "anew", "detour", "help"),
        description="what is done about it, one more each time it is of no use",
    )
    effort: float = Field(default=2.0, description="share of the usual search where it searches anew", gt=0)
    factor: float = Field(default=2.0, description="by which a horizon becomes longer or shorter", gt=1)


class Stuck:
    """Notice worlds that come no nearer to their goal over several plans: either nothing nearer was imagined, as in a
    local minimum of the energy, or it was, but the belief does not move, as before a wall that the model overlooks.

    What is done about it rises: each time that an answer was held and was of no use, the next one is added. To look
    farther comes first, for a plan that is too short is searched anew in vain; it takes as many times longer, and is
    left out where the model cannot imagine so far. A world that comes nearer begins at the first answer again. Effort
    and horizon are those of the whole batch.
    """

    def __init__(self, config: StuckConfig = StuckConfig(), help: Help | None = None) -> None:
        self.config, self._help = config, help

    def begin(self, b: int, device: torch.device) -> None:
        nothing = torch.zeros(b, dtype=torch.long, device=device)
        self._route: Route | None = None  # at the last plan
        self._at = nothing  # goal of it
        self._age = nothing  # plans seen on it since it was last reset
        self._level = nothing  # answers that are given
        self._left = nothing  # plans for which they still hold
        self._least: list[Tensor] = []  # each b         of the last plans: least energy to the goal until then
        self._saw: list[Tensor] = []  # each b bool      something nearer was imagined
        self._places: list[State] = []  # each b ...     what was believed
        self._then = torch.full((b,), torch.nan, device=device)  # energy to the goal at the last plan
        self._detour: State | None = None  # b ...
        self._away = torch.full((b,), torch.nan, device=device)  # energy to the detour when it was chosen
        self._too_far = False  # the model cannot imagine as far as an answer would have it

    def watch(self, view: View, setting: Setting) -> Setting:
        self._note(view)
        nearer, blind, unmoved = self._judge(view)
        self._left = torch.where(self._back(view), 0, self._left)
        holding = self._left > 0
        self._level = torch.where(nearer & ~holding, 0, self._level)
        there = view.route.least <= self.config.there * view.route.first
        onset = (self._age > self.config.over) & ~nearer & (blind | unmoved) & ~there & ~holding
        self._level = torch.where(onset, (self._level + 1).clamp(max=len(self.config.answers)), self._level)
        self._left = torch.where(onset, self.config.hold, self._left)
        setting = self._answered(view, setting, onset, blind)
        self._left = (self._left - 1).clamp(min=0)
        self._age = torch.where(holding | onset, 0, self._age)  # an answer is judged by what comes after it
        return setting

    def keep(self, rows: Tensor) -> None:
        self._at, self._age, self._level, self._left = (
            value[rows] for value in (self._at, self._age, self._level, self._left)
        )
        self._then, self._away = self._then[rows], self._away[rows]
        self._least = [value[rows] for value in self._least]
        self._saw = [value[rows] for value in self._saw]
        self._places = [each(lambda value: value[rows], place) for place in self._places]
        self._detour = None if self._detour is None else each(lambda value: value[rows], self._detour)

    def _note(self, view: View) -> None:
        """Remember what speaks for and against it, of as many plans as count."""
        route, kept = view.route, self.config.over
        same = (self._at == route.at) & (self._route is route)
        self._age = torch.where(same, self._age + 1, 1)
        self._level, self._left = torch.where(same, self._level, 0), torch.where(same, self._left, 0)
        self._route, self._at = route, route.at
        never = torch.zeros_like(route.at, dtype=torch.bool)
        saw = never if view.way is None else view.way.min(dim=1).values < (1 - self.config.gain) * self._then
        self._then = route.energy
        self._least = [*self._least, route.least][-kept - 1 :]
        self._saw = [*self._saw, saw][-kept:]
        self._places = [*self._places, view.model.bare(view.state)][-kept - 1 :]

    def _judge(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row, over the last plans: it came nearer; nothing nearer was imagined; its belief did not move."""
        nearer = view.route.least < (1 - self.config.gain) * self._least[0]
        blind = ~torch.stack(self._saw).any(dim=0)
        moved = view.model.energy(view.state, self._places[0])
        return nearer, blind, moved <= self.config.still * view.route.energy

    def _back(self, view: View) -> Tensor:
        """Rows that have come to their detour: `b` bool."""
        if self._detour is None:
            return torch.zeros_like(self._away, dtype=torch.bool)
        return view.model.energy(view.state, self._detour) <= self.config.still * self._away

    def _answered(self, view: View, setting: Setting, onset: Tensor, blind: Tensor) -> Setting:
        """The setting with the answers that hold now."""
        holding = self._left > 0
        if not bool(holding.any()):
            return setting
        given = {answer: holding & (self._level > rank) for rank, answer in enumerate(self.config.answers)}
        given = {answer: rows for answer, rows in given.items() if bool(rows.any())}
        if "detour" in given:
            self._leave_for(view, onset & given["detour"])
            if self._detour is not None and setting.goal is not None:
                setting = replace(setting, goal=choose_rows(given["detour"], self._detour, setting.goal))
        for answer, factor in (("longer", self.config.factor), ("shorter", 1 / self.config.factor)):
            usual = setting.horizon or view.horizon
            if answer in given and usual is not None:
                wanted = max(1, round(usual * factor))
                self._too_far = wanted > usual and not _can_imagine(view, wanted)
                setting = setting if self._too_far else replace(setting, horizon=wanted)
        if "help" in given:
            setting = replace(setting, asks=_either(setting.asks, given["help"]))
        why = [self._sentence(row, bool(blind[row])) if onset[row] else "" for row in range(len(onset))]
        if self._help is not None and "help" in given:
            for row in (onset & given["help"]).nonzero()[:, 0].tolist():
                self._help(row, why[row])
        effort = max(setting.effort, self.config.effort) if "anew" in given else setting.effort
        anew = _either(setting.anew, onset & given["anew"]) if "anew" in given else setting.anew
        return replace(setting, effort=effort, anew=anew, why=_said(setting.why, why))

    def _leave_for(self, view: View, rows: Tensor) -> None:
        """Choose for these rows the place to go back to: of all that were believed, the farthest from here."""
        if not view.past or not bool(rows.any()):
            return
        past = stack(list(view.past))  # b k ...
        away = energies(view.model, each(lambda value: value[:, None], view.state), past, 2)  # b k
        farthest, index = away.max(dim=1)
        chosen = each(lambda value: value[torch.arange(len(index), device=value.device), index], past)
        self._detour = chosen if self._detour is None else choose_rows(rows, chosen, self._detour)
        self._away = torch.where(rows, farthest, self._away)

    def _sentence(self, row: int, blind: bool) -> str:
        found = "nothing nearer was imagined" if blind else "nearer was imagined, but it does not move"
        given = self.config.answers[: int(self._level[row])]
        farther = f"look {self.config.factor:g} times as far ahead"
        done = {
            "anew": f"search from scratch, {self.config.effort:g} times as long",
            "longer": f"{farther}, which the model cannot" if self._too_far else farther,
            "shorter": f"look ahead {self.config.factor:g} times less far",
            "detour": "go back to where it was before",
            "help": "ask for help",
        }
        return f"stuck: no nearer for {self.config.over} plans ({found}): {', '.join(done[each] for each in given)}"


class MilestoneConfig(Config):
    share: float = Field(default=0.05, description="share of the first energy, below which a goal is reached", gt=0)
    energy: float | None = Field(default=None, description="energy below which a goal is reached; null: by share", gt=0)
    early: bool = Field(default=True, description="go on from a goal on the way as soon as the plan reaches it")
    shorten: bool = Field(default=True, description="plan no further than the last goal, where the plan reaches it")
    spare: int = Field(default=2, description="steps that a shortened plan has beyond the goal", ge=0)
    hold: int = Field(default=2, description="plans that must not reach the goal before they are long again", ge=1)


class Milestone:
    """Notice worlds whose last plan reaches a goal: from one on the way they go on at once, to the last one they plan
    no further than that. The horizon is that of the whole batch: plans are short when all of them reach the goal."""

    def __init__(self, config: MilestoneConfig = MilestoneConfig()) -> None:
        self.config = config

    def begin(self, b: int, device: torch.device) -> None:
        self._route: Route | None = None  # at the last plan
        self._need = torch.zeros(b, dtype=torch.long, device=device)  # steps to the goal and the spare ones; 0: unknown
        self._missed = self._need  # plans in a row that did not reach it
        self._told = torch.zeros(b, dtype=torch.bool, device=device)

    def watch(self, view: View, setting: Setting) -> Setting:
        if view.way is None or setting.goal is None:
            return setting
        if view.route is not self._route:
            self._route, self._need = view.route, torch.zeros_like(self._need)
        left = view.way[:, view.executed :]  # b h
        near = self.config.share * view.route.first if self.config.energy is None else self.config.energy
        near = torch.as_tensor(near, device=left.device).expand(len(left))
        reached = left < near[:, None]
        soon = reached.any(dim=1)
        steps = reached.long().argmax(dim=1) + 1 if left.shape[1] else self._need
        last = view.route.at == view.route.last
        setting = self._go_on(view, setting, soon & ~last, steps) if self.config.early else setting
        return self._shorten(view, setting, soon & last, steps) if self.config.shorten else setting

    def keep(self, rows: Tensor) -> None:
        self._need, self._missed, self._told = self._need[rows], self._missed[rows], self._told[rows]

    def _go_on(self, view: View, setting: Setting, rows: Tensor, steps: Tensor) -> Setting:
        """Let these rows pursue their next goal."""
        assert setting.goal is not None
        if not bool(rows.any()):
            return setting
        words = "milestone: the plan reaches goal {} in {} steps: go on to the next"
        why = [words.format(view.route.at[row] + 1, steps[row]) if due else "" for row, due in enumerate(rows)]
        view.route.leave(rows)
        view.route.move_on(view.model, view.state)
        goal = choose_rows(rows, view.route.goal, setting.goal)
        return replace(setting, goal=goal, why=_said(setting.why, why))

    def _shorten(self, view: View, setting: Setting, rows: Tensor, steps: Tensor) -> Setting:
        """Plan as far as the goal, if all rows reach it; what they needed holds for a while when they miss it."""
        self._missed = torch.where(rows, 0, self._missed + 1)
        self._need = torch.where(rows, steps + self.config.spare, self._need)
        self._need = torch.where(self._missed >= self.config.hold, 0, self._need)
        first = rows & ~self._told
        self._told = self._need > 0
        if not bool(self._told.all()) or setting.horizon is not None or view.horizon is None:
            return setting
        horizon = max(int(self._need.max()), view.executed, 1)
        if horizon >= view.horizon:
            return setting
        words = "milestone: the goal is {} steps away: plan {}"
        why = [words.format(steps[row], horizon) if new else "" for row, new in enumerate(first)]
        return replace(setting, horizon=horizon, why=_said(setting.why, why))


def ahead(model: WorldModel, futures: Sequence[Imagined], goal: State) -> Tensor | None:
    """Energies to the goal `b ...` along what the model imagined (n = 1), the mean over its futures: `b h`.

    None where it imagined none: the beliefs of other models, as in an ensemble, are not its own to compare.
    """
    found = []
    for future in futures:
        if future.model is model:
            found.append(to_goal(model, each(lambda value: value[:, 0], future.states), goal, 2))
    return torch.stack(found).mean(dim=0) if found else None


def _can_imagine(view: View, steps: int) -> bool:
    """Some models have no position left for so many steps."""
    try:
        view.model.roll(each(lambda value: value[:1, None], view.state), steps)
    except UserError:
        return False
    return True


def _either(before: Tensor | None, rows: Tensor) -> Tensor:
    return rows if before is None else before | rows


def _said(before: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """What was said of each row, and what is said beside it."""
    return tuple("; ".join(filter(None, both)) for both in zip(before or [""] * len(more), more, strict=True))
