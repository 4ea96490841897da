"""Two rooms: walls hold, the door passes, variations vary what they say, many worlds equal single ones."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from innerworld.envs.two_rooms import BORDER, VARIATIONS, WALL_THICKNESS, TwoRooms, TwoRoomsConfig, TwoRoomsVector
from innerworld.errors import UserError

ALL = tuple(VARIATIONS)
CONFIG = TwoRoomsConfig()


def at(x: float, y: float, config: TwoRoomsConfig | None = None) -> TwoRooms:
    world = TwoRooms(config)
    world.reset(options={"state": [x, y]})
    return world


def walk(world: TwoRooms, action: tuple[float, float], steps: int) -> np.ndarray:
    for _ in range(steps):
        obs, *_ = world.step(np.array(action, np.float32))
    return obs["state"]


def test_gymnasiums_checker_is_content():
    check_env(TwoRooms(), skip_render_check=True)


def test_sensors():
    world = TwoRooms()
    obs, _ = world.reset(seed=0)
    assert obs["pixels"].shape == (64, 64, 3) and obs["pixels"].dtype == np.uint8
    assert obs["state"].shape == (2,) and obs["state"].dtype == np.float32
    assert obs["layout"].shape == (4,) and obs["layout"].dtype == np.float32
    assert world.observation_space.contains(obs)
    assert np.array_equal(world.render(), obs["pixels"])


def test_the_same_seed_gives_the_same_experience():
    def run(seed: int) -> list[dict[str, np.ndarray]]:
        worlds = TwoRoomsVector(2, TwoRoomsConfig(variation=ALL))
        worlds.action_space.seed(seed)
        seen = [worlds.reset(seed=seed)[0]]
        seen += [worlds.step(worlds.action_space.sample())[0] for _ in range(5)]
        return [*seen, worlds.reset()[0]]

    for a, b in zip(run(1), run(1), strict=True):
        np.testing.assert_equal(a, b)
    assert not np.array_equal(run(1)[0]["state"], run(2)[0]["state"])


def test_a_reset_without_seed_goes_on_drawing():
    world = TwoRooms()
    first, _ = world.reset(seed=0)
    second, _ = world.reset()
    assert not np.array_equal(first["state"], second["state"])


def test_observations_are_not_changed_by_later_steps():
    worlds = TwoRoomsVector(2)
    first, _ = worlds.reset(seed=0)
    kept = {name: value.copy() for name, value in first.items()}
    worlds.step(np.ones((2, 2), np.float32))
    worlds.reset(seed=5)
    np.testing.assert_equal(first, kept)


def test_a_free_step_goes_speed_times_action():
    world = at(14, 40)
    np.testing.assert_allclose(walk(world, (0.5, -1.0), 1), [14 + 0.5 * CONFIG.speed, 40 - CONFIG.speed], atol=1e-5)


@pytest.mark.parametrize(("start", "push"), [((20, 45), (1, 0)), ((44, 45), (-1, 0)), ((20, 50), (1, 0.3))])
def test_the_wall_holds(start: tuple[float, float], push: tuple[float, float]):
    world = at(*start)
    x, _ = walk(world, push, 12)
    reach = WALL_THICKNESS / 2 + CONFIG.radius
    assert x == pytest.approx(CONFIG.wall - np.sign(push[0]) * reach, abs=1e-4)


@pytest.mark.parametrize("push", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)])
def test_the_border_holds(push: tuple[float, float]):
    start = (50, 45) if push[0] > 0 else (14, 45)
    end = walk(at(*start), push, 25)
    low, high = BORDER + CONFIG.radius, CONFIG.size - BORDER - CONFIG.radius
    for i in range(2):
        if push[i]:
            assert end[i] == pytest.approx(high if push[i] > 0 else low, abs=1e-4)


@pytest.mark.parametrize(("start", "push"), [((16, 20), (1.0, 0.0)), ((48, 20), (-1.0, 0.0))])
def test_the_door_passes(start: tuple[float, float], push: tuple[float, float]):
    world = at(*start)
    before = world.worlds.room(np.array([start]))
    end = walk(world, push, 10)
    assert world.worlds.room(end[None]) != before
    assert end[1] == pytest.approx(20)


def test_the_doors_posts_hold_inside_the_door():
    end = walk(at(CONFIG.wall, CONFIG.door), (0, 1), 5)
    np.testing.assert_allclose(end, [CONFIG.wall, CONFIG.door + CONFIG.door_width / 2 - CONFIG.radius], atol=1e-4)


@pytest.mark.parametrize("speed", [4.0, 8.0])
def test_no_walk_of_any_kind_crosses_the_wall_beside_the_door(speed: float):
    config = TwoRoomsConfig(speed=speed, variation=ALL, steps=10_000)
    n = 128
    worlds = TwoRoomsVector(n, config)
    before = worlds.reset(seed=0)[0]["state"]
    rng = np.random.default_rng(0)
    layout = worlds.layout
    gap = layout.door_width / 2 - layout.radius
    reach = WALL_THICKNESS / 2 + layout.radius
    crossings = 0
    for step in range(300):
        action = rng.uniform(-1, 1, (n, 2)) if step % 2 else rng.choice([-1.0, 1.0], (n, 2))
        after = worlds.step(action)[0]["state"]
        inside = np.abs(after[:, 0] - layout.wall) < reach - 1e-3
        assert np.all(np.abs(after[:, 1] - layout.door)[inside] <= gap[inside] + 1e-3)
        crossed = worlds.room(before) != worlds.room(after)
        assert np.all(np.abs(after - before) <= speed + 1e-3)  # nothing is moved by a wall, only held
        beside = np.abs(after[:, 1] - layout.door) > gap + speed + 1e-3  # too far off to have come through the door
        assert not np.any(crossed & beside)
        low, high = BORDER + layout.radius[:, None], config.size - BORDER - layout.radius[:, None]
        assert np.all((after >= low - 1e-3) & (after <= high + 1e-3))
        crossings += int(crossed.sum())
        before = after
    assert crossings > 20  # the door was found, so the walks tested something


def test_starts_are_free_and_in_both_rooms():
    worlds = TwoRoomsVector(400, TwoRoomsConfig(variation=ALL))
    state = worlds.reset(seed=0)[0]["state"]
    layout = worlds.layout
    in_wall = np.abs(state[:, 0] - layout.wall) < WALL_THICKNESS / 2 + layout.radius
    in_door = np.abs(state[:, 1] - layout.door) <= layout.door_width / 2 - layout.radius
    assert not np.any(in_wall & ~in_door)
    assert 100 < worlds.room(state).sum() < 300


def test_the_picture_shows_agent_wall_and_door():
    obs, _ = TwoRooms().reset(options={"state": [15, 45]})
    picture = obs["pixels"].astype(float) / 255
    np.testing.assert_allclose(picture[45, 15], CONFIG.agent_color, atol=0.01)
    np.testing.assert_allclose(picture[50, 32], CONFIG.wall_color, atol=0.01)
    np.testing.assert_allclose(picture[0, 15], CONFIG.wall_color, atol=0.01)
    np.testing.assert_allclose(picture[20, 32], CONFIG.floor_color, atol=0.01)
    np.testing.assert_allclose(picture[20, 50], CONFIG.floor_color, atol=0.01)


def test_the_agent_is_drawn_where_it_is_to_a_part_of_a_pixel():
    for x, y in ((15.0, 45.0), (15.5, 45.25), (14.9, 30.4)):
        empty = TwoRooms().reset(options={"state": [55, 55]})[0]["pixels"].astype(float)
        picture = TwoRooms().reset(options={"state": [x, y]})[0]["pixels"].astype(float)
        ink = np.abs(picture - empty).sum(-1)[:, :30]  # the left room only
        middle = np.arange(64) + 0.5
        centre = (ink.sum(0) @ middle[:30] / ink.sum(), ink.sum(1) @ middle / ink.sum())
        np.testing.assert_allclose(centre, (x, y), atol=0.1)


def drawn(worlds: TwoRoomsVector) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in vars(worlds.layout).items()}


@pytest.mark.parametrize("factor", ALL)
def test_a_variation_changes_its_factor_alone_within_its_range(factor: str):
    plain, varied = TwoRoomsVector(64), TwoRoomsVector(64, TwoRoomsConfig(variation=(factor,)))
    plain.reset(seed=0)
    varied.reset(seed=0)
    low, high = (bound * (1 if factor.endswith("color") else 64) for bound in VARIATIONS[factor])
    for name, value in drawn(varied).items():
        if name == factor:
            assert low <= value.min() and value.max() <= high
            assert np.ptp(value) > 0.8 * (high - low)
        else:
            assert np.array_equal(value, drawn(plain)[name])


@pytest.mark.parametrize("factor", ALL)
def test_a_variation_is_seen_in_the_picture(factor: str):
    def picture(value: float) -> Any:
        options = {"state": [[12, 50]], "variation_values": {factor: value}}
        return TwoRoomsVector(1).reset(options=options)[0]["pixels"]

    low, high = (bound * (1 if factor.endswith("color") else 64) for bound in VARIATIONS[factor])
    assert not np.array_equal(picture(low), picture(high))
    assert np.array_equal(picture(low), picture(low))


def test_the_door_that_is_drawn_is_the_door_that_passes():
    for door in (20.0, 44.0):
        world = TwoRooms()
        world.reset(options={"state": [16, 44], "variation_values": {"door": door}})
        end = walk(world, (1, 0), 10)
        assert (world.worlds.room(end[None])[0] == 1) == (door == 44.0)


def test_variation_values_may_differ_between_worlds():
    worlds = TwoRoomsVector(2)
    worlds.reset(options={"variation_values": {"wall": [25.0, 39.0]}})
    assert worlds.layout.wall.tolist() == [25, 39]


def test_a_reset_mask_leaves_the_others_alone():
    worlds = TwoRoomsVector(3, TwoRoomsConfig(variation=ALL, steps=4))
    worlds.reset(seed=0)
    before, *_ = worlds.step(np.ones((3, 2)))
    kept = drawn(worlds)
    after, _ = worlds.reset(options={"reset_mask": np.array([False, True, False])})
    for i in (0, 2):
        np.testing.assert_equal({k: v[i] for k, v in after.items()}, {k: v[i] for k, v in before.items()})
        assert all(np.array_equal(drawn(worlds)[name][i], value[i]) for name, value in kept.items())
    assert not np.array_equal(after["pixels"][1], before["pixels"][1])
    for _ in range(2):
        worlds.step(np.zeros((3, 2)))
    assert worlds.step(np.zeros((3, 2)))[3].tolist() == [True, False, True]


def test_reset_puts_the_state():
    states = np.array([[10.0, 12.0], [50.0, 40.0]], np.float32)
    obs, _ = TwoRoomsVector(2).reset(options={"state": states})
    assert np.array_equal(obs["state"], states)


@pytest.mark.parametrize("state", [[32, 50], [1, 30], [30, 70]])
def test_a_state_in_a_wall_is_refused(state: list[float]):
    with pytest.raises(UserError, match="lies in a wall or outside"):
        TwoRooms().reset(options={"state": state})


def test_many_worlds_equal_single_ones_step_for_step():
    config = TwoRoomsConfig(variation=ALL, steps=5)
    many, single = TwoRoomsVector(3, config), [TwoRooms(config) for _ in range(3)]
    obs, _ = many.reset(seed=11)
    alone = [world.reset(seed=11 + i)[0] for i, world in enumerate(single)]
    rng = np.random.default_rng(0)
    for _ in range(5):
        for i in range(3):
            np.testing.assert_equal({name: value[i] for name, value in obs.items()}, alone[i])
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        obs, reward, terminated, truncated, _ = many.step(action)
        results = [world.step(action[i]) for i, world in enumerate(single)]
        alone = [result[0] for result in results]
        for k, together in ((1, reward), (2, terminated), (3, truncated)):
            assert together.tolist() == [result[k] for result in results]
    assert truncated.all()


def test_the_spaces_of_many_worlds():
    worlds = TwoRoomsVector(3)
    assert worlds.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    obs, _ = worlds.reset(seed=0)
    assert worlds.observation_space.contains(obs)
    assert isinstance(worlds, gymnasium.vector.VectorEnv) and worlds.action_space.shape == (3, 2)


def test_the_oracles_dynamics_are_the_worlds_own():
    worlds = TwoRoomsVector(4, TwoRoomsConfig(variation=ALL))
    before = {name: torch.from_numpy(value) for name, value in worlds.reset(seed=0)[0].items() if name != "pixels"}
    action = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    foreseen = worlds.dynamics()(before, torch.from_numpy(action))
    after = worlds.step(action)[0]
    for name in ("state", "layout"):
        np.testing.assert_array_equal(foreseen[name].numpy(), after[name])


def test_the_layout_sensor_says_what_was_drawn():
    worlds = TwoRoomsVector(3, TwoRoomsConfig(variation=ALL))
    obs, _ = worlds.reset(seed=0)
    layout = worlds.layout
    expected = np.stack([layout.wall, layout.door, layout.door_width, layout.radius], axis=1)
    np.testing.assert_array_equal(obs["layout"], expected)


def test_a_world_changes_between_episodes():
    worlds, start = TwoRoomsVector(1), [[27.0, 44.0]]
    push = np.array([[1.0, 0.0]], np.float32)
    worlds.reset(options={"state": start})
    assert worlds.step(push)[0]["state"][0, 0] < 28  # a wall
    worlds.reset(options={"state": start, "variation_values": {"door": 44.0}})
    assert worlds.step(push)[0]["state"][0, 0] == 31  # a door
    worlds.config = worlds.config.model_copy(update={"speed": 2.0})  # as with twice the mass
    worlds.reset(options={"state": start, "variation_values": {"door": 44.0}})
    assert worlds.step(push)[0]["state"][0, 0] == 29


def test_success_is_a_distance():
    worlds = TwoRoomsVector(2)
    state = np.array([[10.0, 10.0], [10.0, 10.0]])
    assert worlds.success(state, state + np.array([[1.9, 0], [2.1, 0]])).tolist() == [True, False]


def test_mistakes_are_refused():
    worlds = TwoRoomsVector(2)
    worlds.reset(seed=0)
    with pytest.raises(UserError, match="expected"):
        worlds.step(np.zeros((1, 2)))
    for bad in (1.1, np.nan):
        with pytest.raises(UserError, match=r"outside \[-1, 1\]"):
            worlds.step(np.full((2, 2), bad))
    with pytest.raises(UserError, match=r"unknown variation 'dor'\. Did you mean 'door'"):
        worlds.reset(options={"variation": ["dor"]})
    with pytest.raises(UserError, match="unknown variation"):
        TwoRoomsVector(1, TwoRoomsConfig(variation=("colour",)))
    with pytest.raises(UserError, match="does not fit the door"):
        TwoRoomsVector(1, TwoRoomsConfig(door_width=4.0))
