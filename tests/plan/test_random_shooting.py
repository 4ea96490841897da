from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innerworld.plan import RandomShooting, cold, generators


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_candidates_are_uniform_at_every_step(beta: float) -> None:
    seen: list[Tensor] = []

    def cost(actions: Tensor) -> Tensor:
        seen.append(actions)
        return actions.sum(dim=(2, 3))

    RandomShooting(horizon=5, samples=20_000, noise_beta=beta)(cost, cold(1, 5, 1), generators(0, 1))
    quartiles = seen[0][0, :, :, 0].quantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)  # q h
    assert quartiles.allclose(torch.tensor([-0.5, 0.0, 0.5])[:, None], atol=0.03)


def test_discrete_candidates_follow_the_start() -> None:
    seen: list[Tensor] = []

    def cost(actions: Tensor) -> Tensor:
        seen.append(actions)
        return actions[..., 0].sum(dim=2)

    start = torch.tensor([0.7, 0.2, 0.1]).expand(1, 4, 3)
    RandomShooting(horizon=4, samples=20_000)(cost, start, generators(0, 1), discrete=True)
    assert seen[0][0].mean(dim=0).allclose(start[0], atol=0.02)


def test_the_start_is_the_first_candidate() -> None:
    start = torch.full((1, 4, 2), 0.3)
    plan = RandomShooting(horizon=4, samples=8)(
        lambda actions: (actions - 0.3).square().sum(dim=(2, 3)), start, generators(0, 1)
    )
    assert plan.actions.equal(start)
