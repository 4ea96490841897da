"""Each flag is a module: it is there, and it does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from innerworld.agent import Sampled
from innerworld.agent.actor.habit import TwoModes
from innerworld.agent.configurator.monitors import Milestone, Stuck
from innerworld.agent.cost.readout import Decoded, Readout
from innerworld.agent.cost.terms import Forbidden
from innerworld.errors import UserError
from innerworld.policy.habit import Habit, HabitConfig
from innerworld.recipes.minding.known import Known, open_known
from innerworld.recipes.minding.modules import Furnishing, furnish
from innerworld.recipes.minding.run import Errand, run_agent
from innerworld.recipes.two_rooms import Control


@pytest.fixture(scope="module")
def known(run: Path) -> Known:
    return open_known(str(run), None, None)


def test_by_default_nothing_is_changed(known: Known, control: Control) -> None:
    mind = furnish(known, control, Furnishing(), False, None, 0)
    assert mind.told == {"search": "cem, 3 steps ahead", "cost": "goal"} and not mind.readings
    assert not mind.agent.cost.bounded and not mind.agent.configurator.watches


def test_monitors_futures_and_a_deadline(known: Known, control: Control) -> None:
    mind = furnish(known, control, Furnishing(("stuck", "milestone"), futures=3, deadline_s=0.5), False, None, 0).agent
    assert [type(monitor) for monitor in mind.configurator.monitors] == [Stuck, Milestone]  # pyright: ignore
    assert isinstance(mind.foresight, Sampled) and mind.foresight.copies == 3 and mind.config.deadline_s == 0.5


def test_a_guard_is_read_off_what_is_imagined_with_a_margin(known: Known, store: Path, control: Control) -> None:
    mind = furnish(known, control, Furnishing(guard="16,16,3"), False, None, 0)
    (rail,) = mind.agent.cost.guardrails  # pyright: ignore
    (reading,) = mind.readings
    assert isinstance(reading, Readout) and reading.names == ("state 0", "state 1")
    assert isinstance(rail.term, Forbidden) and rail.term.margin == pytest.approx(float(reading.reach.norm()))
    assert mind.told["guardrail"].startswith("no plan within 3 of (16, 16); ")
    exact = furnish(open_known("oracle", store, None), control, Furnishing(guard="16,16,3"), False, None, 0)
    assert isinstance(exact.readings[0], Decoded) and exact.told["guardrail"] == "no plan within 3 of (16, 16)"


def test_the_oracle_keeps_out_of_a_disc_on_its_way(store: Path, tmp_path: Path, control: Control) -> None:
    wide = control.model_copy(update={"budget": 12})
    errand = Errand("oracle", data=store, furnishing=Furnishing(guard="16,16,100"))  # there is nowhere else
    found = run_agent(errand, wide, 1, tmp_path, quiet=True)["episodes"][0]
    assert found["degraded"] == found["steps"]
    assert "for want of a plan that may be done" in found["first"]


def test_a_guard_needs_to_know_where_the_world_is(actor: Path, control: Control) -> None:
    with pytest.raises(UserError, match="needs a store with a `state` sensor"):
        furnish(open_known(str(actor), None, None), control, Furnishing(guard="0,0,1"), True, None, 0)


def test_a_habit_reacts_where_it_is_sure(known: Known, control: Control, tmp_path: Path) -> None:
    torch.manual_seed(0)
    Habit(HabitConfig(heads=1), 4, known.model.spec).save(tmp_path)  # one head agrees with itself
    mind = furnish(known, control, Furnishing(habit=tmp_path), False, None, 0)
    assert isinstance(mind.agent.actor, TwoModes) and "reacts where its habit is surer than 0.2" in mind.told["actor"]
    (tmp_path / "distilled.json").write_text('{"modes": {"uncertainty": 0.0}}')
    mind = furnish(known, control, Furnishing(habit=tmp_path), False, None, 0).agent
    assert isinstance(mind.actor, TwoModes) and mind.actor.config.uncertainty == 0
    (tmp_path / "distilled.json").write_text("{}")
    with pytest.raises(UserError, match="cannot read"):
        furnish(known, control, Furnishing(habit=tmp_path), False, None, 0)
