"""In three dimensions the same is seen: places, colours and what is hidden, and no frame gives the impossible away."""

from __future__ import annotations

import sys
from collections import Counter
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pymunk")
if find_spec("mujoco") is None:  # importing it here would choose how it draws
    pytest.skip("MuJoCo is not installed", allow_module_level=True)

from innerworld.envs.physics import solid
from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.envs.physics.quadruplets import film, quadruplets
from innerworld.envs.physics.scene import FLOOR, SHAPES, Look, Scene, Screen, Thing
from innerworld.envs.physics.solid import draw_solid
from innerworld.envs.physics.world import PhysicsConfig, PhysicsVector
from innerworld.errors import UserError

LOOK = Look((0.9, 0.9, 0.9), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1), (0.2, 0.4, 0.2))
RED = (0.9, 0.1, 0.1)


def still(x: float, y: float, frames: int = 2) -> np.ndarray:
    return np.tile(np.array([x, y, 0.0, 0.0]), (frames, 1, 1))


def red(picture: np.ndarray) -> np.ndarray:
    """Where a picture is red: `y x` bool."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    return (r > 2 * g) & (r > 2 * b)


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_is_seen_where_it_is(shape: str, upright: bool) -> None:
    thing = Thing(0, 0, 0, 0, 6.0, RED, SHAPES.index(shape))
    film = draw_solid(Scene(LOOK, (thing,), upright=upright), still(22, 40), 64)
    rows, columns = np.nonzero(red(film[0]))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((22, 40), abs=1.2)
    assert 40 < len(rows) < 180
    np.testing.assert_array_equal(film[0], film[1])


def test_a_film_does_not_remember_the_one_before() -> None:
    thing = Thing(0, 0, 0, 0, 6.0, RED)
    alone = draw_solid(Scene(LOOK, (thing,)), still(40, 50), 32)
    screen = Screen(10, 30, 20)
    draw_solid(Scene(LOOK, (thing, thing), screens=(screen,)), np.concatenate([still(9, 9), still(50, 9)], axis=1), 32)
    np.testing.assert_array_equal(draw_solid(Scene(LOOK, (thing,)), still(40, 50), 32), alone)


def test_a_screen_hides_what_is_behind_it() -> None:
    thing, screen = Thing(0, 0, 0, 0, 6.0, RED, 1), Screen(20, 44, 16, (2, 4, 6, 8))
    film = draw_solid(Scene(LOOK, (thing,), screens=(screen,)), still(32, FLOOR - 6, 10), 64)
    seen = [int(red(picture).sum()) for picture in film]
    assert seen[0] == seen[-1] > 100 and seen[4:7] == [0, 0, 0]


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("name", sorted(PRINCIPLES))
def test_no_frame_and_no_two_successive_frames_tell_the_impossible(name: str, size: int) -> None:
    made = quadruplets(name, 4, seed=7, size=size, dimensions=3)
    flat = quadruplets(name, 4, seed=7, size=size)
    np.testing.assert_array_equal(made.sensors["state"], flat.sensors["state"])  # what happens is the same
    for films, cut in zip(made.sensors["pixels"], made.cut, strict=True):
        frames = [[frame.tobytes() for frame in film] for film in films]
        pairs = [Counter(pairwise(film)) for film in frames]
        assert frames[0][cut] == frames[1][cut] and pairs[2] + pairs[3] == pairs[0] + pairs[1]
        assert frames[2] != frames[0] and frames[3] != frames[1]


def test_it_is_a_world_and_of_any_size() -> None:
    worlds = PhysicsVector(1, PhysicsConfig(size=40, dimensions=3))
    obs, _ = worlds.reset(seed=3)
    expected = film(np.random.default_rng(3), 40, dimensions=3)
    np.testing.assert_array_equal(obs["pixels"][0], expected["pixels"][0])
    assert expected["pixels"].shape[1:] == (40, 40, 3) and expected["pixels"].std() > 5


def test_without_mujoco_it_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    solid._stage.cache_clear()
    with pytest.raises(UserError, match=r'pip install "innerworld\[mujoco\]"'):
        draw_solid(Scene(LOOK, ()), np.zeros((1, 0, 4)), 8)
