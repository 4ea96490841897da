"""Regions: the way to their border, negative inside, in the unit of what is read."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from innerworld.agent.cost.readout import Decoded
from innerworld.agent.cost.regions import Box, Disc, Outside, read
from innerworld.agent.modules import Imagined
from innerworld.envs.two_rooms import Dynamics
from innerworld.errors import UserError
from innerworld.models import Oracle
from innerworld.models.oracle import OracleConfig
from innerworld.types import Spec

ORACLE = Oracle(OracleConfig(), Spec({"state": (2,)}, 2), Dynamics(size=64, speed=4.0))
AT = Decoded("state", ("x", "y"))


def at(*points: tuple[float, float]) -> Imagined:
    """One candidate that is at these points one after another."""
    states = torch.tensor(points, dtype=torch.float32)[None, None]
    return Imagined(ORACLE, {}, {"state": states}, torch.zeros(1, 1, len(points), 2))


def distances(found: Tensor) -> list[float]:
    return found[0, 0].tolist()


def test_a_disc() -> None:
    assert distances(Disc(AT, (10, 10), 5)(at((10, 10), (13, 14), (10, 30)))) == [-5, 0, 15]
    assert distances(Disc(AT, (10,), 5, ("y",))(at((99, 10), (0, 20)))) == [-5, 5]


def test_a_box() -> None:
    box = Box(AT, (0, 0), (10, 20))
    assert distances(box(at((5, 10), (9, 10), (10, 10), (13, 24), (5, -2)))) == [-5, -1, 0, 5, 2]
    half = Box(AT, (-math.inf, 0), (math.inf, math.inf))
    assert distances(half(at((5, 10), (9, -3)))) == [-10, 3]


def test_outside_is_the_other_side() -> None:
    assert distances(Outside(Disc(AT, (10, 10), 5))(at((10, 10), (10, 30)))) == [5, -15]
    assert distances(Outside(lambda future: future.states["state"][..., 0] > 1)(at((0, 0), (2, 0)))) == [True, False]


def test_some_quantities_are_read_by_name() -> None:
    assert read(AT, at((1, 2), (3, 4)), ("y",)).tolist() == [[[[2], [4]]]]


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (lambda: Disc(AT, (0, 0, 0), 1), "3 dimensions, the readout gives 2"),
        (lambda: Disc(AT, (0, 0), 0), "empty"),
        (lambda: Disc(AT, (0,), 1, ("z",)), "no 'z'"),
        (lambda: Box(AT, (0, 5), (1, 5)), "empty"),
        (lambda: Box(AT, (0,), (1,)), "1 dimensions, the readout gives 2"),
    ],
)
def test_a_region_that_does_not_fit_is_refused(region, said: str) -> None:
    with pytest.raises(UserError, match=said):
        region()
