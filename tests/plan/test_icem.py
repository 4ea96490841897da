from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.config import build
from innerworld.plan import CEM, ICEM, cold, generators
from innerworld.testing.planner import check_planner


@pytest.mark.parametrize("config", [{"noise_beta": 0.0}, {"samples": 512, "elites": 32, "populations": 2}, {"keep": 0}])
def test_the_contract_holds_for_every_dial(config: dict) -> None:
    check_planner(lambda: build(ICEM, {"horizon": 3, **config}))


def test_candidates_shrink_to_twice_the_elites() -> None:
    tried = []

    def cost(actions: Tensor) -> Tensor:
        tried.append(actions.shape[1])
        return actions.square().sum(dim=(2, 3))

    planner = ICEM(horizon=4, samples=100, rounds=6, elites=20, decay=1.5)
    plan = planner(cost, cold(1, 4, 2), generators(0, 1))
    assert tried == [100, 66, 44, 40, 40, 40]
    assert plan.evaluations == sum(tried)


def test_the_mean_is_tried_first_and_last() -> None:
    firsts = []

    def cost(actions: Tensor) -> Tensor:
        firsts.append(actions[0, 0].clone())
        return (actions - 0.5).square().sum(dim=(2, 3))

    start = torch.full((1, 4, 2), 0.25)
    planner = ICEM(horizon=4, samples=256, rounds=8, elites=16)
    planner(cost, start, generators(0, 1))
    assert firsts[0].equal(start[0])
    assert firsts[-1].allclose(torch.tensor(0.5), atol=0.15)


def test_kept_elites_narrow_the_search() -> None:
    target = torch.linspace(-0.5, 0.8, 12)[:, None]

    def bowl(actions: Tensor) -> Tensor:
        return (actions - target).square().mean(dim=(2, 3))

    start = cold(16, 12, 2)
    settings = {"horizon": 12, "samples": 32, "rounds": 5, "elites": 6}
    kept = build(ICEM, {**settings, "keep": 1.0})(bowl, start, generators(0, 16)).cost.mean()
    lost = build(ICEM, {**settings, "keep": 0.0})(bowl, start, generators(0, 16)).cost.mean()
    assert kept < lost


def test_smooth_noise_finds_a_smooth_plan_with_less() -> None:
    """A far goal that only steady actions reach: white noise random-walks around the start."""

    def cost(actions: Tensor) -> Tensor:
        return (actions.sum(dim=2) - 24).square().sum(dim=-1)  # b n

    start = cold(8, 30, 1)
    icem = ICEM(horizon=30, samples=64, rounds=3, elites=8)
    cem = CEM(horizon=30, samples=64, rounds=3, elites=8)
    smooth, white = icem(cost, start, generators(0, 8)), cem(cost, start, generators(0, 8))
    assert smooth.evaluations < white.evaluations
    assert smooth.cost.mean() < 0.1 * white.cost.mean()
