"""Energies of many beliefs at once are those that one after another has, whatever axes they come with."""

from __future__ import annotations

import pytest
import torch

from innerworld.agent import energies
from innerworld.agent.energies import to_each, to_goal
from innerworld.models.rssm import RSSM, RSSMConfig
from innerworld.testing.agent import Point
from innerworld.types import Spec, each


def test_to_the_goal_of_each_row() -> None:
    model, states = Point(), {"at": torch.randn(2, 3, 4, 2)}
    goal = {"at": torch.randn(2, 2), "memory": torch.zeros(2, 9)}  # it may hold more than the beliefs
    found = to_goal(model, states, goal, 3)
    assert found.shape == (2, 3, 4)
    for b, n, h in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)).tolist():
        one = model.energy({"at": states["at"][b, n, h][None]}, {"at": goal["at"][b][None]})
        torch.testing.assert_close(found[b, n, h], one[0])


def test_to_each_goal_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = RSSM(RSSMConfig(deter=8, hidden=8, stoch=2, classes=4, units=8, layers=1), Spec({"at": (2,)}, 2))
    with torch.no_grad():
        states, goals = (model.encode({"at": torch.randn(n, 2)}) for n in (7, 3))
        whole = to_each(model, states, goals)
        monkeypatch.setattr(energies, "AT_ONCE", 1)
        assert whole.shape == (7, 3) and torch.allclose(to_each(model, states, goals), whole)
        alone = model.energy(each(lambda value: value[4:5], states), each(lambda value: value[1:2], goals))
    torch.testing.assert_close(whole[4, 1], alone[0])
