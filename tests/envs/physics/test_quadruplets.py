"""Impossible films are made of the frames of possible ones, and even of their pairs of successive frames."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pymunk")

from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.envs.physics.quadruplets import film, possible, quadruplets
from innerworld.envs.physics.scene import FRAMES, HIDDEN, STATE
from innerworld.errors import UserError

NAMES = sorted(PRINCIPLES)


def test_there_are_at_least_eight() -> None:
    assert len(PRINCIPLES) >= 8


@pytest.mark.parametrize("size", [64, 32])
@pytest.mark.parametrize("name", NAMES)
def test_no_frame_and_no_two_successive_frames_tell_the_impossible(name: str, size: int) -> None:
    """As often as in the impossible two, each frame, and each pair of successive frames, is in the possible two."""
    made = quadruplets(name, 12, seed=7, size=size)
    for films, cut in zip(made.sensors["pixels"], made.cut, strict=True):
        frames = [[frame.tobytes() for frame in film] for film in films]
        alone = [Counter(film) for film in frames]
        pairs = [Counter(pairwise(film)) for film in frames]
        assert alone[2] + alone[3] == alone[0] + alone[1]
        assert pairs[2] + pairs[3] == pairs[0] + pairs[1]
        assert frames[0][cut] == frames[1][cut]
        assert frames[2][: cut + 1] == frames[0][: cut + 1] and frames[2][cut:] == frames[1][cut:]
        assert frames[3][: cut + 1] == frames[1][: cut + 1] and frames[3][cut:] == frames[0][cut:]
        # What is shown before and after the cut does differ, and long enough to be seen.
        before = sum(a != b for a, b in zip(frames[0][:cut], frames[1][:cut], strict=True))
        after = sum(a != b for a, b in zip(frames[0][cut:], frames[1][cut:], strict=True))
        assert before >= 3 and after >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_quadruplet_depends_on_its_seed_and_number_alone(name: str) -> None:
    all_of_them = quadruplets(name, 5, seed=3, size=32)
    some = quadruplets(name, 2, seed=3, size=32, first=3)
    for sensor, value in some.sensors.items():
        np.testing.assert_array_equal(value, all_of_them.sensors[sensor][3:])
    other = quadruplets(name, 5, seed=4, size=32)
    assert not np.array_equal(other.sensors["pixels"], all_of_them.sensors["pixels"])
    assert len({films.tobytes() for films in all_of_them.sensors["pixels"]}) == 5


def test_sensors_have_their_shapes_and_numbers() -> None:
    made = quadruplets("permanence", 2, size=48).sensors
    assert made["pixels"].shape == (2, 4, FRAMES, 48, 48, 3) and made["pixels"].dtype == np.uint8
    assert made["state"].shape == (2, 4, FRAMES, len(STATE)) and made["hidden"].shape == (2, 4, FRAMES, len(HIDDEN))
    there = made["state"][:, :, :, STATE.index("thing_0.there")]
    assert sorted(there[0, :2, 0].tolist()) == [0, 1]  # one of the two possible films has the thing
    for films in there:  # the impossible ones exchange it
        assert {films[2, 0], films[2, -1]} == {0, 1} and films[2, 0] == films[0, 0]


def test_what_is_hidden_is_not_seen_and_nothing_else_is_hidden() -> None:
    """While a thing is told to be hidden its picture is that of a film without it."""
    made = quadruplets("permanence", 20, seed=2)
    hidden = made.sensors["hidden"][..., HIDDEN.index("thing_0.hidden")] > 0.5  # q 4 t
    assert hidden.any(axis=-1).sum() == 20 * 3  # one of the possible films has no such thing, and never hides it
    for films, told in zip(made.sensors["pixels"], hidden, strict=True):
        a, b = films[0], films[1]
        whole = told[0] | told[1]
        same = (a == b).reshape(FRAMES, -1).all(axis=1)
        assert (whole <= same).all() and not same[[0, 1, 2, 3, -1, -2, -3]].any()


def test_possible_films_differ_and_are_of_all_principles() -> None:
    films = possible(60, seed=1, size=32)
    assert films["pixels"].shape == (60, FRAMES, 32, 32, 3)
    upright = films["state"][:, 0, 0]
    assert 0 < (upright == 0).sum() < 30  # those of inertia are seen from above
    again = possible(3, seed=1, size=32)
    np.testing.assert_array_equal(again["pixels"], films["pixels"][:3])
    assert len({each.tobytes() for each in films["pixels"]}) == 60
    from_above = film(np.random.default_rng(0), 32, ("inertia",))
    assert (from_above["state"][:, 0] == 0).all()


def test_mistakes() -> None:
    with pytest.raises(UserError, match="Did you mean 'solidity'"):
        quadruplets("solidty", 1)
    with pytest.raises(UserError, match="at least 1"):
        quadruplets("solidity", 0)
