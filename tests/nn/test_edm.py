"""EDM: scales, noise levels, and Euler's way back to a clean picture."""

from __future__ import annotations

import pytest
import torch

from innerworld.nn import edm


def test_levels_fall_from_high_to_low_and_then_to_nothing() -> None:
    """Eq. 5 by hand: the middle of three is ((5^(1/7) + 0.002^(1/7)) / 2)^7."""
    found = edm.levels(3, low=2e-3, high=5.0, rho=7.0)
    middle = ((5 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    torch.testing.assert_close(found, torch.tensor([5.0, middle, 2e-3, 0.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(edm.levels(1), torch.tensor([5.0, 0.0]))


def test_what_is_to_be_said_gives_the_clean_picture() -> None:
    sigma = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64)
    clean, noisy = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64).unbind(0)
    at = edm.scales(sigma)
    torch.testing.assert_close(at.clean(noisy, at.to_say(noisy, clean)), clean)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_what_the_network_sees_and_says_has_unit_variance(offset: float) -> None:
    torch.manual_seed(0)
    clean = 0.5 * torch.randn(20_000, 3, 1, 1)
    for level in (0.1, 1.0, 5.0):
        sigma = torch.full((len(clean),), level)
        noisy, at = edm.noised(clean, sigma, offset), edm.scales(sigma, 0.5, offset)
        assert at.seen(noisy).std() == pytest.approx(1, abs=0.02)
        assert at.to_say(noisy, clean).std() == pytest.approx(1, abs=0.02)


def test_offset_noise_is_one_number_for_a_channel() -> None:
    torch.manual_seed(0)
    drift = edm.noised(torch.zeros(500, 2, 3, 3), torch.zeros(500), offset=0.3)
    assert torch.equal(drift, drift[..., :1, :1].expand_as(drift))
    assert drift[:, :, 0, 0].std() == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(drift[:, 0], drift[:, 1])


def test_levels_to_learn_at_are_log_normal_and_cut() -> None:
    torch.manual_seed(0)
    found = edm.drawn_levels(20_000)
    assert found.log().median() == pytest.approx(-0.4, abs=0.03)
    assert found.min() >= 2e-3 and found.max() == 20


def test_euler_follows_the_exact_denoiser_of_a_normal() -> None:
    """Of numbers from a normal of deviation s the denoiser is known, and the way back has a closed form."""
    s, levels = 0.5, edm.levels(400, low=1e-3, like=torch.zeros((), dtype=torch.float64))
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    found = edm.euler(lambda x, i: x * s**2 / (s**2 + levels[i] ** 2), x, levels)
    torch.testing.assert_close(found, x * s / (s**2 + levels[0] ** 2).sqrt(), rtol=2e-2, atol=0)


def test_euler_ends_at_what_was_denoised_last() -> None:
    clean = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(edm.euler(lambda x, i: clean, torch.randn_like(clean), edm.levels(3)), clean)
