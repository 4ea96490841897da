"""Losses against the published implementations' own numbers, and against loops that spell the formula out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from innerworld import losses


def wave(*shape: int, offset: float = 0) -> Tensor:
    """Flat element i is sin(0.37 (i + 1) + offset), float64."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.37 * (i + 1) + offset).reshape(shape)


Z = 1.3 * wave(64, 6) + 0.2
COLUMNS = wave(6, 5, offset=3) / wave(6, 5, offset=3).norm(dim=0)
# Reference outputs for Z along each of COLUMNS, float64. The first are those of the `lejepa` package (17 points on
# [0, 3], taken twice; its buffers are float32), the second of the paper's listing (17 points on [-5, 5], times N).
LEJEPA = [18.595776253039944, 16.158033144458745, 13.227059428015094, 11.382142073532663, 10.841545664288128]
PAPER = [18.74058703026012, 16.24727359956668, 13.268278860620043, 11.403337331839166, 10.858290791608542]
EB_JEPA = [0.2895680721885851, 0.25174760335179763, 0.20623268983558032, 0.1775565053109745, 0.1691495339566924]
# Reference outputs of VICReg's terms for Z, of eb_jepa (whose covariance divides by d (d - 1), as PLDM's does).
STD_HINGE, COVARIANCE = 0.07462330838215823, 0.3508747724049096


@pytest.mark.parametrize(("form", "golden"), [("lejepa", LEJEPA), ("paper", PAPER), ("eb_jepa", EB_JEPA)])
def test_sigreg_is_the_published_one(form: losses.SIGReg, golden: list[float]) -> None:
    near = 1e-6 if form == "lejepa" else 1e-9  # that package's buffers are float32
    found = [losses.sigreg(Z, COLUMNS[:, m : m + 1], form).item() for m in range(5)]
    assert found == pytest.approx(golden, rel=near if form == "lejepa" else 0, abs=near)


def test_sigreg_has_lejepas_settings_by_default() -> None:
    assert losses.sigreg(Z, COLUMNS).item() == pytest.approx(sum(LEJEPA) / 5, rel=1e-6)


def test_sigreg_of_a_time_axis_is_the_mean_over_times() -> None:
    z = wave(4, 16, 6)
    each = torch.stack([losses.sigreg(z[t], COLUMNS) for t in range(4)])
    torch.testing.assert_close(losses.sigreg(z, COLUMNS), each.mean())


def test_sigreg_tells_a_gaussian_from_a_collapse() -> None:
    rng = Generator().manual_seed(0)
    columns = losses.directions(8, 64, rng=rng)
    z = torch.randn(512, 8, generator=rng)
    gaussian = losses.sigreg(z, columns).item()
    assert gaussian < 1.5  # its expectation is about 0.8, whatever N
    for wrong in (torch.zeros_like(z), 0.3 * z, 3 * z, z[:, :1].expand(-1, 8), z + 1):
        assert losses.sigreg(wrong, columns).item() > 5 * gaussian


def test_sigreg_pulls_a_point_towards_a_gaussian() -> None:
    rng = Generator().manual_seed(0)
    z = (0.1 * torch.randn(256, 2, generator=rng)).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        losses.sigreg(z, losses.directions(2, 16, z, rng)).backward()
        optimiser.step()
    assert z.detach().std(dim=0).tolist() == pytest.approx([1, 1], abs=0.15)


def test_directions_are_unit_columns_in_the_given_likeness() -> None:
    columns = losses.directions(5, 7, like=Z, rng=Generator().manual_seed(0))
    assert columns.shape == (5, 7) and columns.dtype == torch.float64
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(7, dtype=torch.float64))
    again = losses.directions(5, 7, like=Z, rng=Generator().manual_seed(0))
    assert torch.equal(columns, again)


def test_std_hinge_and_covariance_are_the_published_ones() -> None:
    assert losses.std_hinge(Z).item() == pytest.approx(STD_HINGE, rel=1e-12)
    assert losses.covariance(Z).item() == pytest.approx(COVARIANCE, rel=1e-12)


def test_covariance_is_its_formula() -> None:
    z = wave(3, 10, 4)
    total = 0.0
    for t in range(3):
        for i in range(4):
            for j in range(4):
                if i != j:
                    a, b = z[t, :, i] - z[t, :, i].mean(), z[t, :, j] - z[t, :, j].mean()
                    total += ((a * b).sum().item() / 9) ** 2 / (4 * 3) / 3
    assert losses.covariance(z).item() == pytest.approx(total, rel=1e-12)


def test_std_hinge_is_its_formula() -> None:
    z = torch.stack([0.5 * wave(10, 4), 5 * wave(10, 4)])
    total = 0.0
    for t in range(2):
        for i in range(4):
            x = z[t, :, i]
            spread = math.sqrt(((x - x.mean()) ** 2).sum().item() / 9 + 1e-4)
            total += max(0.0, 1 - spread) / 8
    assert losses.std_hinge(z).item() == pytest.approx(total, rel=1e-12)
    assert losses.std_hinge(torch.zeros(10, 4)).item() == pytest.approx(1 - 0.01)


def test_vicreg_is_the_weighted_sum_of_its_parts() -> None:
    other = 0.8 * wave(64, 6, offset=1)
    total, parts = losses.vicreg(Z, other, similarity=2.0, std=3.0, cov=5.0)
    assert parts["similarity"].item() == pytest.approx((Z - other).square().mean().item())
    assert parts["std"].item() == pytest.approx((losses.std_hinge(Z) + losses.std_hinge(other)).item())
    assert parts["cov"].item() == pytest.approx((losses.covariance(Z) + losses.covariance(other)).item())
    assert total.item() == pytest.approx((2 * parts["similarity"] + 3 * parts["std"] + 5 * parts["cov"]).item())


def test_terms_over_time() -> None:
    z = wave(4, 7, 3)
    spread = [1 - math.sqrt(z[b, :, d].var().item() + 1e-4) for b in range(4) for d in range(3)]
    assert losses.std_over_time(z).item() == pytest.approx(sum(max(0.0, s) for s in spread) / 12)
    steps = [(z[b, t + 1, d] - z[b, t, d]).item() ** 2 for b in range(4) for t in range(6) for d in range(3)]
    assert losses.smoothness(z).item() == pytest.approx(sum(steps) / len(steps))
    assert losses.smoothness(z[:, :1].expand(-1, 7, -1)) == 0
