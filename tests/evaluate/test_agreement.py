"""Our intervals, metrics and probes agree with SciPy, scikit-learn and torchmetrics on the same arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from torch import Generator, Tensor

from innerworld.evaluate.bootstrap import ratio_with_interval, value_with_interval, with_interval
from innerworld.evaluate.calibration import crps, ranks
from innerworld.evaluate.control import wilson
from innerworld.evaluate.frechet import frechet
from innerworld.evaluate.pictures import psnr, ssim
from innerworld.evaluate.probing import linear_probe


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def pictures(seed: int) -> Tensor:
    """With structure, so that similarity is neither 0 nor 1."""
    rough = torch.rand(4, 3, 6, 6, generator=Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(rough, (32, 32), mode="bilinear")
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 20, 0.0, 0.1611), (7, 20, 0.1812, 0.5671), (20, 20, 0.8389, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_by_numbers(hits: int, n: int, low: float, high: float) -> None:
    """Of scipy.stats.binomtest(hits, n).proportion_ci(method="wilson"), 1.17, to four places."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 11), (50, 100), (999, 1000)])
def test_wilson_of_libraries(hits: int, n: int) -> None:
    found = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((found.low, found.high), abs=1e-4)


def test_the_bootstrap_is_scipys() -> None:
    x, y = normal(60).exp(), normal(60, seed=1).exp()
    mean = stats.bootstrap((x.numpy(),), np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    ours = with_interval("x", x)
    width = mean.high - mean.low
    assert (ours["x_low"], ours["x_high"]) == pytest.approx((mean.low, mean.high), abs=0.1 * width)
    ratio = stats.bootstrap(
        (x.numpy(), y.numpy()),
        lambda a, b, axis: a.mean(axis) / b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=0,
        vectorized=True,
    ).confidence_interval
    width = ratio.high - ratio.low
    found = ratio_with_interval("r", x, y)
    assert (found["r_low"], found["r_high"]) == pytest.approx((ratio.low, ratio.high), abs=0.1 * width)
    same = value_with_interval("r", lambda rows: x[rows].mean(1) / y[rows].mean(1), 60)
    assert same == pytest.approx(found), "any number of clips, and the one written for ratios"


def test_frechet_is_its_formula_with_scipys_root() -> None:
    a, b = normal(300, 6), normal(300, 6, seed=1) @ torch.diag(torch.linspace(0.5, 2, 6).double()) + 0.3
    scale = a.std(dim=0, correction=0).numpy()  # ours counts in deviations of the real features
    mean, cov = zip(*((x.numpy().mean(0) / scale, np.cov((x.numpy() / scale).T)) for x in (a, b)), strict=True)
    root = linalg.sqrtm(cov[0] @ cov[1]).real
    expected = ((mean[0] - mean[1]) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=2e-2)


def test_psnr_and_ssim_are_those_of_torchmetrics() -> None:
    # here and not above: who collects tests need not wait for it
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    a, b = pictures(0), pictures(1)
    x, y = (one.permute(0, 3, 1, 2).double() / 255 for one in (a, b))
    for row in range(4):
        expected = peak_signal_noise_ratio(x[row], y[row], data_range=1.0)
        assert psnr(a, b)[row].item() == pytest.approx(expected.item(), rel=1e-4)
    _, whole = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none", return_full_image=True)
    inner = whole[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # theirs (1.9) reflects the borders, ours leaves them out
    torch.testing.assert_close(ssim(a, b).double(), inner, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n", "d"), [(200, 5), (20, 40)])
def test_the_probe_is_the_ridge_of_scikit_learn(n: int, d: int) -> None:
    """With its penalty times the rows, on standardised features: by the formula, and by the library."""
    from sklearn import linear_model, metrics

    x, y = normal(n, d) * torch.linspace(0.1, 10, d) + 3, normal(n, 2, seed=1)
    probe = linear_probe(x, y, x, y, ridge=0.2)
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    centred = (y - y.mean(0)).numpy()
    weights = np.linalg.solve(z.T @ z + 0.2 * n * np.eye(d), z.T @ centred)
    guess = z @ weights + y.mean(0).numpy()
    np.testing.assert_allclose((x @ probe["weights"] + probe["intercept"]).numpy(), guess, atol=1e-8)
    r2 = 1 - ((guess - y.numpy()) ** 2).sum(0) / (centred**2).sum(0)
    np.testing.assert_allclose(probe["r2_each"].numpy(), r2, atol=1e-8)
    theirs = linear_model.Ridge(alpha=0.2 * n).fit(z, y.numpy())
    np.testing.assert_allclose(theirs.predict(z), guess, atol=1e-8)
    assert metrics.r2_score(y.numpy(), guess) == pytest.approx(probe["r2"])


def test_crps_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.regression import continuous_ranked_probability_score

    draws, truth = normal(12, 30, 1), normal(30, 1, seed=1)
    apart = (draws[:, None] - draws[None, :]).abs().mean((0, 1))[:, 0] / 2
    biased = torch.stack([continuous_ranked_probability_score(draws[:, [i], 0].T, truth[i]) for i in range(30)])
    torch.testing.assert_close(crps(draws, truth), biased - apart / 11)  # theirs is not fair


def test_ranks_of_draws_like_the_truth_are_uniform_by_scipy() -> None:
    found = ranks(normal(9, 4000, 1), normal(4000, 1, seed=1)).flatten()
    assert stats.chisquare(torch.bincount(found, minlength=10).numpy()).pvalue > 0.01
