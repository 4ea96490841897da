"""Calibration: noise of a known size is told as it is, half and double as too sure and too timid, none as none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.calibration import (
    Forecasts,
    calibrated,
    coverage,
    crps,
    forecasts,
    rank_histogram,
    ranks,
    spread_skill,
)
from innerworld.evaluate.probing import linear_probe
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

B, Q, N = 400, 3, 32


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def drawn(times: float, n: int = N, b: int = B) -> tuple[Tensor, Tensor]:
    """Draws with so many times the noise that the truth has, and the truth."""
    mean = normal(b, Q, seed=1)
    return mean + times * normal(n, b, Q, seed=2), mean + normal(b, Q, seed=3)


@pytest.mark.parametrize("n", [19, 32, 100])
def test_the_right_noise_is_calibrated_whatever_the_number_of_draws(n: int) -> None:
    draws, truth = drawn(1.0, n, 1000)
    found = spread_skill(draws, truth)
    assert found["spread_skill"] == pytest.approx(1, abs=0.04)
    assert found["spread_skill_low"] < 1 < found["spread_skill_high"]
    assert coverage(draws, truth, 0.5)["coverage"] == pytest.approx(0.5, abs=0.03)
    assert coverage(draws, truth, 0.9)["coverage"] == pytest.approx(0.9, abs=0.02)
    flat, shares = rank_histogram(draws, truth)
    assert 0.5 < flat["rank_flatness"] < 1.7 and flat["rank_outside"] == pytest.approx(1, abs=0.3)
    assert len(shares) == n + 1 and sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("times", "ratio", "covered"), [(0.5, 0.5, 0.60), (2.0, 1.95, 0.999)])
def test_half_and_double_noise_are_told(times: float, ratio: float, covered: float) -> None:
    draws, truth = drawn(times)
    assert spread_skill(draws, truth)["spread_skill"] == pytest.approx(ratio, abs=0.1)
    assert coverage(draws, truth, 0.9)["coverage"] == pytest.approx(covered, abs=0.04)
    flat, _ = rank_histogram(draws, truth)
    assert flat["rank_flatness"] > 5 and (flat["rank_outside"] > 2) == (times < 1)


def test_crps_is_its_definition_and_that_of_a_normal() -> None:
    draws, truth = drawn(1.0, n=6, b=5)
    apart = (draws[:, None] - draws[None]).abs().sum(dim=(0, 1)) / (6 * 5)
    expected = ((draws - truth).abs().mean(dim=0) - apart / 2).mean(dim=1)
    torch.testing.assert_close(crps(draws, truth), expected)
    torch.testing.assert_close(crps(draws[:1], truth), (draws[0] - truth).abs().mean(dim=1))
    torch.testing.assert_close(crps(draws[:1].expand(4, -1, -1), truth), crps(draws[:1], truth))
    y, many = torch.linspace(-2, 2, 9).double()[:, None], normal(20_000, 1, 1, seed=4)
    pdf, cdf = (-y.square() / 2).exp() / math.sqrt(2 * math.pi), (1 + torch.erf(y / math.sqrt(2))) / 2
    exact = y * (2 * cdf - 1) + 2 * pdf - 1 / math.sqrt(math.pi)  # Gneiting and Raftery 2007, §4.2
    torch.testing.assert_close(crps(many, y), exact[:, 0], atol=0.02, rtol=0)


def test_the_best_forecast_has_the_best_crps() -> None:
    half, right, double = (crps(*drawn(times)).mean().item() for times in (0.5, 1.0, 2.0))
    assert right < half and right < double


def test_ties_are_broken_by_chance() -> None:
    found = ranks(torch.zeros(4, 2000, 1), torch.zeros(2000, 1))
    assert torch.bincount(found.flatten()).tolist() == pytest.approx([400] * 5, abs=80)
    assert ranks(torch.tensor([[[1.0]], [[2.0]], [[3.0]]]), torch.tensor([[2.5]])).tolist() == [[2]]


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(UserError, match="5 draws are too few for an interval of 90%: draw at least 19"):
        coverage(*drawn(1.0, n=5), level=0.9)


def test_no_noise_is_told_as_none() -> None:
    draws, truth = drawn(0.0)
    found = calibrated({1: Forecasts(draws, draws[0], truth)})
    assert found["deterministic"] == 1 and found["spread"] == found["spread_skill"] == found["coverage_90"] == 0
    assert found["crps_ratio"] == pytest.approx(1)
    assert calibrated({1: Forecasts(*_with_middle(1.0))})["deterministic"] == 0
    assert calibrated({1: Forecasts(*_with_middle(1.0))})["crps_ratio"] == pytest.approx(math.sqrt(0.5), abs=0.04)


def _with_middle(times: float) -> tuple[Tensor, Tensor, Tensor]:
    draws, truth = drawn(times)
    return draws, normal(B, Q, seed=1), truth


class Drunk(WorldModel):
    """A walk whose steps have so much chance in them; the world's have 1."""

    class Config(Config):
        times: float = 1.0

    card = Card(name="drunk", predicts="state", decodes=True, backbone="-", paper="-")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        chance = 0.0 if rng is None else torch.randn(state["x"].shape, generator=rng) * self.times
        return {"x": state["x"] + action + chance}

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"reward": state["x"].sum(dim=-1)}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    times = 1.0


def walks(b: int = 300, t: int = 6) -> Clip:
    action = normal(b, t, 2, seed=5).float()
    start = normal(b, 1, 2, seed=6).float()
    path = torch.cat([start, start + (action + normal(b, t, 2, seed=7).float()).cumsum(dim=1)], dim=1)
    return Clip({"state": path}, action, path[:, 1:].sum(dim=-1), torch.zeros(b, t, dtype=torch.bool))


@pytest.mark.parametrize("times", [0.0, 0.5, 1.0, 2.0])
def test_a_model_is_asked_at_every_horizon(times: float) -> None:
    model, clip = Drunk(Drunk.Config(), Spec({"state": (2,)}, 2)), walks()
    model.times = times
    x = clip.obs["state"].flatten(0, 1)
    probe = linear_probe(x, x, x, x, ridge=0)
    found = forecasts(model, clip, (1, 2, 4), probe, context=2)
    assert set(found) == {"state", "belief", "reward"}
    for by_horizon in found.values():
        told = calibrated(by_horizon)
        expected = times * math.sqrt((N + 1) / (N + times**2))  # the mean of n draws has an error of its own
        for h in (1, 2, 4):
            assert told[f"spread_skill_{h}"] == pytest.approx(expected, rel=0.08)
        assert told["deterministic"] == (times == 0)
        if times == 1:
            assert told["coverage_50"] == pytest.approx(0.5, abs=0.05) and told["coverage_90"] > 0.87
    assert found["reward"][4].draws.shape == (32, 300, 1) and found["state"][1].likeliest.shape == (300, 2)
    again = forecasts(model, clip, (1, 2, 4), probe, context=2)
    assert torch.equal(again["state"][4].draws, found["state"][4].draws), "chance is seeded"


def test_what_never_varies_is_no_question() -> None:
    model, clip = Drunk(Drunk.Config(), Spec({"state": (2,)}, 2)), walks(20)
    still = Clip(clip.obs, clip.action, torch.zeros_like(clip.reward), clip.terminated)
    assert forecasts(model, still, (1,)) == {}
