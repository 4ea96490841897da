"""S4, S5, the GRU and the feed-forward layer keep what `Layer` promises: one function, said in four ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.backbone.layer import Layer, Memory, Stack
from innerworld.nn.backbone.recurrent import GRULayer, Recurrent
from innerworld.nn.backbone.residual import FeedForward, Gated
from innerworld.nn.backbone.s4 import S4, S4Layer
from innerworld.nn.backbone.s5 import S5, S5Layer

D = 6
LAYERS: dict[str, Callable[[], Layer]] = {
    "s4": lambda: S4Layer(D, 16, "s4"),
    "s4d-legs": lambda: S4Layer(D, 16),
    "s4d-lin": lambda: S4(D, 16, init="lin", method="bilinear"),
    "s4d-inv": lambda: S4(D, 16, init="inv"),
    "s5": lambda: S5Layer(D, 16),
    "s5-blocks": lambda: S5(D, 16, blocks=4, method="bilinear"),
    "gru": lambda: GRULayer(D),
    "gru-wide": lambda: Recurrent(D, 9),
    "feed-forward": lambda: FeedForward(D, 10, glu=True),
    "stack": lambda: Stack([S4Layer(D, 4, "s4"), FeedForward(D, 8), S5Layer(D, 4), GRULayer(D, 3)]),
}
EXACT = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
every_layer = pytest.mark.parametrize("name", LAYERS)
both_dtypes = pytest.mark.parametrize(("dtype", "tolerance"), EXACT)


def clip(b: int, t: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Tokens, and where episodes begin, `b t+1`: in the first row never, in the second at both ends, else by chance."""
    draw = torch.Generator().manual_seed(seed)
    first = torch.rand(b, t + 1, generator=draw) < 0.2
    first[0] = False
    first[1, :2] = first[1, -1] = True
    return torch.randn(b, t, D, generator=draw).to(dtype), first


def built(name: str, dtype: torch.dtype = torch.float32) -> Layer:
    torch.manual_seed(0)
    return LAYERS[name]().to(dtype)


def stepped(layer: Layer, x: Tensor, first: Tensor | None) -> tuple[Tensor, list[Memory]]:
    """What comes of the tokens one by one, and the memories before each and after the last; `first` `b t+1`."""
    blank = layer.blank(len(x), x)
    memory, outs, memories = blank, [], []
    for t in range(x.shape[1] + 1):
        if first is not None:
            new = first[:, t]
            memory = {
                name: torch.where(new.view(-1, *[1] * (value.ndim - 1)), blank[name], value)
                for name, value in memory.items()
            }
        memories.append(memory)
        if t < x.shape[1]:
            out, memory = layer.step(x[:, t], memory)
            outs.append(out)
    return torch.stack(outs, dim=1), memories


@every_layer
@both_dtypes
@pytest.mark.parametrize("cut", [False, True])
def test_step_by_step_is_all_at_once(name, dtype, tolerance, cut):
    layer = built(name, dtype)
    for seed, t in ((0, 1), (1, 2), (2, 19), (3, 64)):
        x, first = clip(3, t, seed, dtype)
        first = first if cut else None
        out, memories = stepped(layer, x, first)
        torch.testing.assert_close(layer(x, None if first is None else first[:, :-1]), out, rtol=0, atol=tolerance)
        traced, memory = layer.trace(x, first)
        torch.testing.assert_close(traced, out, rtol=0, atol=tolerance)
        for part, value in memory.items():
            expected = torch.stack([each[part] for each in memories], dim=1)
            torch.testing.assert_close(value, expected, rtol=0, atol=tolerance)
            assert not value.requires_grad
            assert value.dtype == dtype and value.shape[2:] == layer.blank(1, x)[part].shape[1:]


@every_layer
@both_dtypes
@pytest.mark.parametrize("grad", [False, True])
def test_roll_from_every_time_is_steps(name, dtype, tolerance, grad):
    layer = built(name, dtype)
    x, first = clip(3, 5, dtype=dtype)
    memory = layer.trace(x, first)[1]
    kept = {part: value.clone() for part, value in memory.items()}
    later = clip(18, 4, seed=1, dtype=dtype)[0]
    rows = {part: value.flatten(0, 1).clone() for part, value in memory.items()}
    with torch.set_grad_enabled(grad):
        roll = layer.roll(memory, 4)
        for t in range(4):
            given = later[:, t].unflatten(0, (3, 6))
            found = roll(given)
            expected, rows = layer.step(later[:, t], rows)
            torch.testing.assert_close(found.flatten(0, 1), expected, rtol=0, atol=tolerance)
    assert torch.equal(given, later[:, 3].unflatten(0, (3, 6)))
    for part, value in memory.items():
        torch.testing.assert_close(value, kept[part], rtol=0, atol=0)


@every_layer
def test_roll_of_futures_that_share_one_past(name):
    layer = built(name)
    memory = {part: value[:, -1] for part, value in layer.trace(clip(3, 5)[0])[1].items()}
    shared = {part: value[:, None].expand(-1, 4, *value.shape[1:]) for part, value in memory.items()}
    copied = {part: value.clone() for part, value in shared.items()}
    x = clip(3, 8, seed=1)[0].unflatten(1, (2, 4))  # two tokens of four futures
    with torch.no_grad():
        one, other = layer.roll(shared, 2), layer.roll(copied, 2)
        for t in range(2):
            torch.testing.assert_close(one(x[:, t]), other(x[:, t]), rtol=0, atol=1e-6)
    for part, value in shared.items():
        torch.testing.assert_close(value, copied[part], rtol=0, atol=0)


@every_layer
def test_gradients_are_those_of_steps(name):
    layer = built(name, torch.float64)
    x, first = clip(3, 9, dtype=torch.float64)
    weight = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for run in (layer(x, first[:, :-1]), layer.trace(x, first)[0], stepped(layer, x, first)[0]):
        found.append(torch.autograd.grad((run * weight).sum(), list(layer.parameters())))
    for forward, trace, step in zip(*found, strict=True):
        torch.testing.assert_close(forward, step, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(trace, step, rtol=1e-9, atol=1e-10)


@every_layer
def test_rolls_carry_gradients_to_their_inputs_and_weights(name):
    layer = built(name, torch.float64)
    memory = layer.trace(clip(2, 2, dtype=torch.float64)[0])[1]
    x = clip(2, 12, dtype=torch.float64)[0].unflatten(1, (4, 3)).requires_grad_()  # four tokens of three futures
    roll = layer.roll(memory, 4)
    rolled = torch.stack([roll(x[:, t]) for t in range(4)], dim=1)
    rows = {part: value.flatten(0, 1) for part, value in memory.items()}
    outs = []
    for t in range(4):
        out, rows = layer.step(x[:, t].flatten(0, 1), rows)
        outs.append(out.unflatten(0, (2, 3)))
    wanted = [x, *layer.parameters()]
    found = torch.autograd.grad(rolled.square().sum(), wanted)
    for own, other in zip(found, torch.autograd.grad(torch.stack(outs, dim=1).square().sum(), wanted), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-10)


@every_layer
def test_a_roll_may_leave_and_enter_gradients(name):
    """What a graph needs is not overwritten by the tokens after it."""
    layer = built(name, torch.float64)
    memory = layer.trace(clip(2, 2, dtype=torch.float64)[0])[1]
    x = clip(2, 12, dtype=torch.float64)[0].unflatten(1, (4, 3))
    roll = layer.roll(memory, 4)
    with torch.no_grad():
        roll(x[:, 0])
        roll(x[:, 1])
    out = roll(x[:, 2])
    with torch.no_grad():
        roll(x[:, 3])
    torch.autograd.grad(out.square().sum(), list(layer.parameters()), allow_unused=True)


@every_layer
def test_rows_are_independent_and_the_future_unseen(name):
    layer = built(name)
    x, first = clip(3, 12)
    first = first[:, :-1]
    other = x.clone()
    other[2] += 3
    other[:, 7:] -= 3
    out, changed = layer(x, first), layer(other, first)
    torch.testing.assert_close(changed[:2, :7], out[:2, :7], rtol=0, atol=1e-5)
    assert not torch.allclose(changed[:, 8], out[:, 8])


@every_layer
def test_nothing_given_is_changed(name):
    layer = built(name)
    x, first = clip(3, 6)
    given, begun = x.clone(), first.clone()
    memory = layer.blank(3, x)
    with torch.no_grad():
        layer(x, first[:, :-1])
        layer.trace(x, first)
        layer.step(x[:, 0], memory)
    assert torch.equal(x, given) and torch.equal(first, begun)
    assert all(not value.any() for value in memory.values())


@every_layer
def test_what_a_roll_holds_does_not_grow_with_the_horizon(name):
    layer = built(name)
    assert layer.held(2, 3, 16, False) == layer.held(2, 3, 4096, True)
    state = sum(value.numel() for value in layer.blank(6, torch.zeros(1)).values())
    assert layer.held(2, 3, 16, False) >= state


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "feed-forward"])
def test_a_memory_of_another_batch(name):
    layer = built(name)
    with pytest.raises(UserError, match=r"tokens of \(3,\) rows with a memory of \(1,\)"):
        layer.step(torch.zeros(3, D), layer.blank(1, torch.zeros(1)))
    memory = {part: value[:, None] for part, value in layer.blank(2, torch.zeros(1)).items()}
    with pytest.raises(UserError, match=r"tokens of \(2, 5\) rows with a memory of \(2, 1\)"):
        layer.roll(memory, 3)(torch.zeros(2, 5, D))


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "stack"])
def test_memories_keep_the_dtype_they_began_with(name):
    layer = built(name)
    like = torch.zeros(2, D, dtype=torch.bfloat16)
    memory = layer.blank(2, like)
    with torch.autocast("cpu", torch.bfloat16):
        out, after = layer.step(like, memory)
        _, traced = layer.trace(like[:, None])
    assert out.isfinite().all()
    for part, value in memory.items():
        assert value.dtype == after[part].dtype == traced[part].dtype == torch.bfloat16


@every_layer
def test_half_precision_is_near_full(name):
    layer = built(name)
    x, first = clip(3, 24)
    full = layer(x, first[:, :-1])
    with torch.autocast("cpu", torch.bfloat16):
        half, memory = layer.trace(x, first)
        steps, _ = stepped(layer, x, first)
        row = {part: value[:, -1, None] for part, value in memory.items()}
        rolled = layer.roll(row, 1)(x[:, :1])
    assert rolled.isfinite().all()
    for found in (half, steps):
        torch.testing.assert_close(found.float(), full, rtol=0.05, atol=0.05)


def test_gates_are_the_papers():
    torch.manual_seed(0)
    x = torch.randn(3, D)
    glu, half = Gated(D, "glu"), Gated(D, "half_glu")
    assert glu.gate is not None and half.gate is not None
    active = F.gelu(x)
    torch.testing.assert_close(glu(x), glu.value(active) * torch.sigmoid(glu.gate(active)))
    torch.testing.assert_close(half(x), active * torch.sigmoid(half.gate(active)))
    torch.testing.assert_close(Gated(D, "none")(x), active)


def test_dropout_is_for_training():
    torch.manual_seed(0)
    x = clip(2, 8)[0]
    for layer in (FeedForward(D, 12, dropout=0.5), S4Layer(D, 4, dropout=0.5), S5Layer(D, 4, dropout=0.5)):
        assert not torch.equal(layer(x), layer(x))
        steps = stepped(layer, x, None)[0]
        memory = {part: value[:, None] for part, value in layer.blank(2, x).items()}
        rolled = layer.roll(memory, 1)(x[:, :1])
        layer.eval()
        assert torch.equal(layer(x), layer(x))
        torch.testing.assert_close(steps, layer(x), rtol=0, atol=1e-5)  # acting and imagining are without
        torch.testing.assert_close(rolled, layer(x)[:, :1], rtol=0, atol=1e-5)
