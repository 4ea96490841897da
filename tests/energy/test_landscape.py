"""The energy over planes: of held actions, plans and beliefs; where it is lowest, in blocks, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.energy import action_landscape, belief_landscape, landscape, plan_landscape, principal
from innerworld.energy.scalar import Cost
from innerworld.errors import UserError
from innerworld.types import Spec

SPEC = Spec({"state": (3,)}, 4)


def to(*goal: float) -> Cost:
    """Of plans that move a point by the first three numbers of each action, in blocks of four: squared distance."""

    def cost(actions: Tensor) -> Tensor:
        moved = actions.unflatten(-1, (-1, 4))[..., :3].sum(dim=(2, 3))  # b n 3
        return (moved - torch.tensor(goal)).square().sum(dim=-1)

    return cost


def test_any_plane() -> None:
    directions = torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    found = landscape(lambda p: p @ torch.tensor([1.0, 10.0]), torch.tensor([5.0, 0.0]), directions, 2.0, 5)
    x, y = np.meshgrid(found.x, found.y)
    np.testing.assert_allclose(found.energy, 5 + 11 * x + 20 * y, atol=1e-5)
    assert found.now == 5 and found.best == (-2.0, -2.0) and found.x.tolist() == [-2, -1, 0, 1, 2]


def test_the_lowest_action_leads_to_the_goal() -> None:
    found = action_landscape(to(0.4, 0.3, -0.8), SPEC, 0.89, dims=(0, 2), points=11)
    assert found.best == pytest.approx((0.4, -0.8)) and found.energy.shape == (11, 11) and found.now == 0.89
    x, y = np.meshgrid(found.x, found.y)
    np.testing.assert_allclose(found.energy, (x - 0.4) ** 2 + 0.09 + (y + 0.8) ** 2, atol=1e-6)


def test_the_other_dimensions_stay_as_they_are_and_steps_add_up() -> None:
    base = torch.tensor([0.5, 0.1, 0.5, 1.0])
    found = action_landscape(to(0.4, 0.2, -0.4), SPEC, 0.0, (2, 0), reach=0.5, points=5, base=base, steps=2)
    assert found.best == pytest.approx((-0.25, 0.25)) and found.x.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    assert found.energy.min() == pytest.approx(0.1**2 * 2, abs=1e-6)  # nothing is left in the second dimension
    assert base.tolist() == pytest.approx([0.5, 0.1, 0.5, 1.0])


def test_an_action_fills_a_block() -> None:
    found = action_landscape(to(0.9, -0.3, 0), Spec({"state": (3,)}, 12), 0.0, points=21, block=3)
    assert found.best == pytest.approx((0.3, -0.1)) and found.energy.min() == pytest.approx(0, abs=1e-9)


def test_candidates_are_asked_about_some_at_once() -> None:
    asked: list[int] = []

    def cost(actions: Tensor) -> Tensor:
        asked.append(actions.shape[1])
        return to(1, 1, 0)(actions)

    together = action_landscape(cost, SPEC, 0.0, points=5)
    assert asked == [25, 1]  # and the middle
    asked.clear()
    np.testing.assert_allclose(action_landscape(cost, SPEC, 0.0, points=5, at_once=10).energy, together.energy)
    assert asked == [10, 10, 5, 1]


def test_plans_over_the_directions_in_which_the_elites_spread() -> None:
    rng = Generator().manual_seed(0)
    plans = 2 * torch.rand(4000, 2, 4, generator=rng) - 1
    cost = to(0.8, 0.6, 0.0)
    elites = plans[cost(plans[None])[0].argsort()[:100]]
    directions = principal(elites)
    assert directions.shape == (2, 2, 4)
    torch.testing.assert_close((directions[0] * directions[1]).sum(), torch.tensor(0.0), atol=1e-5, rtol=0)
    along = (elites - elites.mean(dim=0)).flatten(1) @ torch.nn.functional.normalize(directions.flatten(1)).T
    torch.testing.assert_close(along.std(dim=0, correction=0), directions.flatten(1).norm(dim=1))
    found = plan_landscape(cost, elites.mean(dim=0), directions, reach=4.0, points=9)
    assert (
        found.now < 0.1 and np.isnan(found.energy).any() and np.isfinite(found.energy[4, 4])
    )  # out of bounds at the rim
    assert found.energy[4, 4] == pytest.approx(found.now)


def test_beliefs_around_one() -> None:
    state = {"z": torch.tensor([[1.0, 0.0, 0.0]]), "memory": torch.zeros(1, 2)}
    found = belief_landscape(
        lambda s: s["z"].square().sum(dim=-1) + s["memory"].sum(dim=-1), state, torch.eye(3)[:2], ("z",), 1.0, 5
    )
    assert found.best == (-1.0, 0.0) and found.energy.min() == 0 and found.now == 1


@pytest.mark.parametrize(
    ("spec", "settings", "told"),
    [
        (Spec({"state": (3,)}, 4, True), {}, "this model has choices"),
        (SPEC, {"block": 4}, "actions of size 4 in blocks of 4"),
        (SPEC, {"dims": (0, 4)}, r"dims \(0, 4\) are not two different dimensions of an action of size 4"),
        (SPEC, {"dims": (1, 1)}, r"dims \(1, 1\) are not"),
        (SPEC, {"base": torch.zeros(7)}, r"base has shape \(7,\), an action \(4,\)"),
        (SPEC, {"points": 1}, "at least 2 points"),
        (SPEC, {"steps": 0}, "at least 1 step"),
        (SPEC, {"reach": 1.5}, r"a reach in \(0, 1\], got 1, 1.5"),
    ],
)
def test_what_has_no_landscape_of_actions(spec: Spec, settings: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        action_landscape(to(1, 1, 1), spec, 0.0, **settings)


def test_what_is_refused() -> None:
    def refused(told: str, ask) -> None:
        with pytest.raises(UserError, match=told):
            ask()

    here, eye = torch.zeros(2), torch.eye(2)
    refused("parallel, or zero", lambda: landscape(lambda p: p.sum(dim=1), here, torch.ones(2, 2)))
    refused(r"they are \(2, 2\)", lambda: landscape(lambda p: p.sum(dim=1), here, torch.eye(3)))
    refused("on the whole plane", lambda: landscape(lambda p: p.sum(dim=1) * torch.nan, here, eye))
    refused("one number for each point", lambda: landscape(lambda p: p.sum(), here, eye))
    refused("a reach above 0", lambda: landscape(lambda p: p.sum(dim=1), here, eye, reach=0.0))
    refused(r"within \[-1, 1\]", lambda: plan_landscape(to(0, 0, 0), torch.full((2, 4), 2.0), torch.ones(2, 2, 4)))
    refused("around one belief", lambda: belief_landscape(lambda s: s["z"][:, 0], {"z": torch.zeros(2, 2)}, eye))
    refused("fewer than two directions", lambda: principal(torch.arange(4.0)[:, None] * torch.ones(3)))
