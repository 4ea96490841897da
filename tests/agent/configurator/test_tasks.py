"""Tasks: each lays itself out as legs, and says in one line what the model or the configurator cannot serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.configurator.tasks import Asked, Avoid, Leg, Maximise, Reach, Say, Stay, Steps, Task, Weighted
from innerworld.errors import UserError
from innerworld.types import Obs, Spec

ASKED = Asked(Spec({"state": (1,)}, 1), 2)


def at(*places: float) -> Obs:
    return {"state": torch.tensor(places)[:, None]}


A, B, C = at(1.0, 2.0), at(3.0, 4.0), at(5.0, 6.0)


def test_a_goal_is_one_leg_and_goals_on_the_way_have_their_own() -> None:
    assert Reach(A).legs(ASKED) == [Leg(A)]
    asked = replace(ASKED, via_steps=(4, 3), via_energy=0.5)
    assert Reach(A, [B, C]).legs(asked) == [Leg(B, steps=4, near=0.5), Leg(C, steps=3, near=0.5), Leg(A)]
    near_only = replace(ASKED, via_energy=0.5)
    assert Reach(A, [B]).legs(near_only) == [Leg(B, near=0.5), Leg(A)]


def test_weights_go_with_a_task_or_alone() -> None:
    assert Maximise(2.0).legs(ASKED) == [Leg(weights={"reward": 2.0})]
    assert Weighted({"effort": 0.1}).legs(ASKED) == [Leg(weights={"effort": 0.1})]
    both = Avoid("water", 3.0, Stay("room", 2.0, Reach(A)))
    assert both.legs(ASKED) == [Leg(A, {"room": 2.0, "water": 3.0})]
    assert Weighted({"reward": 0.5}, Maximise()).legs(ASKED)[0].weights == {"reward": 0.5}  # the outer one counts


def test_steps_follow_each_other() -> None:
    legs = Steps([Reach(A), Maximise(), Reach(B)], limits=[None, 10], near=0.1).legs(ASKED)
    assert legs == [Leg(A, near=0.1), Leg(weights={"reward": 1.0}, steps=10), Leg(B)]
    inner = Steps([Steps([Reach(A), Reach(B)], [3]), Reach(C)], [4])
    assert inner.legs(ASKED) == [Leg(A, steps=3), Leg(B, steps=4), Leg(C)]


def test_a_sentence_means_the_nearest_known_goal() -> None:
    words = {"door": [1.0, 0.0], "open the door": [0.9, 0.1], "window": [0.0, 1.0]}
    phrases = Phrases(
        lambda sentences: torch.tensor([words[sentence] for sentence in sentences]),
        {"door": {"state": torch.tensor([7.0])}, "window": {"state": torch.tensor([8.0])}},
    )
    asked = replace(ASKED, phrases=phrases)
    goal = Say("open the door").legs(asked)[0].goal
    assert goal is not None and goal["state"].tolist() == [[7.0], [7.0]]
    goal = Say(["open the door", "window"]).legs(asked)[0].goal
    assert goal is not None and goal["state"].tolist() == [[7.0], [8.0]]
    with pytest.raises(UserError, match="1 sentences for 2 worlds"):
        Say(["window"]).legs(asked)


@pytest.mark.parametrize(
    ("task", "asked", "said"),
    [
        (Reach({"eye": A["state"]}), ASKED, "the goal lacks the sensor 'state'; there are: eye"),
        (Reach(at(1.0)), ASKED, r"the goal: sensor 'state' has shape \(1, 1\), the model was taught with \(2, 1\)"),
        (Reach({"state": A["state"].numpy()}), ASKED, "sensor 'state' is of type ndarray: give tensors"),  # pyright: ignore
        (Reach(A, [at(1.0)]), replace(ASKED, via_energy=1.0), "a goal on the way: sensor 'state'"),
        (Reach(A, [B]), ASKED, r"goals on the way need .*via_steps, or"),
        (Reach(A, [B, C]), replace(ASKED, via_steps=(3,)), "steps for 1 goals on the way, there are 2"),
        (Maximise(), replace(ASKED, rewarded=lambda: False), "the model tells no reward to maximise"),
        (Weighted({}), ASKED, "a weighted task names no term"),
        (Weighted({"efort": 1.0}), replace(ASKED, terms=("effort", "goal")), "no term 'efort'. Did you mean 'effort'"),
        (Avoid("water", 0.0), ASKED, "weight of region 'water' is 0.0"),
        (Steps([]), ASKED, "give at least one task"),
        (Steps([Reach(A), Reach(B)], [3, 4]), ASKED, "limits for 2 tasks, but 1 come before the last"),
        (Steps([Reach(A), Reach(B)]), ASKED, "when is task 1 of 2 done"),
        (Steps([Maximise(), Reach(B)], near=0.1), ASKED, "when is task 1 of 2 done"),
        (Say("open the door"), ASKED, "a sentence means nothing yet"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(task: Task, asked: Asked, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        task.legs(asked)
    assert "\n" not in str(raised.value)
