"""Mazes: walls hold, ways are as long as they look, many worlds equal single ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from innerworld.envs import make
from innerworld.envs.maze import LAYOUTS, Maze, MazeConfig, MazeVector, walls
from innerworld.errors import UserError

MAZES = sorted(LAYOUTS)


def test_gymnasiums_checker_is_content() -> None:
    check_env(Maze(), skip_render_check=True)


@pytest.mark.parametrize("layout", MAZES)
def test_every_name_makes_its_maze(layout: str) -> None:
    worlds = make(f"maze_{layout}", 2, size=48, seed=0)
    obs, _ = worlds.reset(seed=0)
    assert obs["pixels"].shape == (2, 48, 48, 3) and worlds.config.layout == layout  # pyright: ignore


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(MAZES), st.integers(0, 10_000), st.floats(0.05, 0.5), st.floats(0.05, 0.49))
def test_nobody_enters_a_wall(layout: str, seed: int, speed: float, radius: float) -> None:
    worlds = MazeVector(20, MazeConfig(layout=layout, speed=speed, radius=radius))  # pyright: ignore
    worlds.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(30):
        worlds.step(rng.choice([-1.0, 1.0, 0.3], (20, 2)))
        assert worlds._free(worlds.position).all()


def test_where_one_came_one_can_begin() -> None:
    """A corner a rounding error beside a wall, as stepping led there; the law itself does not see it in the wall."""
    worlds = MazeVector(1, MazeConfig(layout="medium", size=50))
    at = np.array([[14.374, 25.40725]], np.float32)
    obs, _ = worlds.reset(options={"state": at})
    np.testing.assert_array_equal(obs["state"], at)
    still = worlds.dynamics()({"state": torch.from_numpy(at)}, torch.zeros(1, 2))["state"]
    np.testing.assert_array_equal(still, at)


def test_a_wall_stops_and_lets_slide() -> None:
    """In the u, from the middle of its upper left cell: up and right is only right."""
    config = MazeConfig(layout="u", size=50, speed=0.5, radius=0.3)
    world = Maze(config)
    world.reset(options={"state": [15.0, 15.0]})
    for _ in range(2):
        obs, *_ = world.step(np.array([1.0, -1.0], np.float32))
    assert obs["state"][0] == pytest.approx(25) and obs["state"][1] == pytest.approx(13, abs=0.01)


def test_ways_go_around_walls() -> None:
    """In the u, the two ends are near as the crow flies, and far to walk."""
    worlds = MazeVector(1, MazeConfig(layout="u", size=50))
    top, bottom = np.array([[15.0, 15.0]]), np.array([[15.0, 35.0]])
    assert worlds.path(top, bottom).tolist() == [6.0]
    assert worlds.path(top, top).tolist() == [0.0]
    assert not worlds.success(top, bottom)[0] and worlds.success(top, top + 1)[0]


@pytest.mark.parametrize("layout", MAZES)
def test_every_open_cell_can_be_reached(layout: str) -> None:
    worlds = MazeVector(1, MazeConfig(layout=layout))  # pyright: ignore
    cells = (np.argwhere(~walls(layout))[:, ::-1] + 0.5) * worlds.cell
    a, b = np.repeat(cells, len(cells), axis=0), np.tile(cells, (len(cells), 1))
    assert np.isfinite(worlds.path(a, b)).all()


def test_many_worlds_are_single_ones() -> None:
    many, rng = MazeVector(3), np.random.default_rng(0)
    obs, _ = many.reset(seed=5)
    ones = [Maze() for _ in range(3)]
    firsts = [world.reset(seed=5 + i)[0] for i, world in enumerate(ones)]
    for _ in range(10):
        for i, first in enumerate(firsts):
            np.testing.assert_array_equal(obs["pixels"][i], first["pixels"])
            np.testing.assert_array_equal(obs["state"][i], first["state"])
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        obs, *_ = many.step(actions)
        firsts = [world.step(action)[0] for world, action in zip(ones, actions, strict=True)]


def test_the_oracle_s_law_is_the_world_s() -> None:
    worlds = MazeVector(8)
    obs, _ = worlds.reset(seed=0)
    action = np.random.default_rng(0).uniform(-1, 1, (8, 2)).astype(np.float32)
    foreseen = worlds.dynamics()({"state": torch.from_numpy(obs["state"])}, torch.from_numpy(action))["state"]
    np.testing.assert_array_equal(worlds.step(action)[0]["state"], foreseen.numpy())


def test_bad_input_is_told() -> None:
    worlds = MazeVector(1)
    with pytest.raises(UserError, match="touches a wall"):
        worlds.reset(options={"state": [[1.0, 1.0]]})
    with pytest.raises(UserError, match=r"shape \(2, 2\), expected \(1, 2\)"):
        worlds.step(np.zeros((2, 2)))
    with pytest.raises(UserError, match="outside"):
        worlds.step(np.array([[2.0, 0.0]]))
