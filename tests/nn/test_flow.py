"""Levels of noise: what is mixed comes apart again, schedules meet their ends, and few steps find what is certain."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from innerworld.nn.flow import Flow, LevelVector, noise_like, sample

FLOWS = [Flow("linear", "x"), Flow("linear", "v"), Flow("sigmoid", "x"), Flow("sigmoid", "v")]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("flow", FLOWS, ids=str)
def test_the_target_tells_what_was_clean(flow: Flow) -> None:
    x, noise, level = drawn(2, 5, 3, 4), drawn(3, 5, 3, 4)[1:], torch.rand(2, 5) * 0.98
    mixed = flow.mix(x, noise, level)
    assert torch.allclose(flow.clean(flow.target(x, noise, level), mixed, level), x, atol=1e-5)
    to = (level + 0.01).clamp(max=1)
    assert torch.allclose(flow.moved(mixed, x, level, to), flow.mix(x, noise, to), atol=1e-4)


@pytest.mark.parametrize("flow", FLOWS, ids=str)
def test_levels_end_in_noise_and_in_the_clean_thing(flow: Flow) -> None:
    x, noise = drawn(2, 3), drawn(3, 3)[1:]
    assert torch.allclose(flow.mix(x, noise, torch.zeros(2)), noise, atol=1e-6)
    assert torch.allclose(flow.mix(x, noise, torch.ones(2)), x, atol=1e-6)


def test_the_sigmoid_is_that_of_oasis_and_keeps_variance() -> None:
    """Its share of power at t of 1000 steps: (σ(3) - σ(6t/1000 - 3)) / (σ(3) - σ(-3))."""

    def sigmoid(at: float) -> float:
        return 1 / (1 + math.exp(-at))

    for t in (10, 250, 500, 900):
        level = torch.tensor([1 - t / 1000])
        signal, rest = (float(Flow("sigmoid").mix(torch.ones(1), torch.zeros(1), level)), 0.0)
        rest = float(Flow("sigmoid").mix(torch.zeros(1), torch.ones(1), level))
        expected = (sigmoid(3) - sigmoid(6 * t / 1000 - 3)) / (sigmoid(3) - sigmoid(-3))
        assert signal**2 == pytest.approx(expected, abs=1e-5)
        assert signal**2 + rest**2 == pytest.approx(1, abs=1e-5)


def test_v_is_the_way_that_things_move() -> None:
    x, noise, level, less = drawn(1, 3), drawn(2, 3)[1:], torch.tensor([0.4]), torch.tensor([0.399])
    flow = Flow("linear", "v")
    moved = (flow.mix(x, noise, level) - flow.mix(x, noise, less)) / 0.001
    assert torch.allclose(flow.target(x, noise, level), moved, atol=1e-3)


def test_the_ramp_weighs_what_is_nearly_clean() -> None:
    level = torch.tensor([0.0, 0.5, 1.0])
    assert torch.allclose(Flow(prediction="x").weight(level), torch.tensor([0.1, 0.55, 1.0]))
    assert torch.equal(Flow(prediction="v").weight(level), torch.ones(3))
    assert torch.equal(Flow(ramp=0).weight(level), torch.ones(3))


@pytest.mark.parametrize("flow", FLOWS, ids=str)
@pytest.mark.parametrize("steps", [1, 4])
def test_sampling_with_the_exact_denoiser_of_a_normal_gives_that_normal(flow: Flow, steps: int) -> None:
    """Of data that are all m, every denoiser says m; of N(0, s²) the posterior mean is linear, and 64 steps find s."""
    at = torch.full((500, 2), 3.0)
    assert torch.allclose(sample(flow, lambda x, level: at, drawn(500, 2), steps), at)

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        signal = flow.mix(torch.ones_like(x), torch.zeros_like(x), level)
        rest = flow.mix(torch.zeros_like(x), torch.ones_like(x), level)
        return signal * 0.25 * x / (signal**2 * 0.25 + rest**2)

    found = sample(flow, denoise, drawn(4000, 2), 64)
    assert float(found.std()) == pytest.approx(0.5, rel=0.08)


def test_noise_is_none_without_a_generator() -> None:
    x = drawn(2, 3)
    assert not noise_like(x, None).any()
    a, b = (noise_like(x, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(a, b) and a.any()


def test_level_vectors_tell_levels_apart() -> None:
    vectors = LevelVector(8)(torch.tensor([[0.0, 0.5, 0.501]]))
    assert vectors.shape == (1, 3, 8)
    assert not torch.allclose(vectors[0, 1], vectors[0, 2], atol=1e-5)
