"""Matched films: impossible ones stand with those that they begin as; ours are drawn when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from innerworld.data.matched import PhysicsFilms, in_order
from innerworld.envs.physics.quadruplets import quadruplets
from innerworld.errors import UserError


def film(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def test_the_order_is_that_of_the_beginnings_and_else_as_they_come() -> None:
    a, b = film(0), film(1)
    c, d = np.concatenate([a[:3], b[3:]]), np.concatenate([b[:3], a[3:]])
    np.testing.assert_array_equal(in_order([a, b], [d, c]), np.stack([a, b, c, d]))
    np.testing.assert_array_equal(in_order([a, b], [c, d]), np.stack([a, b, c, d]))
    strangers = [film(20), film(21)]
    np.testing.assert_array_equal(in_order([a, b], strangers), np.stack([a, b, *strangers]))


def test_ours_are_those_of_their_numbers() -> None:
    pytest.importorskip("pymunk")
    films = PhysicsFilms(4, ("shape", "gravity"), seed=3, size=16)
    assert films.counts() == {"shape": 4, "gravity": 4}
    all_of_them = quadruplets("gravity", 4, seed=3, size=16).sensors
    for name, value in films.films("gravity", range(1, 3)).items():
        np.testing.assert_array_equal(value, all_of_them[name][1:3])


def test_mistakes() -> None:
    with pytest.raises(UserError, match="Did you mean 'shape'"):
        PhysicsFilms(1, ("shap",))
    with pytest.raises(UserError, match="at least one quadruplet"):
        PhysicsFilms(0)
