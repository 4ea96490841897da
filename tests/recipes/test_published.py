"""A paper's whole setting by its name."""

from __future__ import annotations

import pytest

from innerworld.cli.run import control_of
from innerworld.config import override
from innerworld.errors import UserError
from innerworld.plan import CEM, PLANNERS
from innerworld.recipes.goals import planner
from innerworld.recipes.published import PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_setting_is_whole(name: str) -> None:
    control = override(PUBLISHED[name], [])  # validated
    found = planner(control)
    assert isinstance(found, PLANNERS[control.search])
    assert control.rounds_again == found.model_dump()["rounds"] and control.agent.execute <= found.horizon


def test_leworldmodels_protocol() -> None:
    """stable-worldmodel: 300 candidates, 30 rounds, 5 blocks, all executed; 25 steps to the goal, 50 to get there."""
    control = PUBLISHED["lewm"]
    found = planner(control)
    assert isinstance(found, CEM) and (found.samples, found.rounds, found.elites, found.horizon) == (300, 30, 30, 5)
    assert (control.agent.execute, control.agent.shape, control.agent.power) == (5, "last", 1.0)
    assert (control.goals, control.goal_offset, control.budget) == ("one_episode", 25, 50)


def test_the_command_line_knows_papers_and_planners() -> None:
    assert control_of("pldm").search == "mppi" and control_of("pldm").budget == 200
    assert control_of("cem").planner["horizon"] == control_of("icem").planner["horizon"]
    assert control_of("icem").goals == "two_episodes"
    with pytest.raises(UserError, match=r"unknown planner 'lewn'. Did you mean 'lewm'\? Known: cem, dino_wm,"):
        control_of("lewn")
