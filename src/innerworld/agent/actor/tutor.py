"""`Tutor`: an actor in which a habit acts and a searcher says what would have been right (DAgger, arXiv 1011.0686)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.agent.actor.habit import Reflex, Searches, longer
from innerworld.agent.modules import Decision, Situation
from innerworld.config import Config
from innerworld.plan import generators
from innerworld.policy.lessons import Advice, Lessons, hindsight
from innerworld.types import State, each
from innerworld.world import WorldModel, flatten


class TutorConfig(Config):
    share: float = Field(
        default=0.0, description="chance that the searcher's decision is done and not the habit's (DAgger's beta)", ge=0
    )
    every: int = Field(
        default=1, description="the teacher is asked at every so many-th decision, where there is a pupil", ge=1
    )
    searches: int = Field(default=1, description="searches for each lesson, of which the mean action is taught", ge=1)
    course: int = Field(
        default=1, description="steps of a plan that become lessons, the later ones where it was imagined to lead", ge=1
    )
    within: int = Field(
        default=0,
        description="steps on along that course whose states count as goals, too: the best way is best in parts",
        ge=0,
    )


class Tutor:
    """All that the `teacher` decides becomes `lessons`, in the states to which the `pupil` leads: those are the ones
    that it must know its way in. Without a pupil the teacher acts. Rows that the teacher cannot answer teach nothing.
    """

    def __init__(
        self, teacher: Searches, lessons: Lessons, pupil: Reflex | None = None, config: TutorConfig = TutorConfig()
    ) -> None:
        self.teacher, self.lessons, self.pupil, self.config = teacher, lessons, pupil, config
        self.horizon = teacher.horizon if pupil is None else min(teacher.horizon, pupil.horizon)

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        self.teacher.begin(b, seed, first, device)
        if self.pupil is not None:
            self.pupil.begin(b, seed, first, device)
        self._dice: list[Generator] = generators(seed + 1, first + b)[first:]
        self._taught: Tensor | None = None  # b h a   what the teacher would have done, `_since` steps ago
        self._since = 0
        self._decisions = 0

    def decide(self, situation: Situation) -> Decision:
        pupil, due = self.pupil, self._decisions % self.config.every == 0
        self._decisions += 1
        return self._taught_by(situation) if pupil is None or due else pupil.decide(situation)

    def done(self, steps: int, decided: Tensor) -> None:
        """The teacher goes on with its own plan, whatever was done."""
        self._since += steps
        taught = decided if self._taught is None else self._taught
        self.teacher.done(min(self._since, taught.shape[1]), taught)

    def keep(self, rows: Tensor) -> None:
        self.teacher.keep(rows)
        if self.pupil is not None:
            self.pupil.keep(rows)
        self._dice = [self._dice[int(row)] for row in rows]
        self._taught = None if self._taught is None else self._taught[rows]

    def _taught_by(self, situation: Situation) -> Decision:
        """Ask the teacher, note what it says, and let one of them act."""
        found = self.teacher.decide(situation)
        others = [self.teacher.decide(situation) for _ in range(self.config.searches - 1)]
        self._taught, self._since = found.actions, 0
        self._note(situation, found, _mean((found, *others)))
        if self.pupil is None:
            return found
        own = self.pupil.decide(situation)
        led = torch.tensor([float(torch.rand((), generator=dice)) for dice in self._dice]) < self.config.share
        led = (led.to(found.degraded.device) | own.degraded) & ~found.degraded
        h = found.actions.shape[1]
        actions = torch.where(led[:, None, None], found.actions, longer(own.actions, h, self.pupil.spec))
        return replace(
            found, actions=actions, degraded=own.degraded & ~led, mode=torch.where(led, found.mode, own.mode)
        )

    @torch.no_grad()
    def _note(self, situation: Situation, found: Decision, actions: Tensor) -> None:
        rows = (~found.degraded).nonzero()[:, 0]
        model, goal = situation.model, situation.setting.goal
        actions = actions[rows, : self.config.course]
        features = _along(model, each(lambda value: value[rows], situation.state), actions[:, :-1])
        aim = None
        if goal is not None:
            aim = model.features(each(lambda value: value[rows], goal))[:, None].expand_as(features).flatten(0, 1)
        self.lessons.add(Advice(features.flatten(0, 1), aim, actions.flatten(0, 1)))
        within = min(self.config.within, features.shape[1] - 1)
        if within and aim is not None:
            self.lessons.add(hindsight(features, actions[:, :-1], within))


def _mean(decisions: Sequence[Decision]) -> Tensor:
    """The mean of several answers, of each row those that were found: `b h a`; zeros where none was."""
    found = torch.stack([(~decision.degraded).to(decision.actions.dtype) for decision in decisions])  # s b
    actions = torch.stack([decision.actions for decision in decisions])  # s b h a
    return (actions * found[..., None, None]).sum(dim=0) / found.sum(dim=0).clamp(min=1)[:, None, None]


def _along(model: WorldModel, state: State, actions: Tensor) -> Tensor:
    """Features of what is believed, and of what these actions `b k a` would lead to: `b k+1 d`."""
    here = model.features(model.bare(state))[:, None]
    if not actions.shape[1]:
        return here
    ahead = each(lambda value: value[:, 0], model.imagine(state, actions[:, None]))  # b k ...
    return torch.cat([here, model.features(flatten(ahead, 2)).unflatten(0, actions.shape[:2])], dim=1)
