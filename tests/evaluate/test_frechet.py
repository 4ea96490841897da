"""The Fréchet distance where it is known: of Gaussians, of the same set, of shifted sets; and the random net."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from innerworld.evaluate.frechet import RandomConv, frechet, shrunk


def gauss(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=Generator().manual_seed(seed))


def test_a_set_is_at_no_distance_from_itself_and_scale_does_not_count() -> None:
    a = gauss(200, 5)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    b = gauss(200, 5, seed=1) + 1
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0, 100.0])
    assert frechet(a * scale, b * scale) == pytest.approx(frechet(a, b), rel=1e-5)


def test_it_is_the_known_distance_of_gaussians() -> None:
    """N(0, 1) and N(m, s²) in each of d dimensions: d (m² + (1 - s)²), of deviations of the first."""
    a = gauss(100_000, 3)
    a = (a - a.mean(0)) / a.std(0)
    assert frechet(a, 2 * a + 3) == pytest.approx(3 * (9 + 1), rel=2e-2)
    assert frechet(a, a + 0.5) == pytest.approx(3 * 0.25, rel=1e-3)


def test_correlations_count() -> None:
    """Equal means and deviations, other correlation r: 2 (2 - √(1 + r) - √(1 - r)) for two dimensions."""
    a = gauss(200_000, 2)
    r = 0.8
    b = torch.stack([a[:, 0], r * a[:, 0] + (1 - r**2) ** 0.5 * a[:, 1]], dim=1)
    assert frechet(a, b) == pytest.approx(2 * (2 - (1 + r) ** 0.5 - (1 - r) ** 0.5), rel=5e-2)


def test_what_never_varies_is_left_out() -> None:
    a = torch.cat([gauss(50, 2), torch.ones(50, 1)], dim=1)
    assert frechet(a, torch.cat([gauss(50, 2), torch.zeros(50, 1)], dim=1)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(16, 16, 3), (8, 40, 1), (96, 64, 3)])
def test_random_features_are_always_the_same_and_see_what_differs(shape: tuple[int, int, int]) -> None:
    frames = torch.randint(0, 256, (300, *shape), generator=Generator().manual_seed(0)).to(torch.uint8)
    torch.manual_seed(9)
    net, again = RandomConv(shape[2]), RandomConv(shape[2])
    features = net(frames)
    assert features.shape == (300, 64) and torch.equal(features, again(frames))
    torch.testing.assert_close(net(frames[:7]), features[:7], atol=1e-5, rtol=1e-4)
    assert frechet(features, net(frames // 2)) > 3 * frechet(features[:150], features[150:])


def test_large_frames_are_shrunk_by_whole_numbers() -> None:
    assert shrunk(torch.zeros(1, 48, 32, 3, dtype=torch.uint8)).shape == (1, 3, 48, 32)
    assert shrunk(torch.zeros(1, 64, 96, 3, dtype=torch.uint8)).shape == (1, 3, 32, 48)
    assert shrunk(torch.zeros(1, 224, 224, 3, dtype=torch.uint8)).shape == (1, 3, 44, 44)
