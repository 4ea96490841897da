"""The energy over a grid of actions: where it is lowest, of which dimensions, in blocks, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.landscape import landscape
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel


class Point(WorldModel):
    """Moves by the first three numbers of its actions."""

    class Config(Config):
        """Nothing to set."""

    asked: list[int]

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        self.asked.append(len(action))
        return {"x": state["x"] + action.unflatten(1, (-1, 4))[..., :3].sum(dim=1)}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def point(a: int = 4, discrete: bool = False) -> Point:
    model = Point(Point.Config(), Spec({"state": (3,)}, a, discrete))
    model.asked = []
    return model


def at(*place: float) -> State:
    return {"x": torch.tensor([place], dtype=torch.float32)}


def test_the_lowest_point_leads_to_the_goal() -> None:
    found = landscape(point(), at(0, 0, 0), at(0.4, 0.3, -0.8), dims=(0, 2), points=11)
    assert found.best == pytest.approx((0.4, -0.8)) and found.energy.shape == (11, 11)
    assert found.now == pytest.approx(0.16 + 0.09 + 0.64)
    x, y = np.meshgrid(found.x, found.y)
    np.testing.assert_allclose(found.energy, (x - 0.4) ** 2 + 0.09 + (y + 0.8) ** 2, atol=1e-6)


def test_the_other_dimensions_stay_as_they_are_and_steps_add_up() -> None:
    base = torch.tensor([0.5, 0.1, 0.5, 1.0])
    found = landscape(point(), at(0, 0, 0), at(0.4, 0.2, -0.4), dims=(2, 0), reach=0.5, points=5, base=base, steps=2)
    assert found.best == pytest.approx((-0.25, 0.25)) and found.x.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    assert found.energy.min() == pytest.approx(0.1**2 * 2, abs=1e-6)  # nothing is left in the second dimension
    assert base.tolist() == pytest.approx([0.5, 0.1, 0.5, 1.0])


def test_an_action_fills_a_block() -> None:
    found = landscape(point(12), at(0, 0, 0), at(0.9, -0.3, 0), points=21, block=3)
    assert found.best == pytest.approx((0.3, -0.1)) and found.energy.min() == pytest.approx(0, abs=1e-9)


def test_candidates_are_imagined_some_at_once() -> None:
    model = point()
    together = landscape(model, at(0, 0, 0), at(1, 1, 0), points=5)
    assert model.asked == [25]
    model.asked.clear()
    np.testing.assert_allclose(landscape(model, at(0, 0, 0), at(1, 1, 0), points=5, at_once=10).energy, together.energy)
    assert model.asked == [10, 10, 5]


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        (point(4, discrete=True), {}, "this model has choices"),
        (point(4), {"block": 4}, "actions of size 4 in blocks of 4"),
        (point(4), {"dims": (0, 4)}, r"dims \(0, 4\) are not two different dimensions of an action of size 4"),
        (point(4), {"dims": (1, 1)}, r"dims \(1, 1\) are not"),
        (point(4), {"base": torch.zeros(7)}, r"base has shape \(7,\), an action \(4,\)"),
        (point(4), {"points": 1}, "at least 2 points"),
        (point(4), {"reach": 1.5}, r"a reach in \(0, 1\], got 21, 1, 1.5"),
    ],
)
def test_what_has_no_landscape(model: Point, settings: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        landscape(model, at(0, 0, 0), at(1, 1, 1), **settings)


def test_one_belief_only() -> None:
    with pytest.raises(UserError, match="one belief and one goal"):
        landscape(point(), {"x": torch.zeros(2, 3)}, at(1, 1, 1))
