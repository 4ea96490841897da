"""S4 is the system that the papers write down: a convolution with the powers of a dense matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.nn.backbone.s4 import S4, S4Layer
from innerworld.nn.backbone.state_space import hippo


def dense(layer: S4, channel: int, a: Tensor, b: Tensor, c: Tensor, method: str, t: int) -> Tensor:
    """The impulse response of x' = a x + b u, y = c x with real matrices, made discrete without any structure."""
    step = layer.log_step[channel].detach().exp()
    eye = torch.eye(len(a), dtype=torch.float64)
    if method == "bilinear":
        inverse = torch.linalg.inv(eye - step / 2 * a)
        decay, push = inverse @ (eye + step / 2 * a), step * inverse @ b
    else:
        decay = torch.matrix_exp(step * a)
        push = torch.linalg.solve(a, (decay - eye) @ b)
    return torch.stack([c @ torch.linalg.matrix_power(decay, i) @ push for i in range(t)])


def impulse(layer: S4, t: int) -> Tensor:
    """What each channel makes of a one and then nothing, less what it lets through: `t d`."""
    x = torch.zeros(1, t, len(layer.skip), dtype=torch.float64)
    x[:, 0] = 1
    return (layer(x) - layer.skip * x)[0]


def test_s4_is_hippo_legs():
    """No diagonal, no low rank, no pairs: the published real matrix, by the bilinear rule."""
    torch.manual_seed(0)
    state, t = 12, 20
    layer = S4(3, state, "s4").double()
    order = torch.arange(state, dtype=torch.float64)
    b = (2 * order + 1).sqrt()
    a = -(torch.tril(torch.outer(b, b), -1) + torch.diag(order + 1))
    base = hippo(state).base
    with torch.no_grad():
        found = impulse(layer, t)
        for channel in range(3):
            c = 2 * (torch.view_as_complex(layer.read[channel]) @ base.conj().T).real
            torch.testing.assert_close(
                found[:, channel], dense(layer, channel, a, b, c, "bilinear", t), atol=1e-6, rtol=0
            )


@pytest.mark.parametrize("init", ["legs", "lin", "inv"])
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_s4d_is_a_real_system_of_turning_pairs(init, method):
    torch.manual_seed(0)
    layer = S4(2, 6, "s4d", init, method).double()
    with torch.no_grad():
        found = impulse(layer, 15)
        for channel in range(2):
            rate, turn = -layer.log_decay[channel].exp(), layer.turn[channel]
            a = torch.block_diag(*[torch.tensor([[r, -w], [w, r]]) for r, w in zip(rate, turn, strict=True)]).double()
            b = torch.tensor([1.0, 0.0] * 3, dtype=torch.float64)
            c = (2 * layer.read[channel] * torch.tensor([1.0, -1.0], dtype=torch.float64)).flatten()
            torch.testing.assert_close(
                found[:, channel], dense(layer, channel, a, b, c, method, 15), atol=1e-10, rtol=0
            )


def test_beginnings_are_the_papers():
    """S4D (arXiv 2206.11893): real parts all -1/2; turns πn (Lin), N/π (N/(2n+1) - 1) (Inv), HiPPO's own (LegS)."""
    n = torch.arange(4)
    lin, inv, legs = (S4(2, 8, init=init) for init in ("lin", "inv", "legs"))
    torch.testing.assert_close(lin.turn[1], math.pi * n)
    torch.testing.assert_close(inv.turn[0], 8 / math.pi * (8 / (2 * n + 1) - 1))
    torch.testing.assert_close(legs.turn[0], hippo(8).poles.imag.float())
    for layer in (lin, inv, legs):
        torch.testing.assert_close(layer.log_decay.exp(), torch.full((2, 4), 0.5))


@pytest.mark.parametrize("kind", ["s4", "s4d"])
def test_a_clip_of_a_thousand_tokens(kind):
    torch.manual_seed(0)
    layer = S4(4, 64, kind)
    x = torch.randn(1, 1000, 4)
    with torch.no_grad():
        out, memory = layer.trace(x)
        roll = layer.roll({"state": layer.blank(1, x)["state"][:, None]}, 1000)
        steps = torch.stack([roll(x[:, t, None]) for t in range(1000)], dim=2)[:, 0]
    torch.testing.assert_close(out, steps, rtol=0, atol=1e-5)
    assert memory["state"].isfinite().all()


@pytest.mark.parametrize("kind", ["s4", "s4d"])
@pytest.mark.parametrize("part", ["log_decay", "turn", "log_step"])
def test_a_decay_that_is_not_finite(kind, part):
    layer = S4Layer(3, 4, kind)
    dict(layer.core.named_parameters())[part].data.flatten()[0] = math.nan
    memory = layer.blank(2, torch.zeros(1))
    for use in (lambda: layer(torch.zeros(2, 5, 3)), lambda: layer.step(torch.zeros(2, 3), memory)):
        with pytest.raises(UserError, match="S4 of 3 channels: a decay is not finite"):
            use()
    with pytest.raises(UserError, match="S4 of 3 channels: a decay is not finite"):
        layer.roll({"state": memory["state"][:, None]}, 5)


@pytest.mark.parametrize("state", [0, 5])
def test_a_state_of_an_odd_size(state):
    with pytest.raises(UserError, match=f"memory of {state} numbers"):
        S4(3, state)


def test_parameters_of_the_s4wm_port():
    """Mskogli/S4WM: d 512, N 100. It keeps both of each pair, so as many numbers as 200 states take here:
    8 N + 2 a channel, a norm, and a gate of two linear maps."""
    count = sum(p.numel() for p in S4Layer(512, 200, "s4").parameters())
    assert count == 512 * (8 * 100 + 2) + 2 * 512 + 2 * (512 * 512 + 512) == 936_960
    halved = sum(p.numel() for p in S4Layer(512, 100, "s4").parameters())
    assert halved == 936_960 - 512 * 4 * 100


@pytest.mark.parametrize("kind", ["s4", "s4d"])
def test_it_remembers_what_it_saw_long_ago(kind):
    """A cue at the start, noise after it: a fifth of a thousand tokens later a linear eye can still tell it."""
    torch.manual_seed(0)
    layer = S4(8, 32, kind).eval()
    cue = torch.randint(0, 2, (200,)).float() * 2 - 1
    x = 0.05 * torch.randn(200, 200, 8)
    x[:, 0] = cue[:, None]
    with torch.no_grad():
        state = layer.trace(x)[1]["state"][:, -1].flatten(1)
    features = torch.cat([state, torch.ones(200, 1)], dim=1).double()
    penalty = 1e-6 * torch.eye(features.shape[1], dtype=torch.float64)
    train, test = features[:150], features[150:]
    weight = torch.linalg.solve(train.T @ train + penalty, train.T @ cue[:150].double())
    assert ((test @ weight).sign() == cue[150:]).float().mean().item() > 0.8
