"""Attention over a sliding window: all at once, step by step, from any memory of a trace, in both kinds of position."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.nn.backbone.attention import AttentionLayer, Norms, Positions
from innerworld.nn.backbone.layer import Layer, Memory
from innerworld.nn.rotary import rotate, turn
from innerworld.nn.sincos import sincos
from innerworld.types import each

DIM, HEADS, HEAD_DIM, T = 12, 3, 4, 9
BOTH = pytest.mark.parametrize("positions", ["rotary", "relative"])
WINDOWS = pytest.mark.parametrize("window", [1, 2, 4, 20])


def attention(
    positions: Positions = "rotary", window: int = 4, norm: Norms = "pre", dropout: float = 0.3
) -> AttentionLayer:
    torch.manual_seed(0)
    layer = AttentionLayer(DIM, HEADS, 16, window, HEAD_DIM, positions, norm, dropout).eval()
    if layer.distances is not None:
        torch.nn.init.normal_(layer.distances.content)
        torch.nn.init.normal_(layer.distances.position)
    return layer


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def episodes(t: int = T) -> Tensor:
    """Two rows of episodes that begin at different times, one with the last token."""
    first = torch.zeros(2, t, dtype=torch.bool)
    first[0, 3] = first[1, 0] = first[0, t - 1] = True
    return first


def stepped(layer: Layer, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
    memory = blank = layer.blank(len(x), x)
    outs = []
    for t in range(x.shape[1]):
        if first is not None:
            new = first[:, t]
            memory = {
                name: torch.where(new.reshape(-1, *[1] * (now.ndim - 1)), blank[name], now)
                for name, now in memory.items()
            }
        out, memory = layer.step(x[:, t], memory)
        outs.append(out)
    return torch.stack(outs, dim=1), memory


@BOTH
@WINDOWS
@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_step_by_step_is_all_at_once(positions: Positions, window: int, norm: Norms) -> None:
    layer, x = attention(positions, window, norm), noise(2, T, DIM)
    torch.testing.assert_close(stepped(layer, x)[0], layer(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(stepped(layer, x, episodes())[0], layer(x, episodes()), rtol=0, atol=1e-5)


@BOTH
@torch.no_grad()
def test_in_double_precision_it_is_exact(positions: Positions) -> None:
    layer, x = attention(positions).double(), noise(2, T, DIM).double()
    torch.testing.assert_close(stepped(layer, x, episodes())[0], layer(x, episodes()), rtol=0, atol=1e-10)


@BOTH
@WINDOWS
@torch.no_grad()
def test_each_memory_of_a_trace_goes_on(positions: Positions, window: int) -> None:
    """Before each token as before it is seen, so where an episode begins it is blank; the last goes on after them."""
    layer, x, first = attention(positions, window), noise(2, T + 1, DIM), episodes(T + 1)
    out, memories = layer.trace(x[:, :T], first)
    whole = layer(x, first)
    torch.testing.assert_close(out, whole[:, :T], rtol=0, atol=1e-6)
    for t in range(T + 1):
        now, _ = layer.step(x[:, t], each(lambda value, t=t: value[:, t], memories))
        torch.testing.assert_close(now, whole[:, t], rtol=0, atol=1e-5)
    assert not memories["age"][first].any() and not memories["age"][:, 0].any()


@BOTH
@torch.no_grad()
def test_memories_keep_their_shapes_and_dtypes(positions: Positions) -> None:
    layer, x = attention(positions), noise(2, T, DIM)
    blank, traced, after = layer.blank(2, x), layer.trace(x)[1], stepped(layer, x)[1]
    for memory in (each(lambda value: value[:, 0], traced), after):
        assert {name: (v.shape, v.dtype) for name, v in memory.items()} == {
            name: (v.shape, v.dtype) for name, v in blank.items()
        }


@BOTH
@torch.no_grad()
def test_a_trace_is_one_copy(positions: Positions) -> None:
    """As many keys as tokens and one window, whatever the number of times."""
    memory = attention(positions, window=6).trace(noise(2, 50, DIM))[1]
    for name in ("keys", "values"):
        assert memory[name].shape == (2, 51, HEADS, 5, HEAD_DIM)
        assert memory[name].untyped_storage().nbytes() == 4 * 2 * HEADS * (50 + 5) * HEAD_DIM


def test_the_memories_of_a_trace_have_no_gradients() -> None:
    out, memory = attention().trace(noise(2, T, DIM).requires_grad_())
    assert out.requires_grad and not any(value.requires_grad for value in memory.values())


@BOTH
@WINDOWS
@torch.no_grad()
def test_only_the_window_is_seen(positions: Positions, window: int) -> None:
    """The last output is what comes of a clip of the window alone."""
    layer, x = attention(positions, window), noise(2, T, DIM)
    torch.testing.assert_close(layer(x)[:, -1], layer(x[:, -window:])[:, -1], rtol=0, atol=1e-5)
    changed = x.clone()
    changed[:, 2] += noise(DIM, seed=5)
    touched = (layer(x) - layer(changed)).abs().amax(dim=(0, 2)) > 1e-6
    assert touched.tolist() == [2 <= t < 2 + window for t in range(T)]


@BOTH
@torch.no_grad()
def test_an_episode_is_as_if_cut_there(positions: Positions) -> None:
    layer, x = attention(positions), noise(1, T, DIM)
    first = torch.zeros(1, T, dtype=torch.bool)
    first[:, 4] = True
    apart = torch.cat([layer(x[:, :4]), layer(x[:, 4:])], dim=1)
    torch.testing.assert_close(layer(x, first), apart, rtol=0, atol=1e-5)


@BOTH
def test_gradients_of_steps_are_those_of_the_whole(positions: Positions) -> None:
    layer, x, weight = attention(positions).double(), noise(2, T, DIM).double(), noise(2, T, DIM, seed=1).double()
    whole, steps = x.clone().requires_grad_(), x.clone().requires_grad_()
    parameters = list(layer.parameters())
    expected = torch.autograd.grad((layer(whole, episodes()) * weight).sum(), [whole, *parameters])
    found = torch.autograd.grad((stepped(layer, steps, episodes())[0] * weight).sum(), [steps, *parameters])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@BOTH
@torch.no_grad()
def test_rows_are_independent_and_what_is_given_stays(positions: Positions) -> None:
    layer, x = attention(positions), noise(3, T, DIM)
    memory = stepped(layer, x[:, :3])[1]
    before = each(Tensor.clone, memory)
    out, _ = layer.step(x[:, 3], memory)
    assert all(torch.equal(memory[name], before[name]) for name in memory)
    alone, _ = layer.step(x[1:2, 3], each(lambda value: value[1:2], memory))
    torch.testing.assert_close(alone, out[1:2], rtol=0, atol=1e-6)


@torch.no_grad()
def test_rotary_is_exact_after_very_long() -> None:
    """Angles in float32 would be wrong by 0.06 here."""
    layer, x = attention("rotary", window=6), noise(2, T, DIM)
    late, expected = layer.blank(2, x), layer(x)
    late["time"] += 1_000_000
    for t in range(T):
        out, late = layer.step(x[:, t], late)
        torch.testing.assert_close(out, expected[:, t], rtol=0, atol=1e-5)


@torch.no_grad()
def test_rotary_scores_as_written_down() -> None:
    layer, x = attention("rotary", window=3), noise(1, T, DIM)
    q, k, v = layer.block.project(x)  # b head t d
    seen = torch.zeros_like(q)
    for i in range(T):
        js = range(max(0, i - 2), i + 1)
        near = [rotate(q[:, :, [i]], turn(torch.tensor([[i - j]]), HEAD_DIM, "standard")) for j in js]
        scores = torch.cat([(a * k[:, :, [j]]).sum(-1) for a, j in zip(near, js, strict=True)], dim=-1)
        weight = (scores / math.sqrt(HEAD_DIM)).softmax(-1)  # b head j
        seen[:, :, i] = (weight[..., None] * v[:, :, js.start : js.stop]).sum(2)
    torch.testing.assert_close(layer(x), layer.block.finish(x, seen, 0.0), rtol=0, atol=1e-5)


@torch.no_grad()
def test_relative_scores_as_written_down() -> None:
    """Transformer-XL, eq. 5: q·k + q·r + u·k + v·r, r of the distance."""
    layer, x = attention("relative", window=3), noise(1, T, DIM)
    assert layer.distances is not None
    u, v = layer.distances.content, layer.distances.position  # head 1 d
    r = layer.distances.project(sincos(torch.arange(T), DIM).float()).unflatten(-1, (HEADS, HEAD_DIM))  # t head d
    q, k, values = layer.block.project(x)
    seen = torch.zeros_like(q)
    for i in range(T):
        js = range(max(0, i - 2), i + 1)
        scores = [
            ((q[0, :, i] + u[:, 0]) * k[0, :, j]).sum(-1) + ((q[0, :, i] + v[:, 0]) * r[i - j]).sum(-1) for j in js
        ]
        weight = (torch.stack(scores, -1) / math.sqrt(HEAD_DIM)).softmax(-1)  # head j
        seen[0, :, i] = (weight[..., None] * values[0, :, js.start : js.stop]).sum(1)
    torch.testing.assert_close(layer(x), layer.block.finish(x, seen, 0.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_where_the_norms_are(norm: Norms) -> None:
    """With a window of one the attention of a token is its own value."""
    block = attention("rotary", window=1, norm=norm).block
    x = noise(2, T, DIM)
    layer = attention("rotary", window=1, norm=norm)
    ln = lambda x: F.layer_norm(x, (DIM,), eps=1e-6)
    value = lambda x: block.out(block.qkv(x)[..., 2 * HEADS * HEAD_DIM :])
    if norm == "pre":
        expected = x + value(ln(x))
        expected = expected + block.mlp(ln(expected))
    else:
        expected = ln(x + value(x))
        expected = ln(expected + block.mlp(expected))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_dropout_is_for_training_and_not_for_acting() -> None:
    layer, x = attention(), noise(2, T, DIM)
    assert torch.equal(layer(x), layer(x))
    expected, _ = stepped(layer, x)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    torch.testing.assert_close(stepped(layer, x)[0], expected)


def test_heads_that_do_not_fit_are_told() -> None:
    with pytest.raises(UserError, match="5 heads do not divide a width of 12"):
        AttentionLayer(12, 5, 16, 4)
    with pytest.raises(UserError, match="head_dim must be even, got 3"):
        AttentionLayer(12, 4, 16, 4)
    with pytest.raises(UserError, match="even width, got 9"):
        AttentionLayer(9, 3, 16, 4, positions="relative")
    with pytest.raises(UserError, match="at least the token itself"):
        AttentionLayer(12, 3, 16, 0)


def test_a_memory_of_another_batch_is_told() -> None:
    layer, x = attention(), noise(3, DIM)
    with pytest.raises(UserError, match=r"tokens of \(3,\) rows with a memory of \(2,\)"):
        layer.step(x, layer.blank(2, x))
