"""A landscape as a picture: dark where the goal is near, marks where they belong; and whole runs that plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from innerworld.agent import AgentConfig
from innerworld.data import About, Smooth, Store, collect
from innerworld.energy import Landscape
from innerworld.envs import make, spec_of
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.plans import FAR, NEAR, PLANE, landscape_picture, over_plans
from innerworld.recipes.single import evaluate_run, plan_run
from innerworld.recipes.two_rooms import Control
from innerworld.training import TrainConfig
from innerworld.types import Spec

GRID = np.linspace(-1, 1, 5)


def test_a_landscape_is_drawn() -> None:
    energy = np.arange(25.0).reshape(5, 5)
    made = landscape_picture(Landscape(GRID, GRID, energy, 30.0), "here", [("taken", (-1.0, 0.5))])
    assert made.image.shape == (5, 5, 3) and made.caption == "here: energy 0 to 24, now 30"
    assert made.image[0, 0].tolist() == NEAR.tolist() and made.image[4, 4].tolist() == FAR.tolist()
    assert list(made.marks) == [("taken", (0.5, 3.5))]  # the first column, the fourth row


def test_a_flat_landscape_is_drawn_too() -> None:
    made = landscape_picture(Landscape(GRID, GRID, np.full((5, 5), 2.0), 2.0), "flat")
    assert (made.image == NEAR).all()


def test_what_has_no_energy_is_white() -> None:
    energy = np.arange(25.0).reshape(5, 5)
    energy[0, 0] = np.nan
    made = landscape_picture(Landscape(GRID, GRID, energy, 3.0), "here")
    assert made.image[0, 0].tolist() == [255, 255, 255] and made.image[0, 1].tolist() == NEAR.tolist()


@pytest.mark.parametrize(("a", "block"), [(1, 4), (3, 1)], ids=["one number, two steps", "three numbers, four steps"])
def test_plans_are_drawn_where_an_action_is_no_pair(a: int, block: int) -> None:
    """A point that moves by its actions: the mean of the best plans is nearer to the goal than where it stands."""
    model = Oracle(OracleConfig(), Spec({"state": (a,)}, a), lambda at, action: {"state": at["state"] + action})
    start, goal = {"state": torch.zeros(1, a)}, {"state": torch.full((1, a), 0.7)}
    found = over_plans(model, start, goal, block)
    assert found.energy.shape == (PLANE, PLANE) and found.now < 0.5 * model.energy(start, goal).item()
    assert np.nanmin(found.energy) <= found.now
    again = over_plans(model, start, goal, block)
    np.testing.assert_array_equal(again.energy, found.energy)


def test_a_run_of_skipped_frames_is_judged_and_plans(tmp_path: Path) -> None:
    """From a store to both pages: blocks, goals of one demonstration, its replay, goals on the way."""
    worlds = make("two_rooms", 10, size=32, max_steps=24)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec, About(env="two_rooms", policy="smooth"))
    collect(worlds, Smooth(spec), 30, store)
    config = TrainConfig(steps=2, check_every=1, save_every=2, device="cpu")
    lesson = Lesson(
        family="jepa", data=str(tmp_path / "data"), sensors=("pixels",), held_out=0.2, batch=4, length=3, frame_skip=2,
        model={"channels": 2, "latent": 4, "hidden": 8}, train=config,
    )  # fmt: skip
    teach(lesson, tmp_path / "run", quiet=True)
    settings = {"horizon": 2, "samples": 16, "rounds": 2, "elites": 4}
    control = Control(
        episodes=4, budget=9, search="cem", planner=settings, rounds_again=1, goals="one_episode", goal_offset=9, via=1,
        agent=AgentConfig(via_steps=(4,)),
    )  # fmt: skip
    found = evaluate_run(tmp_path / "run", None, control, 0, quiet=True)
    assert not found["untried"] and set(found["results"]) == {"jepa", "oracle", "uniform", "smooth", "replay"}
    assert found["results"]["replay"]["success_rate"] == 1
    planned = plan_run(tmp_path / "run", None, control, 0, quiet=True)
    assert len(planned["episodes"]) == 4
    assert all(row["closest"] is None if row["reached"] else 0 <= row["closest"] <= 1 for row in planned["episodes"])
    page = (tmp_path / "run" / "plan.html").read_text("utf-8")
    assert "The plan, drawn over the world" in page and "The energy over the actions" in page
