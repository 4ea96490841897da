"""Mixtures of normals against torch's own, and what a temperature does to them."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from innerworld.nn.mixture import Mixture


def test_log_prob_is_torchs() -> None:
    torch.manual_seed(0)
    raw, x = torch.randn(2, 7, 3 * 4 * 5), torch.randn(2, 7, 4)
    mixture = Mixture.read(raw, 5)
    assert mixture.mean.shape == (2, 7, 4, 5)
    theirs = MixtureSameFamily(Categorical(logits=mixture.logits), Normal(mixture.mean, mixture.log_std.exp()))
    torch.testing.assert_close(mixture.log_prob(x), theirs.log_prob(x))


def test_draws_are_spread_as_the_mixture_says() -> None:
    torch.manual_seed(0)
    raw = torch.randn(1, 3 * 2 * 3)
    mixture = Mixture.read(raw.expand(40_000, -1), 3)
    theirs = MixtureSameFamily(Categorical(logits=mixture.logits[0]), Normal(mixture.mean[0], mixture.log_std[0].exp()))
    z, _ = mixture.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(dim=0), theirs.mean, rtol=0.03, atol=0.03)
    torch.testing.assert_close(z.std(dim=0), theirs.stddev, rtol=0.03, atol=0)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_a_temperature_divides_log_weights_and_multiplies_variances(tau: float) -> None:
    """Two normals so narrow and far apart that each draw tells which of them it is from."""
    weights = torch.tensor([0.8, 0.2])
    mixture = Mixture(
        weights.log().expand(40_000, 1, 2),
        torch.tensor([-5.0, 5.0]).expand(40_000, 1, 2),
        torch.tensor(-3.0).expand(40_000, 1, 2),
    )
    z, logvar = mixture.sample(torch.Generator().manual_seed(0), tau)
    share = weights ** (1 / tau) / (weights ** (1 / tau)).sum()
    torch.testing.assert_close((z < 0).float().mean(), share[0], rtol=0, atol=0.01)
    spread = (z[z < 0] + 5).square().mean()
    torch.testing.assert_close(spread, tau * torch.tensor(-6.0).exp(), rtol=0.05, atol=0)
    torch.testing.assert_close(logvar.exp(), torch.full_like(logvar, tau) * torch.tensor(-6.0).exp())


def test_the_mode_is_the_mean_of_the_heaviest() -> None:
    mixture = Mixture(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[3.0, -2.0]]]), torch.tensor([[[0.5, 0.25]]]))
    assert mixture.mode().tolist() == [[-2.0]] and mixture.spread().tolist() == [[0.5]]
