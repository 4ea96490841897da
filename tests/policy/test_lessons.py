"""Lessons are kept up to a bound, hindsight pairs what belongs together, and the same drill gives the same habit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.policy.actor import ActorConfig
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.policy.lessons import Advice, DrillConfig, Lessons, drill, hindsight
from innerworld.types import Spec

SPEC = Spec({"place": (2,)}, 2)
SMALL = HabitConfig(actor=ActorConfig(units=16, layers=1, outscale=1.0), heads=2)


def some(n: int, begin: float = 0.0) -> Advice:
    values = begin + torch.arange(2.0 * n).view(n, 2)
    return Advice(values, -values, values.tanh())


def test_the_oldest_go_first() -> None:
    lessons = Lessons(most=5)
    for begin in (0.0, 100.0, 200.0):
        lessons.add(some(3, begin))
    kept = lessons.all()
    assert len(kept) == 5 and len(lessons) <= 6
    assert kept.features[0, 0] == 102 and kept.features[-1, 0] == 204
    assert kept.goal is not None and torch.equal(kept.goal, -kept.features)


def test_lessons_with_and_without_a_goal_stay_apart() -> None:
    lessons = Lessons()
    with pytest.raises(UserError, match="there are no lessons"):
        lessons.all()
    lessons.add(some(2))
    with pytest.raises(UserError, match="all a goal or none"):
        lessons.add(Advice(torch.zeros(1, 2), None, torch.zeros(1, 2)))


def test_lessons_come_back_from_the_disk(tmp_path: Path) -> None:
    lessons = Lessons()
    lessons.add(some(5))
    lessons.save(tmp_path)
    again = Lessons.load(tmp_path, most=3).all()
    assert again.goal is not None and torch.equal(again.goal, some(5).goal[2:]) and len(again) == 3  # pyright: ignore
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match="cannot read"):
        Lessons.load(tmp_path)


def test_hindsight_pairs_an_action_with_what_it_led_to() -> None:
    """Place i after i steps of action i: the goal of action i lies at most two further."""
    place: Tensor = torch.arange(6.0).view(1, 6, 1).repeat(2, 1, 1)
    seen = hindsight(place, place[:, :-1], within=2)
    assert len(seen) == 2 * (5 + 4) and seen.goal is not None
    assert torch.equal(seen.features, seen.action)
    assert set((seen.goal - seen.features).flatten().tolist()) == {1.0, 2.0}
    with pytest.raises(UserError, match="looks 6 steps ahead on a way of 5"):
        hindsight(place, place[:, :-1], within=6)


def test_a_drill_can_be_repeated() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        habit = Habit(SMALL, 2, SPEC)
        drill(habit, some(20), DrillConfig(steps=5, batch=4), seed=3)
        found.append(habit.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_statistics_are_found_in_the_first_drill_only() -> None:
    habit = Habit(SMALL, 2, SPEC)
    drill(habit, some(20), DrillConfig(steps=1))
    centre = habit.centre.clone()
    drill(habit, some(20, 500.0), DrillConfig(steps=1))
    assert torch.equal(habit.centre, centre)
