"""Distributions of actions: against torch's own, by draws, and at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator
from torch.distributions import Categorical, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from innerworld.policy.actor import Actor, ActorConfig
from innerworld.types import Spec

CONTINUOUS, DISCRETE = Spec({"x": (4,)}, 3), Spec({"x": (4,)}, 5, discrete=True)
WIDTH = 16


def _actor(spec: Spec = CONTINUOUS, **changes: object) -> Actor:
    torch.manual_seed(0)
    return Actor(ActorConfig.model_validate({"units": 32, "outscale": 3.0, **changes}), WIDTH, spec)


def test_a_bounded_normal_is_torchs_normal() -> None:
    actor, x = _actor(), torch.randn(7, WIDTH)
    choice = actor(x)
    mean, raw = actor.net(x).chunk(2, dim=-1)
    same = Independent(Normal(mean.tanh(), 0.1 + 0.9 * torch.sigmoid(raw + 2)), 1)
    action = same.sample()
    torch.testing.assert_close(choice.log_prob(action), same.log_prob(action))
    torch.testing.assert_close(choice.entropy(), same.entropy())
    torch.testing.assert_close(choice.mode(), same.mean)


def test_choices_are_torchs_categorical() -> None:
    actor, x = _actor(DISCRETE), torch.randn(7, WIDTH)
    choice, same = actor(x), Categorical(logits=actor.net(x))
    action = choice.sample(Generator().manual_seed(0))
    assert action.shape == (7, 5) and torch.equal(action.sum(-1), torch.ones(7))
    torch.testing.assert_close(choice.log_prob(action), same.log_prob(action.argmax(-1)))
    torch.testing.assert_close(choice.entropy(), same.entropy())
    assert torch.equal(choice.mode().argmax(-1), same.probs.argmax(-1))  # type: ignore[union-attr]


def test_a_tanh_normal_is_torchs() -> None:
    actor, x = _actor(continuous="tanh_normal", init_std=0.7, outscale=0.3), torch.randn(5, WIDTH)
    choice = actor(x)
    mean, raw = actor.net(x).chunk(2, dim=-1)
    std = torch.nn.functional.softplus(raw + math.log(math.expm1(0.7))) + 1e-4
    same = TransformedDistribution(Normal(5 * (mean / 5).tanh(), std), [TanhTransform()])
    action = same.sample()
    torch.testing.assert_close(choice.log_prob(action), same.log_prob(action).sum(-1), rtol=1e-3, atol=1e-3)
    drawn = same.sample((100_000,))
    torch.testing.assert_close(choice.entropy(), -same.log_prob(drawn).mean(0).sum(-1), rtol=0, atol=0.05)


def test_a_tanh_normal_is_finite_at_the_edge_of_actions() -> None:
    choice = _actor(continuous="tanh_normal")(torch.randn(5, WIDTH))
    assert bool(choice.log_prob(torch.ones(5, 3)).isfinite().all())
    assert bool(choice.log_prob(choice.sample()).isfinite().all())


@pytest.mark.parametrize(
    ("spec", "kind"), [(CONTINUOUS, "bounded_normal"), (CONTINUOUS, "tanh_normal"), (DISCRETE, "")]
)
def test_samples_let_gradients_pass(spec: Spec, kind: str) -> None:
    actor = _actor(spec, **({"continuous": kind} if kind else {}))
    (actor(torch.randn(5, WIDTH)).sample() * torch.randn(5, spec.action)).sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in actor.parameters())


def test_unimix_keeps_every_choice_possible() -> None:
    x = 100 * torch.randn(7, WIDTH)
    sure = lambda actor: float(actor(x).latent.expected().detach().min())
    assert sure(_actor(DISCRETE, outscale=100.0)) < 1e-6
    assert sure(_actor(DISCRETE, outscale=100.0, unimix=0.01)) >= 0.01 / 5 - 1e-6


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_what_leaves_for_the_world_is_an_action(spec: Spec) -> None:
    actor, x = _actor(spec, noise=0.5), torch.randn(500, WIDTH)
    likely, again = actor.act(x), actor.act(x)
    drawn = actor.act(x, Generator().manual_seed(0))
    assert torch.equal(likely, again) and not torch.equal(likely, drawn)
    for action in (likely, drawn):
        assert bool((action.abs() <= 1).all())
        if spec.discrete:
            assert bool(((action == 0) | (action == 1)).all()) and torch.equal(action.sum(-1), torch.ones(500))


def test_noise_is_of_its_size() -> None:
    calm = {"outscale": 0.0, "min_std": 1e-6, "max_std": 2e-6}
    drawn = _actor(**calm, noise=0.3).act(torch.zeros(5000, WIDTH), Generator().manual_seed(0))
    assert float(drawn.detach().std()) == pytest.approx(0.3, rel=0.05)
    sure = _actor(DISCRETE, outscale=0.0)
    with torch.no_grad():
        sure.net.stack[-1].bias[2] = 100.0  # type: ignore[union-attr]
    sure.config = sure.config.model_copy(update={"noise": 0.4})
    chosen = sure.act(torch.zeros(5000, WIDTH), Generator().manual_seed(0))[:, 2].mean()
    assert float(chosen.detach()) == pytest.approx(0.6 + 0.4 / 5, abs=0.03)
