"""The engine's world obeys the laws that we know on paper, and a state tells all that follows."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("pymunk")

from innerworld.envs.physics.engine import Law, after_of, follow
from innerworld.envs.physics.principles import PRINCIPLES, draw_pair
from innerworld.envs.physics.scene import FALL, FLOOR, PLANK, STATE, Look, Plank, Scene, Thing, scene_of, state_of
from innerworld.errors import UserError

BLACK = (0.0, 0.0, 0.0)
LOOK = Look(BLACK, BLACK, BLACK, BLACK)


def ball(x: float, y: float, vx: float = 0.0, vy: float = 0.0) -> Thing:
    return Thing(x, y, vx, vy, 4.0, BLACK)


def test_a_thing_falls_as_galilei_says_and_stays_on_the_floor() -> None:
    path = follow(Scene(LOOK, (ball(32, 4),)))[:, 0]
    t = np.arange(12)
    np.testing.assert_allclose(path[:12, 1], 4 + FALL * t**2 / 2, atol=FALL * 2)  # the engine's steps are finite
    assert (path[:, 0] == 32).all()
    np.testing.assert_allclose(path[-3:, 1], FLOOR - 4, atol=0.05)


def test_seen_from_above_it_glides_for_ever() -> None:
    path = follow(Scene(LOOK, (ball(10, 10, 1.25, 0.5),), upright=False))[:, 0]
    t = np.arange(len(path))
    np.testing.assert_array_equal(path[:, :2], np.stack([10 + 1.25 * t, 10 + 0.5 * t], axis=1))


def test_a_hit_hands_the_way_on_and_keeps_momentum() -> None:
    path = follow(Scene(LOOK, (ball(10, FLOOR - 4, 1.5), ball(40, FLOOR - 4))))
    np.testing.assert_allclose(path[:, :, 2].sum(axis=1), 1.5, atol=1e-6)
    np.testing.assert_allclose(path[0, :, 2], [1.5, 0])
    np.testing.assert_allclose(path[-1, :, 2], [0, 1.5], atol=1e-3)


def test_a_wall_sends_back_and_a_shelf_carries() -> None:
    wall = Plank(40, FLOOR, 40, FLOOR - 12, bounce=1.0)
    path = follow(Scene(LOOK, (ball(10, FLOOR - 4, 2.0),), (wall,)))[:, 0]
    assert path[:, 0].max() <= 40 - PLANK - 4 + 0.5 and path[-1, 2] == pytest.approx(-2, abs=1e-3)
    path = follow(Scene(LOOK, (ball(32, 20),), (Plank(26, 40, 38, 40),)))[:, 0]
    np.testing.assert_allclose(path[-3:, 1], 40 - PLANK - 4, atol=0.05)


@pytest.mark.parametrize("name", sorted(PRINCIPLES))
def test_a_state_tells_all_that_follows(name: str) -> None:
    """One frame from each told state is the next state of the film, to what is rounded."""
    pair = draw_pair(name, np.random.default_rng(0))
    for scene in (pair.one, pair.other):
        state = state_of(scene, follow(scene))
        assert len(scene_of(state[0]).planks) == len(scene.planks)
        for t in range(len(state) - 1):
            np.testing.assert_allclose(after_of(state[t].astype(np.float64)), state[t + 1], atol=0.02)


def test_the_law_is_one_of_state_alone() -> None:
    state = torch.zeros(2, len(STATE))
    assert torch.equal(Law()({"state": state}, torch.zeros(2, 0))["state"], state)  # nothing is there
    with pytest.raises(UserError, match="of state alone"):
        Law()({"state": state, "pixels": state}, torch.zeros(2, 0))


def test_without_pymunk_it_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymunk", None)
    with pytest.raises(UserError, match=r'pip install "innerworld\[physics\]"'):
        follow(Scene(LOOK, (ball(1, 1),)))
