"""Explorers act in the library's units, cover the whole range, and forget when an episode ends."""

from __future__ import annotations

import numpy as np
import pytest

from innerworld.data import POLICIES, Remembers, Smooth, Uniform
from innerworld.errors import UserError
from innerworld.types import Spec

BOX = Spec({"state": (1,)}, action=2)
CHOICES = Spec({"state": (1,)}, action=3, discrete=True)


def acts(policy: Uniform | Smooth, steps: int, n: int = 4, seed: int = 0) -> np.ndarray:
    """t n a"""
    rng, obs = np.random.default_rng(seed), {"state": np.zeros((n, 1), np.float32)}
    return np.stack([policy(obs, rng) for _ in range(steps)])


def correlation(actions: np.ndarray) -> float:
    return float(np.corrcoef(actions[:-1].ravel(), actions[1:].ravel())[0, 1])


@pytest.mark.parametrize("name", POLICIES)
def test_continuous_actions_are_uniform_in_the_unit_box(name: str):
    actions = acts(POLICIES[name](BOX), 20_000)
    assert actions.shape == (20_000, 4, 2) and actions.dtype == np.float32 and np.abs(actions).max() <= 1
    np.testing.assert_allclose(np.histogram(actions, 10, (-1, 1))[0] / actions.size, 0.1, atol=0.01)


@pytest.mark.parametrize("name", POLICIES)
def test_choices_are_one_hot_and_equally_frequent(name: str):
    actions = acts(POLICIES[name](CHOICES), 20_000)
    assert np.array_equal(np.unique(actions), [0, 1]) and np.all(actions.sum(-1) == 1)
    np.testing.assert_allclose(actions.mean((0, 1)), 1 / 3, atol=0.02)


def test_smooth_actions_resemble_the_one_before_and_uniform_ones_do_not():
    assert abs(correlation(acts(Uniform(BOX), 5000))) < 0.03
    assert correlation(acts(Smooth(BOX, memory=0.9), 5000)) == pytest.approx(0.89, abs=0.03)
    held = acts(Smooth(CHOICES, memory=0.9), 5000).argmax(-1)
    assert np.mean(held[1:] == held[:-1]) == pytest.approx(0.9 + 0.1 / 3, abs=0.01)


@pytest.mark.parametrize("spec", [BOX, CHOICES])
def test_an_episode_that_begins_is_independent_of_the_last_and_leaves_the_others_alone(spec: Spec):
    policy, rng, obs = Smooth(spec, memory=0.999), np.random.default_rng(0), {"state": np.zeros((200, 1))}
    assert isinstance(policy, Remembers)
    policy.begin(np.ones(200, np.bool_), rng)
    before = policy(obs, rng)
    policy.begin(np.arange(200) < 100, rng)
    after = policy(obs, rng)
    kept = np.isclose(before, after, atol=0.2).all(1)
    assert kept[100:].mean() > 0.95 and kept[:100].mean() < 0.6


def test_a_memory_outside_its_range_is_refused():
    with pytest.raises(UserError, match="lies in"):
        Smooth(BOX, memory=1.0)
