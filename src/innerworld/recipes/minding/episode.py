"""One episode of an agent in its world, and what is kept of it: what was seen, imagined, decided and paid."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerworld import envs
from innerworld.agent import Agent, Explanation, OnTheJob
from innerworld.data.lives import Life
from innerworld.data.stepping import check_action, check_envs, check_obs, check_reward, step, to_env
from innerworld.errors import UserError
from innerworld.evaluate.control import GoalWorlds
from innerworld.evaluate.imagery import Album, draw
from innerworld.recipes.minding.known import AS_SEEN, Known
from innerworld.recipes.minding.wishes import Wish
from innerworld.report.content import Image
from innerworld.types import Obs, State, each

Draw = Callable[[State], Image | None]
"""Beliefs `t ...` → pictures `t y x c`, where there is a way to draw them."""

Tell = Callable[[int, dict[str, float]], None]
"""Told of every step: how many are done, and what was measured."""


@dataclass(frozen=True)
class Step:
    """What one step of the world was like; NaN where the agent did not look, or did not know."""

    reward: float
    surprise: float
    cost: float  # intrinsic, of being where it was
    closest: float  # to the goal so far, 1: as it began
    degraded: bool
    ms: float  # that the agent took


@dataclass
class Diary:
    """An episode."""

    wish: Wish
    steps: list[Step] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)  # y x c   one more than steps; none where it is not drawn
    aims: list[Image] = field(default_factory=list)  # y x c   where the plan of each step leads, one for each step
    course: Image | None = None  # h+1 y x c   the first plan, as it was imagined
    decisions: list[Explanation] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # the step of the world of each decision
    reached: bool | None = None  # none: nobody can say
    ended: bool = False  # by the world
    trouble: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The sum of its rewards."""
        return sum(each.reward for each in self.steps)


def live(
    known: Known,
    mind: Agent,
    wish: Wish,
    budget: int,
    seed: int,
    picture: Draw,
    tell: Tell = lambda done, row: None,
    learner: OnTheJob | None = None,
) -> Diary:
    """Let the agent act for at most `budget` steps; its `learner`, if it has one, is told of rewards and of the last
    sight. Raises `UserError` for a wish that the model cannot serve, for what goes wrong at the very first step (a
    setting that does not fit), and where the world fails."""
    world = known.world
    spec = envs.spec_of(world.single_observation_space, world.single_action_space)
    choices_from = check_envs(world, spec, known.env)
    diary, life = Diary(wish), Life(0)
    obs: Mapping[str, Any] = world.reset(seed=seed, options=None if wish.start is None else {"state": wish.start})[0]
    _keep_picture(diary, obs)
    mind.begin(_see(known, obs), wish.task, seed)
    before, doing = len(mind.trouble), list[Tensor]()  # the actions of the present block
    for t in range(budget):
        last, began = mind.decision, time.perf_counter()
        action = mind.act(_see(known, obs))
        ms = (time.perf_counter() - began) * 1000
        if t == 0 and len(mind.trouble) > before:
            raise UserError(mind.trouble[-1].split(": ", 2)[-1])
        if mind.decision is not last:
            _note_decision(diary, mind, t, picture)
        if diary.aims:
            diary.aims += diary.aims[-1:] * (t + 1 - len(diary.aims))
        taken = to_env(check_action(action.numpy(), spec, 1), spec, choices_from)
        obs, reward, terminated, truncated, lost = step(world, taken, [life])
        check_obs(obs, spec, [life])
        check_reward(reward, [life])
        if learner is not None:
            learner.earn(torch.from_numpy(reward).float(), torch.from_numpy(terminated))
        doing = [*doing, action][-known.block :]
        life.length += 1
        looked = t % known.block == 0 and len(mind.trouble) == before + len(diary.trouble)
        diary.trouble = mind.trouble[before:]
        diary.steps.append(_step(mind, float(reward[0]), looked, ms))
        _keep_picture(diary, obs)
        measured = {"surprise": diary.steps[-1].surprise, "closest": diary.steps[-1].closest, "ms": ms}
        tell(t + 1, {name: value for name, value in measured.items() if math.isfinite(value)})
        diary.reached = _reached(known, obs, wish)
        diary.ended = bool(terminated[0]) or bool(lost) or (bool(truncated[0]) and wish.goal is None)
        if diary.reached or diary.ended:
            break
    if learner is not None and len(diary.steps) % known.block == 0:
        learner.notice(_see(known, obs), torch.cat(doing, dim=1))  # what nobody acts on any more
    return diary


def drawer(known: Known, memory: Album | None) -> Draw:
    """How to draw beliefs: by the model's own decoder, else by the most similar picture in `memory`."""
    model = known.model
    with torch.no_grad():
        draws = AS_SEEN in model.spec.obs and AS_SEEN in model.decode(model.encode(model.spec.blank()))
    if not draws and memory is None:
        return lambda states: None
    album = memory or Album(torch.zeros(0, 1), torch.zeros(0))  # nobody opens it: the model draws
    return lambda states: draw(model, states, album, AS_SEEN)[..., :3]


def _note_decision(diary: Diary, mind: Agent, t: int, picture: Draw) -> None:
    """Explain the decision that was just made, and draw where it is imagined to lead."""
    assert mind.decision is not None
    diary.decisions.append(mind.explain())
    diary.starts.append(t)
    with torch.no_grad():
        imagined = mind.model.imagine(mind.state, mind.decision.actions[:, None])
    first = diary.course is None and t == 0
    end = picture(each(lambda value: value[0, 0, -1:], imagined))
    if end is not None:
        diary.aims.append(end[0])
    if first and end is not None:
        now = picture(mind.model.bare(mind.state))
        rest = picture(each(lambda value: value[0, 0], imagined))
        assert now is not None and rest is not None
        diary.course = np.concatenate([now, rest])


def _step(mind: Agent, reward: float, looked: bool, ms: float) -> Step:
    surprise, cost = (
        (mind.perception.surprise[0].item(), mind.memory.recall(1)[0].cost[0].item())
        if looked
        else (float("nan"), float("nan"))
    )
    return Step(reward, surprise, cost, mind.closest[0].item(), bool(mind.degraded[0]), ms)


def _reached(known: Known, obs: Mapping[str, Any], wish: Wish) -> bool | None:
    if wish.goal is None or not isinstance(known.world, GoalWorlds):
        return None
    return bool(known.world.success(obs["state"], wish.goal)[0])


def _see(known: Known, obs: Mapping[str, Any]) -> Obs:
    seen: dict[str, Tensor] = {}
    for name in known.model.spec.obs:
        seen[name] = torch.from_numpy(np.array(obs[name]))
    return seen


def _keep_picture(diary: Diary, obs: Mapping[str, Any]) -> None:
    if AS_SEEN in obs:
        diary.pictures.append(np.array(obs[AS_SEEN][0][..., :3]))
