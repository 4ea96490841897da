"""A critic begins at exactly 0, and its slow copy follows when it should."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.policy.critic import Critic, CriticConfig

WIDTH = 16


def _critic(**changes: object) -> Critic:
    torch.manual_seed(0)
    return Critic(CriticConfig.model_validate({"units": 32, **changes}), WIDTH)


@pytest.mark.parametrize("kind", ["twohot", "normal"])
def test_at_first_everything_is_worth_exactly_nothing(kind: str) -> None:
    critic, x = _critic(kind=kind), torch.randn(50, WIDTH)
    assert torch.equal(critic(x).mean(), torch.zeros(50))
    assert torch.equal(critic.slowly(x).mean(), torch.zeros(50))


@pytest.mark.parametrize("kind", ["twohot", "normal"])
def test_it_learns_what_beliefs_are_worth(kind: str) -> None:
    critic, x = _critic(kind=kind), torch.randn(64, WIDTH)
    worth = 5 * x[:, 0]
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        critic(x).losses(worth[:, None]).mean().backward()
        optimiser.step()
    assert float((critic(x).mean() - worth).detach().abs().mean()) < 0.8


def test_losses_of_several_numbers_are_those_of_each() -> None:
    critic, x = _critic(outscale=1.0), torch.randn(6, WIDTH)
    values = 10 * torch.randn(6, 3)
    each = torch.cat([critic(x).losses(values[:, i : i + 1]) for i in range(3)], dim=1)
    torch.testing.assert_close(critic(x).losses(values), each)


def test_the_slow_copy_moves_a_fiftieth_of_the_way_each_step() -> None:
    critic = _critic()
    before = [parameter.clone() for parameter in critic.slow.parameters()]  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in critic.net.parameters():
            parameter.add_(1.0)
    critic.follow()
    for was, now in zip(before, critic.slow.parameters(), strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(now, was + 0.02)
        assert not now.requires_grad


def test_a_copy_made_every_few_steps_is_whole() -> None:
    critic = _critic(slow_every=3, slow_rate=1.0, slow_target=True)
    with torch.no_grad():
        critic.net.stack[0].weight.add_(1.0)  # type: ignore[operator]
    same = []
    for _ in range(3):
        critic.follow()
        same.append(torch.equal(critic.net.stack[0].weight, critic.slow.stack[0].weight))  # type: ignore[union-attr]
    assert same == [False, False, True]


def test_where_it_is_not_used_there_is_no_copy() -> None:
    critic = _critic(slow_weight=0.0)
    assert critic.slow is None and not any(name.startswith("slow") for name in critic.state_dict())
    critic.follow()


def test_an_even_number_of_bins_is_named() -> None:
    with pytest.raises(UserError, match="bins=254"):
        _critic(bins=254)
