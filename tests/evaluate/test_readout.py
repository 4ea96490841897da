"""The logistic readout: its optimum is the one that is defined, by SciPy's own search; folds and ranks are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from innerworld.errors import UserError
from innerworld.evaluate.readout import area_under_curve, fit_readout, stratified


def drawn(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng, dtype=torch.float64) * torch.linspace(0.1, 30, d) + 5
    chance = torch.sigmoid((x[:, 0] - 5) * 20 + 0.05 * (x[:, -1] - 5))
    return x, (torch.rand(n, generator=rng) < chance).long()


@pytest.mark.parametrize(("n", "d"), [(80, 3), (30, 50)])
@pytest.mark.parametrize("strength", [1e-3, 1.0, 20.0])
def test_the_optimum_is_scipys(n: int, d: int, strength: float) -> None:
    """scikit-learn's objective, C Σ log(1 + exp(∓ z w + b)) + ½ |w|², on features brought to mean 0, deviation 1."""
    x, y = drawn(n, d)
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    sign = 2 * y.numpy() - 1

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        margin = -sign * (z @ at[:-1] + at[-1])
        pull = -strength * sign / (1 + np.exp(-margin))
        gradient = np.append(z.T @ pull + at[:-1], pull.sum())
        return float(strength * np.logaddexp(0, margin).sum() + 0.5 * at[:-1] @ at[:-1]), gradient

    best = minimize(loss, np.zeros(d + 1), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    expected = 1 / (1 + np.exp(-(z @ best.x[:-1] + best.x[-1])))
    found = fit_readout(x, y, (strength,))
    np.testing.assert_allclose(found(x).numpy(), expected, atol=1e-5)


def test_separable_rows_and_constants_do_no_harm() -> None:
    x = torch.cat([torch.linspace(-1, 1, 40)[:, None], torch.ones(40, 1), torch.full((40, 1), 1e9)], dim=1)
    y = (x[:, 0] > 0).long()
    found = fit_readout(x, y, (1e-6, 20.0))
    assert torch.isfinite(found.weights).all() and found.weights[1] == found.weights[2] == 0
    assert ((found(x) > 0.5).long() == y).all() and found.folds == 1


def test_folds_choose_the_strength_that_holds() -> None:
    """One true direction among many of noise: who believes the data too much is wrong on the rest."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(120, 100, generator=rng)
    y = (x[:, :20].sum(1) + 3 * torch.randn(120, generator=rng) > 0).long()
    found = fit_readout(x, y, (1e-6, 1e-3, 100.0))
    single = {s: fit_readout(x, y, (s, s)).folds for s in (1e-6, 1e-3, 100.0)}
    assert found.folds == max(single.values()) and found.strength == max(single, key=lambda s: (single[s], -s))
    assert fit_readout(x, y, (1e-6, 1e-3, 100.0)).strength == found.strength


def test_folds_have_equal_shares() -> None:
    y = torch.tensor([0] * 23 + [1] * 12)
    parts = stratified(y, 5, 0)
    assert sorted(torch.cat(parts).tolist()) == list(range(35))
    assert {int(y[part].sum()) for part in parts} == {2, 3} and {len(part) for part in parts} == {7}


def test_the_area_counts_pairs() -> None:
    chance, y = torch.tensor([0.9, 0.4, 0.4, 0.1]), torch.tensor([1, 1, 0, 0])
    assert area_under_curve(chance, y) == (1 + 1 + 0.5 + 1) / 4
    assert np.isnan(area_under_curve(chance, torch.ones(4)))


def test_mistakes_are_told() -> None:
    x, y = drawn(20, 3)
    for bad, told in (
        ((x, y[:5]), "do not fit"),
        ((x * torch.inf, y), "not finite"),
        ((x, torch.zeros(20)), "0 rows of the rarer answer, fewer than 5 folds"),
    ):
        with pytest.raises(UserError, match=told):
            fit_readout(*bad)
