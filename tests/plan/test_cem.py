from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.config import build
from innerworld.errors import UserError
from innerworld.plan import CEM, cold, generators
from innerworld.testing.planner import check_planner


@pytest.mark.parametrize(
    "config",
    [
        {"answer": "mean"},
        {"noise_beta": 1.0, "momentum": 0.1},
        {"samples": 512, "elites": 64, "populations": 4},
    ],
)
def test_the_contract_holds_for_every_dial(config: dict) -> None:
    check_planner(lambda: build(CEM, {"horizon": 3, **config}))


def test_one_cost_call_a_round_for_all_rows_and_populations() -> None:
    shapes = []

    def cost(actions: Tensor) -> Tensor:
        shapes.append(tuple(actions.shape))
        assert not torch.is_grad_enabled()
        return actions.square().sum(dim=(2, 3))

    plan = CEM(horizon=4, samples=24, rounds=3, elites=6, populations=2)(cost, cold(5, 4, 2), generators(0, 5))
    assert shapes == [(5, 24, 4, 2)] * 3
    assert plan.history.shape == (5, 3)
    assert plan.evaluations == 72


def test_populations_find_the_deeper_of_two_valleys() -> None:
    def cost(actions: Tensor) -> Tensor:  # a wide shallow valley at 0.4, a narrow deep one at -0.8
        x = actions.mean(dim=2)[..., 0]
        return torch.minimum((x - 0.4).square(), 4 * (x + 0.8).square() - 0.5)

    rows = 16
    one = CEM(horizon=12, rounds=15, elites=64)
    many = CEM(horizon=12, rounds=15, elites=64, populations=8)
    alone = one(cost, cold(rows, 12, 1), generators(0, rows))
    beside = many(cost, cold(rows, 12, 1), generators(0, rows))
    assert alone.evaluations == beside.evaluations
    assert (alone.cost < -0.4).float().mean() < 0.3
    assert (beside.cost < -0.4).float().mean() > 0.5


def test_a_row_survives_when_one_population_is_lost() -> None:
    def cost(actions: Tensor) -> Tensor:  # populations lie side by side along n
        value = (actions - 0.3).square().sum(dim=(2, 3))
        value[:, :16] = torch.nan
        return value

    planner = CEM(horizon=3, samples=32, rounds=10, elites=8, populations=2)
    plan = planner(cost, cold(1, 3, 1), generators(0, 1))
    assert plan.cost.item() < 0.01


def test_hold_repeats_actions() -> None:
    target = torch.linspace(-1, 1, 6)[:, None]
    planner = CEM(horizon=6, hold=3)
    plan = planner(lambda a: (a - target).square().sum(dim=(2, 3)), cold(1, 6, 1), generators(0, 1))
    assert plan.actions[0, :3, 0].tolist() == pytest.approx([-0.6] * 3, abs=0.05)
    assert plan.actions[0, 3:, 0].tolist() == pytest.approx([0.6] * 3, abs=0.05)


def test_hold_holds_choices() -> None:
    best = torch.tensor([2, 2, 0, 0, 1])
    price = 1 - torch.nn.functional.one_hot(best, 3).float()
    planner = CEM(horizon=5, hold=2)
    start = cold(1, 5, 3, discrete=True)
    plan = planner(lambda a: (a * price).sum(dim=(2, 3)), start, generators(0, 1), discrete=True)
    assert plan.actions[0].argmax(dim=-1).tolist() == best.tolist()


def test_the_mean_beats_the_best_sample_on_a_bowl() -> None:
    def bowl(actions: Tensor) -> Tensor:
        return (actions - 0.3).square().sum(dim=(2, 3))

    settings = {"horizon": 8, "samples": 64, "rounds": 6, "elites": 16}
    start = cold(8, 8, 4)
    best = build(CEM, {**settings, "answer": "best"})(bowl, start, generators(0, 8))
    mean = build(CEM, {**settings, "answer": "mean"})(bowl, start, generators(0, 8))
    assert mean.cost.mean() < best.cost.mean()
    assert mean.cost.allclose(bowl(mean.actions[:, None])[:, 0])


def test_shares_must_fit() -> None:
    with pytest.raises(UserError, match=r"elites \(30\) cannot exceed samples \(10\)"):
        CEM(samples=10, elites=30)
    with pytest.raises(UserError, match="multiples of populations"):
        build(CEM, {"samples": 100, "elites": 10, "populations": 3})


def test_lewm_preset() -> None:
    lewm = CEM.presets["lewm"]
    assert isinstance(lewm, CEM)
    assert (lewm.samples, lewm.rounds, lewm.elites, lewm.horizon) == (300, 30, 30, 5)
