"""What is drawn is what the scene tells: areas, places and colours of shapes, screens in front, at any size."""

from __future__ import annotations

import numpy as np
import pytest

from innerworld.envs.physics.drawing import draw
from innerworld.envs.physics.scene import FLOOR, PLANK, SHAPES, Look, Plank, Scene, Screen, Thing

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
LOOK = Look(ground=WHITE, floor=(0.5, 0.5, 0.5), plank=BLACK, screen=(0.0, 1.0, 0.0))
AREA = {"disc": np.pi, "square": 4.0, "triangle": 2.0, "diamond": 2.0}  # of a radius of 1


def still(x: float, y: float, frames: int = 2) -> np.ndarray:
    return np.tile(np.array([x, y, 0.0, 0.0]), (frames, 1, 1))


def thing(shape: str, radius: float = 6.0) -> Thing:
    return Thing(0, 0, 0, 0, radius, (1.0, 0.0, 0.0), SHAPES.index(shape))


@pytest.mark.parametrize("size", [32, 64, 96])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_its_area_and_place(shape: str, size: int) -> None:
    film = draw(Scene(LOOK, (thing(shape),), upright=False), still(30.3, 25.6), size)
    cover = 1 - film[0, :, :, 1] / 255  # red takes the green away
    assert cover.sum() * (64 / size) ** 2 == pytest.approx(AREA[shape] * 36, rel=0.06)
    middle = (np.arange(size) + 0.5) * 64 / size
    assert (cover.sum(axis=0) @ middle) / cover.sum() == pytest.approx(30.3, abs=0.1)
    lower = 2.5 if shape == "triangle" else 0.1  # its tip is up
    assert 25.5 <= (cover.sum(axis=1) @ middle) / cover.sum() + 0.1 <= 25.7 + lower
    np.testing.assert_array_equal(film[0], film[1])


def test_what_is_outside_is_not_seen_and_what_is_half_outside_is() -> None:
    scene = Scene(LOOK, (thing("disc"),), upright=False)
    assert (draw(scene, still(-20, 30), 64) == 255).all() and (draw(scene, still(30, 90), 64) == 255).all()
    half = 1 - draw(scene, still(0, 30), 64)[0, :, :, 1] / 255
    assert half.sum() == pytest.approx(np.pi * 36 / 2, rel=0.05)


def test_a_screen_is_in_front_and_rises_and_sinks() -> None:
    screen = Screen(20, 44, 16, (2, 4, 6, 8))
    film = draw(Scene(LOOK, (thing("square"),), screens=(screen,)), still(32, FLOOR - 6, 10), 64)
    red = (film == (255, 0, 0)).all(axis=-1).sum(axis=(1, 2))
    assert red[0] == red[-1] == 144 and (red[4:7] == 0).all() and 0 < red[3] < 144
    green = (film[5] == (0, 255, 0)).all(axis=-1)
    assert green[int(FLOOR) - 16 : int(FLOOR), 20:44].all() and not green[:, :20].any() and not green[:, 44:].any()


def test_planks_stand_in_the_floor() -> None:
    wall = Plank(32, FLOOR, 32, FLOOR - 12)
    film = draw(Scene(LOOK, (), (wall,)), np.zeros((1, 0, 4)), 64)
    black = 1 - film[0, : int(FLOOR), :, 0] / 255
    assert black.sum() == pytest.approx(12 * 2 * PLANK + np.pi * PLANK**2 / 2, rel=0.05)
    assert (film[0, int(FLOOR) + 1 :] == 128).all()
