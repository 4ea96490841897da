"""S5 is the system that the paper writes down."""

from __future__ import annotations

import math

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.backbone.s5 import S5, S5Layer
from innerworld.nn.backbone.state_space import hippo


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_s5_is_a_dense_real_system(method):
    """Pairs written out as turning planes: x' = a x + b u, y = c x + D u, with a step size for each state."""
    torch.manual_seed(0)
    layer = S5(3, 8, blocks=2, method=method).double()
    n, t = 4, 9
    with torch.no_grad():
        rate, turn, step = -layer.log_decay.exp(), layer.turn, layer.log_step.exp()
        a = torch.block_diag(*[torch.tensor([[r, -w], [w, r]]) for r, w in zip(rate, turn, strict=True)]).double()
        b, c = layer.enter, 2 * layer.leave
        steps = torch.diag(step.repeat_interleave(2))  # x' with each plane's own clock
        a, b = steps @ a, steps @ b
        eye = torch.eye(2 * n, dtype=torch.float64)
        if method == "bilinear":
            inverse = torch.linalg.inv(eye - a / 2)
            decay, push = inverse @ (eye + a / 2), inverse @ b
        else:
            decay = torch.matrix_exp(a)
            push = torch.linalg.solve(a, (decay - eye) @ b)
        u = torch.randn(t, 3, dtype=torch.float64)
        x, expected = torch.zeros(2 * n, dtype=torch.float64), []
        for each in u:
            x = decay @ x + push @ each
            expected.append(c @ x + layer.skip * each)
        torch.testing.assert_close(layer(u[None])[0], torch.stack(expected))


def test_it_begins_as_hippo_in_blocks():
    layer = S5(3, 16, blocks=4)
    torch.testing.assert_close(layer.turn, hippo(4).poles.imag.float().repeat(4))
    torch.testing.assert_close(layer.log_decay.exp(), torch.full((8,), 0.5))
    assert layer.log_step.shape == (8,)


def test_parameters():
    """A state of N pairs up to N/2: poles, clocks, matrices in and out, D; around it a norm and one linear gate."""
    d, n = 20, 8
    count = sum(p.numel() for p in S5Layer(d, 2 * n).parameters())
    assert count == 3 * n + 4 * n * d + d + 2 * d + (d * d + d)


@pytest.mark.parametrize(
    ("state", "blocks", "words"), [(8, 3, "8 numbers does not divide into 3"), (8, 0, "into 0"), (6, 2, "memory of 3")]
)
def test_a_state_that_does_not_divide(state, blocks, words):
    with pytest.raises(UserError, match=words):
        S5(3, state, blocks)


def test_a_decay_that_is_not_finite():
    layer = S5(3, 4)
    layer.log_decay.data[1] = math.nan
    with pytest.raises(UserError, match="S5 of 2 pairs: a decay is not finite"):
        layer(torch.zeros(1, 2, 3))
    with pytest.raises(UserError, match="S5 of 2 pairs: a decay is not finite"):
        layer.roll({"state": torch.zeros(1, 1, 2, 2)}, 2)
