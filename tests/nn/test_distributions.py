import pytest
import torch
from torch import Generator
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from innerworld.nn.distributions import (
    Gaussian,
    OneHot,
    balanced_kl,
    symexp_bins,
    twohot,
    twohot_loss,
    twohot_mean,
)


def _raw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def test_unimix_keeps_every_class_possible():
    latent = OneHot.mixed(torch.tensor([[[100.0, 0.0, 0.0, 0.0]]]), unimix=0.01)
    torch.testing.assert_close(latent.logits.exp(), torch.tensor([[[0.9925, 0.0025, 0.0025, 0.0025]]]))


def test_one_hot_agrees_with_torch():
    one, two = OneHot.mixed(_raw(5, 3, 4)), OneHot.mixed(_raw(5, 3, 4, seed=1))
    theirs = [Independent(Categorical(logits=latent.logits), 1) for latent in (one, two)]
    torch.testing.assert_close(one.kl(two), kl_divergence(*theirs))
    torch.testing.assert_close(one.entropy(), theirs[0].entropy())


def test_gaussian_agrees_with_torch():
    one, two = Gaussian.bounded(_raw(5, 6)), Gaussian.bounded(_raw(5, 6, seed=1))
    assert one.mean.shape == (5, 3, 1) and bool((one.std > 0.1).all())
    theirs = [Independent(Normal(latent.mean, latent.std), 2) for latent in (one, two)]
    torch.testing.assert_close(one.kl(two), kl_divergence(*theirs))
    torch.testing.assert_close(one.entropy(), theirs[0].entropy())


def test_draws_have_the_right_frequencies():
    latent = OneHot.mixed(torch.tensor([[0.0, 1.0, 2.0]]).expand(20_000, 1, 3))
    draw = latent.sample(Generator().manual_seed(0))
    assert bool(((draw == 0) | (draw == 1)).all())
    torch.testing.assert_close(draw.mean(dim=0), latent.expected()[0], atol=0.01, rtol=0)


def test_straight_through_gradient_is_that_of_the_probabilities():
    raw = _raw(2, 3, 4).requires_grad_()
    weight = _raw(2, 3, 4, seed=1)
    (through,) = torch.autograd.grad((OneHot.mixed(raw).sample() * weight).sum(), raw)
    (expected,) = torch.autograd.grad((raw.softmax(dim=-1) * weight).sum(), raw)
    torch.testing.assert_close(through, expected)


def test_mode_is_the_most_likely():
    latent = OneHot.mixed(_raw(2, 3, 4))
    assert torch.equal(latent.mode().argmax(dim=-1), latent.logits.argmax(dim=-1))
    assert torch.equal(latent.mode().sum(dim=-1), torch.ones(2, 3))


@pytest.mark.parametrize("make", [lambda raw: OneHot.mixed(raw.unflatten(-1, (4, 4)), 0.01), Gaussian.bounded])
def test_balanced_kl_teaches_prior_and_posterior_apart(make):
    posterior, prior = _raw(3, 16).requires_grad_(), _raw(3, 16, seed=1).requires_grad_()
    dyn, rep = balanced_kl(make(posterior), make(prior), free_nats=0.0)
    torch.testing.assert_close(dyn, rep)
    assert torch.autograd.grad(dyn.sum(), [posterior, prior], allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(rep.sum(), [posterior, prior], allow_unused=True)[1] is None


def test_free_nats_are_counted_after_the_sum_over_groups():
    """32 groups of 0.1 nat each are 3.2 nats: not free, though every group alone would be."""
    raw = _raw(1, 32, 2) * 0.6
    posterior, prior = OneHot.mixed(raw), OneHot.mixed(torch.zeros(1, 32, 2))
    kl = posterior.kl(prior)
    assert (posterior.logits.exp() * (posterior.logits - prior.logits)).sum(dim=-1).max() < 1 < kl
    dyn, _ = balanced_kl(posterior, prior, free_nats=1.0)
    torch.testing.assert_close(dyn, kl)
    dyn, _ = balanced_kl(prior, prior, free_nats=1.0)
    torch.testing.assert_close(dyn, torch.ones(1))


def test_bins_are_symmetric():
    bins = symexp_bins(255)
    assert len(bins) == 255 and bins[127] == 0
    assert torch.equal(bins, -bins.flip(0))
    assert bins[-1] == pytest.approx(4.85e8, rel=1e-2)


def test_twohot_has_its_value_as_mean():
    bins = symexp_bins(255)
    value = torch.tensor([0.0, 1.0, -1.0, 0.3, -17.2, 1234.5, float(bins[-1]), float(bins[0])])
    weights = twohot(value, bins)
    assert bool(((weights > 0).sum(dim=-1) <= 2).all())
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(len(value)))
    torch.testing.assert_close((weights * bins).sum(dim=-1), value)


def test_twohot_clips_at_the_outermost_bins():
    bins = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(twohot(torch.tensor([-9.0, 9.0]), bins), torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))


def test_twohot_mean_of_equal_weights_is_exactly_zero():
    assert torch.equal(twohot_mean(torch.zeros(4, 255), symexp_bins(255)), torch.zeros(4))


def test_twohot_loss_is_least_at_the_value():
    bins = symexp_bins(21)
    value = torch.tensor([0.7, -3.0])
    logits = torch.zeros(2, 21, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(200):
        optimiser.zero_grad()
        twohot_loss(logits, value, bins).sum().backward()
        optimiser.step()
    weights = twohot(value, bins)
    torch.testing.assert_close(logits.softmax(dim=-1), weights, atol=1e-2, rtol=0)
