from dataclasses import replace

import pytest
import torch
from torch import Tensor

from innerworld.models.rssm import RSSM
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec
from innerworld.world import at

TINY = RSSM.Config(deter=32, hidden=12, stoch=5, classes=4, units=16, layers=1, blocks=4)
SPEC = Spec({"position": (3,)}, 2)


def _clip(model: RSSM, kind: str) -> Clip:
    clip = random_clip(SPEC, 3, 6)
    if kind == "one episode":
        return clip
    first = torch.zeros(3, 7, dtype=torch.bool)
    first[1, 4] = first[2, 0] = first[2, 1] = True
    if kind == "several":
        return replace(clip, first=first)
    with torch.no_grad():
        return replace(clip, first=first, past=model.packed(at(model.watch(clip), 3)))


@pytest.mark.parametrize("unimix", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["one episode", "several", "several, from a past"])
def test_the_loss_is_the_plain_loops_and_so_is_its_gradient(monkeypatch, kind, unimix):
    model = _odd(TINY.model_copy(update={"unimix": unimix, "free_nats": 0.0}))
    clip = _clip(model, kind)
    found = []
    for walks in (True, False):
        monkeypatch.setattr(RSSM, "_walks", lambda self, look, walks=walks: walks)
        model.zero_grad()
        torch.manual_seed(1)
        loss, _, beliefs = model.study(clip)
        loss.backward()
        found.append((loss, beliefs, {name: p.grad.clone() for name, p in model.named_parameters()}))
    (loss, beliefs, gradients), (loss_plain, beliefs_plain, gradients_plain) = found
    torch.testing.assert_close(loss, loss_plain)
    for name in ("deter", "stoch"):
        torch.testing.assert_close(beliefs[name], beliefs_plain[name], atol=1e-5, rtol=1e-5)
    for name, gradient in gradients.items():
        _close(name, gradient, gradients_plain[name], 1e-3)


def test_the_walk_is_the_plain_loop_also_for_what_is_given(monkeypatch):
    """The gradients of actions and tokens, from each of the three that come out."""
    model = _odd(TINY)
    clip = _clip(model, "several")
    tokens = torch.randn(3, 7, 16, requires_grad=True)
    action = clip.action.requires_grad_()
    clip = replace(clip, action=action)
    weights = [torch.randn(3, 7, *shape) for shape in ((32,), (5, 4), (20,))]
    inputs = {name: p for name, p in model.named_parameters() if name.startswith(("cell", "posterior"))}
    inputs |= {"tokens": tokens, "action": action}
    found = []
    for walks in (True, False):
        monkeypatch.setattr(RSSM, "_walks", lambda self, look, walks=walks: walks)
        torch.manual_seed(1)
        outputs = model._follow(tokens, clip, sample=True)
        total = torch.stack([(w * x).sum() for w, x in zip(weights, outputs, strict=True)]).sum()
        found.append((outputs, torch.autograd.grad(total, list(inputs.values()))))
    for ours, plain in zip(*(outputs for outputs, _ in found), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    for name, ours, plain in zip(inputs, found[0][1], found[1][1], strict=True):
        _close(name, ours, plain, 1e-4)


def _odd(config: RSSM.Config) -> RSSM:
    """With scales other than 1 and biases other than 0."""
    torch.manual_seed(0)
    model = RSSM(config, SPEC)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    return model


def _close(name: str, ours: Tensor, plain: Tensor, tolerance: float) -> None:
    assert bool(plain.any()), f"{name}: no gradient to compare"
    gap = (ours - plain).abs().max() / plain.abs().max()
    assert gap < tolerance, f"{name}: gradients differ by {gap:.1g} of the largest"


def test_frozen_weights_and_a_start_that_is_taught():
    """Whatever asks for no gradient gets none; without any, nothing is kept."""
    torch.manual_seed(0)
    model = RSSM(TINY, SPEC).requires_grad_(False)
    model.posterior.out.requires_grad_()
    clip = random_clip(SPEC, 2, 3)
    model.study(clip)[0].backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "posterior.out.weight",
        "posterior.out.bias",
    }
    with torch.no_grad():
        assert not model.study(clip)[2]["deter"].requires_grad


@pytest.mark.parametrize(
    "change", [{"latent": "gaussian"}, {"norm": "layer"}, {"activation": "elu"}, {"cell": "gru"}, {"soften": 5}]
)
def test_other_steps_are_taken_the_plain_way(change):
    model = RSSM(TINY.model_copy(update=change), SPEC)
    assert not model._walks(torch.zeros(2, 3, 12))


def test_half_precision_is_taken_the_plain_way():
    model = RSSM(TINY, SPEC)
    clip = random_clip(SPEC, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert not model._walks(torch.zeros(2, 3, 12))
        loss, _ = model.loss(clip)
    loss.backward()
    assert bool(loss.isfinite())
