"""Langevin chains: means and variances that are known exactly, both modes in their shares, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.energy import annealed, box, langevin
from innerworld.errors import UserError

CURVATURE = torch.tensor([[2.0, 0.8], [0.8, 1.0]])
CENTRE = torch.tensor([1.0, -2.0])


def gaussian(x: Tensor) -> Tensor:
    return 0.5 * ((x - CENTRE) @ CURVATURE * (x - CENTRE)).sum(dim=-1)


def modes(x: Tensor) -> Tensor:
    """Normal ones at -2 (3 in 10) and 2, of variance 0.5."""
    parts = torch.stack([torch.log(torch.tensor(w)) - (x[:, 0] - m) ** 2 for w, m in ((0.3, -2.0), (0.7, 2.0))])
    return -parts.logsumexp(dim=0)


def test_adjusted_chains_draw_a_gaussian_exactly() -> None:
    """At temperature T the covariance is T times the inverse of the curvature."""
    found = langevin(gaussian, torch.zeros(4000, 2), Generator().manual_seed(0), 120, 0.4, temperature=0.5, adjust=True)
    torch.testing.assert_close(found.x.mean(dim=0), CENTRE, atol=0.05, rtol=0)
    torch.testing.assert_close(found.x.T.cov(), 0.5 * CURVATURE.inverse(), atol=0.06, rtol=0)
    assert 0.4 < found.accepted.mean() < 0.95
    torch.testing.assert_close(found.energy, gaussian(found.x))


def test_unadjusted_chains_draw_what_their_step_size_says() -> None:
    """x ← (1 − ηλ) x + √(2ηT) ξ has variance T / (λ (1 − ηλ / 2)): too wide, by a factor that is known."""
    eta, curvature = 0.5, torch.tensor([1.0, 2.0])
    found = langevin(
        lambda x: 0.5 * (curvature * x**2).sum(dim=-1), torch.zeros(20000, 2), Generator().manual_seed(0), 40, eta
    )
    torch.testing.assert_close(found.x.var(dim=0), 1 / (curvature * (1 - eta * curvature / 2)), rtol=0.04, atol=0)
    assert bool((found.accepted == 1).all())


def test_both_modes_in_their_shares_from_one_of_them() -> None:
    start = torch.full((600, 1), 2.0)
    found = langevin(modes, start, Generator().manual_seed(0), 1000, 0.5, temperature=1.0, adjust=True)
    assert (found.x < 0).float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_annealing_finds_both_modes_where_the_cold_chain_stays_in_one() -> None:
    def deep(x: Tensor) -> Tensor:
        return 8 * modes(x)

    start = torch.full((200, 1), -2.0)
    cold = langevin(deep, start, Generator().manual_seed(0), 300, 0.01)
    warm = langevin(deep, start, Generator().manual_seed(0), 300, 0.01, temperature=annealed(40.0, 0.1, 300))
    assert bool((cold.x < 0).all())
    share = (warm.x > 0).float().mean().item()
    assert 0.2 < share < 0.9
    assert (warm.x.abs() - 2).abs().max() < 0.5  # each in a mode


def test_temperature_zero_is_plain_descent() -> None:
    start = torch.tensor([[3.0, 0.0]])
    found = langevin(gaussian, start, Generator(), 1, 0.1, temperature=0.0)
    torch.testing.assert_close(found.x, start - 0.1 * (start - CENTRE) @ CURVATURE)


def test_points_are_kept_on_the_way() -> None:
    found = langevin(gaussian, torch.zeros(3, 2), Generator().manual_seed(0), 10, 0.1, every=4)
    assert found.kept.shape == (2, 3, 2)
    again = langevin(gaussian, torch.zeros(3, 2), Generator().manual_seed(0), 8, 0.1)
    assert torch.equal(found.kept[1], again.x)
    assert again.kept.shape == (0, 3, 2)


def test_bounds() -> None:
    """Unadjusted: projected. Adjusted: what is beyond has infinite energy, and the draws inside are even."""
    found = langevin(gaussian, torch.zeros(50, 2), Generator().manual_seed(0), 30, 0.3, project=box(-1, 1))
    assert found.x.abs().max() <= 1

    def flat(x: Tensor) -> Tensor:
        return torch.where((x.abs() <= 1).all(dim=-1), 0 * x.sum(dim=-1), torch.inf)

    even = langevin(flat, torch.zeros(4000, 1), Generator().manual_seed(0), 200, 0.1, adjust=True)
    assert even.x.abs().max() <= 1 and even.x.var().item() == pytest.approx(1 / 3, abs=0.02)


def test_temperatures_fall_by_one_factor() -> None:
    assert annealed(8.0, 1.0, 4) == pytest.approx([8, 4, 2, 1]) and annealed(3.0, 1.0, 1) == [3.0]
    with pytest.raises(UserError, match="temperatures above 0"):
        annealed(0.0, 1.0, 4)


@pytest.mark.parametrize(
    ("energy", "dials", "told"),
    [
        (lambda x: gaussian(x) * torch.nan, {}, "NaN or infinite at a start"),
        (lambda x: gaussian(x).sum(), {}, "one number for each point"),
        (lambda x: gaussian(x.detach()), {}, "no gradient"),
        (lambda x: gaussian(x) ** 2, {"step_size": 10.0}, "smaller step_size"),
        (gaussian, {"temperature": [1.0, 2.0]}, "2 temperatures for 100 steps"),
        (gaussian, {"temperature": -1.0}, "temperatures of 0 or more"),
        (gaussian, {"temperature": 0.0, "adjust": True}, "with adjust above 0"),
        (gaussian, {"adjust": True, "project": box(-1, 1)}, "adjusted chain is not projected"),
    ],
)
def test_what_is_refused(energy, dials: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        langevin(energy, torch.full((2, 2), 5.0), Generator().manual_seed(0), **dials)
