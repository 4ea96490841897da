"""What moves behind: it changes at each step, by seed alone, hides neither agent nor goal and changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from innerworld.envs import make
from innerworld.envs.backdrop import BACKDROPS
from innerworld.envs.two_rooms import TwoRooms, TwoRoomsConfig, TwoRoomsVector

WORLDS = ("two_rooms_noise", "two_rooms_blobs")
MOVING = tuple(BACKDROPS)


def frames(backdrop: str, seed: int, n: int = 2, steps: int = 6) -> dict[str, np.ndarray]:
    """Sensors `t n ...` of walks that the seed draws."""
    worlds = TwoRoomsVector(n, TwoRoomsConfig.model_validate({"backdrop": backdrop}))
    worlds.action_space.seed(seed)
    seen = [worlds.reset(seed=seed)[0]]
    seen += [worlds.step(worlds.action_space.sample())[0] for _ in range(steps)]
    return {name: np.stack([obs[name] for obs in seen]) for name in seen[0]}


@pytest.mark.parametrize("backdrop", MOVING)
def test_the_seed_decides_what_moves(backdrop: str):
    np.testing.assert_equal(frames(backdrop, 1), frames(backdrop, 1))
    assert not np.array_equal(frames(backdrop, 1)["pixels"], frames(backdrop, 2)["pixels"])
    pixels = frames(backdrop, 1)["pixels"]
    assert not np.array_equal(pixels[:, 0], pixels[:, 1])  # each world has its own


@pytest.mark.parametrize("backdrop", MOVING)
def test_all_other_sensors_are_those_of_the_still_world(backdrop: str):
    still, moving = frames("still", 3), frames(backdrop, 3)
    for name in ("state", "layout"):
        np.testing.assert_array_equal(still[name], moving[name])
    assert not np.array_equal(still["pixels"], moving["pixels"])


@pytest.mark.parametrize("backdrop", MOVING)
def test_it_moves_while_the_agent_stands_still(backdrop: str):
    worlds = TwoRoomsVector(1, TwoRoomsConfig.model_validate({"backdrop": backdrop}))
    before = worlds.reset(seed=0)[0]
    after = worlds.step(np.zeros((1, 2), np.float32))[0]
    np.testing.assert_array_equal(before["state"], after["state"])
    assert (before["pixels"] != after["pixels"]).any(-1).mean() > 0.01  # of the picture


def test_noise_tells_nothing_of_the_next_frame():
    worlds = TwoRoomsVector(32, TwoRoomsConfig(backdrop="noise"))
    seen = [worlds.reset(seed=0, options={"state": [[50.0, 50.0]] * 32})[0]["pixels"]]
    seen += [worlds.step(np.zeros((32, 2), np.float32))[0]["pixels"] for _ in range(8)]
    floor = np.stack(seen)[:, :, 10:30:4, 6:26:4].astype(float)  # t n y x c, a pixel of each cell: only floor is here
    floor -= floor.mean((0, 1, 2, 3))  # the floor's own colour
    before, after = floor[:-1].ravel(), floor[1:].ravel()
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.03  # of 19,200 pairs: four times the spread of independent ones
    assert floor.std() > 20


def test_blobs_keep_their_speed_and_stay_in_the_picture():
    blobs = BACKDROPS["blobs"](64, 64, 0.4)
    blobs.begin(np.arange(64), [np.random.default_rng(i) for i in range(64)])
    before = vars(blobs)["_place"].copy()
    for _ in range(100):
        blobs.move()
    place, way = vars(blobs)["_place"], vars(blobs)["_way"]
    assert place.min() >= 0 and place.max() <= 1
    assert way.std() == pytest.approx(0.05, rel=0.1)
    assert np.abs(place - before).mean() > 0.15


@pytest.mark.parametrize("backdrop", MOVING)
def test_the_agent_is_the_reddest_thing_wherever_it_is(backdrop: str):
    worlds = TwoRoomsVector(64, TwoRoomsConfig.model_validate({"backdrop": backdrop}))
    obs, _ = worlds.reset(seed=0)
    picture = obs["pixels"].astype(float)
    red = picture[..., 0] - picture[..., 2]  # n y x
    row, column = np.divmod(red.reshape(64, -1).argmax(-1), 64)
    found = np.stack([column, row], -1) + 0.5
    assert np.linalg.norm(found - obs["state"], axis=-1).max() < 3


def test_the_walls_do_not_flicker():
    seen = frames("noise", 0)["pixels"]
    wall = np.ptp(seen[:, :, 50, 32].astype(int), axis=0)  # below the door; the agents may walk there, but not in it
    border = np.ptp(seen[:, :, 0].astype(int), axis=0)
    assert wall.max() == border.max() == 0


@pytest.mark.parametrize("backdrop", MOVING)
def test_a_reset_of_some_moves_nothing_in_the_others(backdrop: str):
    worlds = TwoRoomsVector(3, TwoRoomsConfig.model_validate({"backdrop": backdrop}))
    worlds.reset(seed=0)
    before = worlds.step(np.zeros((3, 2), np.float32))[0]["pixels"]
    after = worlds.reset(options={"reset_mask": np.array([False, True, False])})[0]["pixels"]
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    assert not np.array_equal(before[1], after[1])


@pytest.mark.parametrize("backdrop", MOVING)
def test_a_picture_drawn_twice_is_the_same(backdrop: str):
    world = TwoRooms(TwoRoomsConfig.model_validate({"backdrop": backdrop}))
    obs, _ = world.reset(seed=0)
    np.testing.assert_array_equal(world.render(), obs["pixels"])


def test_strength_zero_is_the_still_floor():
    def picture(**settings: object) -> np.ndarray:
        world = TwoRoomsVector(1, TwoRoomsConfig.model_validate(settings))
        return world.reset(seed=0)[0]["pixels"]

    np.testing.assert_array_equal(picture(), picture(backdrop="noise", backdrop_strength=0.0))


@pytest.mark.parametrize("id", WORLDS)
def test_the_named_worlds_move_at_any_size(id: str):
    for size in (32, 50):
        worlds = make(id, 2, size=size, max_steps=3)
        before = worlds.reset(seed=0)[0]["pixels"]
        after, _, _, _, _ = worlds.step(np.zeros((2, 2), np.float32))
        assert after["pixels"].shape == (2, size, size, 3)
        assert not np.array_equal(before, after["pixels"])
