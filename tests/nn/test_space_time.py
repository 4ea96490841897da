"""The space-time transformer: streams equal whole clips, futures share their past, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.nn.space_time import SpaceTime, SpaceTimeConfig
from innerworld.types import each

TINY = {"dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "window": 3}
KINDS: dict[str, dict[str, Any]] = {
    "adaln": {},
    "token": {"steering": "token", "feeds": "each"},
    "none": {"steering": "none", "time_every": 2, "depth": 4},
    "rotary": {"places": "rotary", "qk_norm": True},
    "one frame": {"window": 1},
}


def build(**words: Any) -> SpaceTime:
    """With weights that are nowhere zero, so that every part counts."""
    torch.manual_seed(0)
    config = SpaceTimeConfig.model_validate(TINY | words)
    net = SpaceTime(config, [(2, 3), (1, 2)], 0 if config.steering == "none" else 5, beside=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net.eval()


def inputs(net: SpaceTime, r: int, f: int) -> tuple[Tensor, Tensor | None]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(r, f, net.s, 16, generator=rng)
    return x, None if net.config.steering == "none" else torch.randn(r, f, 5, generator=rng)


def of(steer: Tensor | None, t: int) -> Tensor | None:
    return None if steer is None else steer[:, t]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_frame_by_frame_equals_the_whole_clip(kind: str) -> None:
    net = build(**KINDS[kind])
    x, steer = inputs(net, 2, 7)
    whole, trace = net.trace(x, steer)
    assert torch.equal(whole, net(x, steer))
    memory = net.blank(2, x)
    for t in range(7):
        assert torch.allclose(net.peek(x[:, t], of(steer, t), memory), whole[:, t], atol=1e-5)
        out, memory = net.keep(x[:, t], of(steer, t), memory)
        assert torch.allclose(out, whole[:, t], atol=1e-5)
        for name, value in memory.items():
            ages = torch.arange(net.config.window - 1) >= net.config.window - 1 - memory["age"][0]
            found = trace[name][:, t]
            same = (value, found) if value.ndim == 1 else (value[..., ages, :], found[..., ages, :])
            torch.testing.assert_close(*same, atol=1e-5, rtol=0)


@torch.no_grad()
def test_frames_ahead_see_each_other_and_the_memory() -> None:
    net = build(window=4)
    x, steer = inputs(net, 2, 7)
    assert steer is not None
    whole, trace = net.trace(x, steer)
    for t in (1, 2, 5):
        out = net.ahead(x[:, t:], steer[:, t:], each(lambda value, t=t: value[:, t - 1], trace))
        assert torch.allclose(out, whole[:, t:], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", ["expanded", "along a clip", "nothing"])
@torch.no_grad()
def test_futures_equal_going_on_alone(kind: str, shared: str) -> None:
    net = build(**KINDS[kind])
    x, steer = inputs(net, 2, 5)
    memory = net.trace(x, steer)[1]
    if shared == "expanded":
        starts = each(lambda value: value[:, -1:].expand(-1, 3, *value.shape[2:]), memory)
    else:
        starts = each(lambda value: value[:, 2:5] if shared == "along a clip" else value[:, 2:5].clone(), memory)
    rolling = net.roll(starts, 5)
    alone = each(lambda value: value.flatten(0, 1), starts)
    for t in range(5):
        x, steer = inputs(net, 6, t + 1)
        x, steer = x[:, t], of(steer, t)
        tried = rolling.peek(x + 1, steer)
        assert torch.allclose(tried, net.peek(x + 1, steer, alone), atol=1e-5)
        out, alone = net.keep(x, steer, alone)
        assert torch.allclose(rolling.keep(x, steer), out, atol=1e-5)
    with pytest.raises(UserError, match="horizon"):
        rolling.keep(x, steer)


@torch.no_grad()
def test_an_episode_that_begins_within_a_clip_sees_nothing_before_it() -> None:
    net = build()
    x, steer = inputs(net, 2, 6)
    assert steer is not None
    first = torch.zeros(2, 6, dtype=torch.bool)
    first[1, 2] = True
    out, trace = net.trace(x, steer, first)
    assert torch.allclose(out, net(x, steer, first), atol=1e-6)
    assert torch.allclose(out[0], net(x, steer)[0], atol=1e-5)
    assert torch.allclose(out[1, 2:], net(x[1:, 2:], steer[1:, 2:])[0], atol=1e-5)
    assert trace["age"][1].tolist() == [1, 2, 1, 2, 2, 2]


def test_gradients_flow_through_futures_as_through_a_clip() -> None:
    net = build()
    x, steer = inputs(net, 1, 4)
    assert steer is not None
    steer.requires_grad_()
    (whole,) = torch.autograd.grad(net(x, steer)[:, -1].sum(), steer)
    rolling = net.roll(each(lambda value: value[:, None], net.blank(1, x)), 4)
    for t in range(4):
        rolling.peek(x[:, t] * 2, steer[:, t])
        out = rolling.keep(x[:, t], steer[:, t])
    (step,) = torch.autograd.grad(out.sum(), steer)
    assert torch.allclose(whole, step, atol=1e-5)


@torch.no_grad()
def test_not_causal_all_frames_see_each_other_and_there_is_no_stream() -> None:
    net = build(causal=False, window=4)
    x, steer = inputs(net, 2, 4)
    later = x.clone()
    later[:, 3] = later[:, 0]
    assert not torch.allclose(net(x, steer)[:, 0], net(later, steer)[:, 0])
    first = torch.zeros(2, 4, dtype=torch.bool)
    first[:, 2] = True
    assert torch.allclose(net(x, steer, first)[:, 0], net(later, steer, first)[:, 0], atol=1e-6)
    with pytest.raises(UserError, match="no stream"):
        net.blank(2, x)
    with pytest.raises(UserError, match="sees 4 at once"):
        net(*inputs(net, 1, 5))


@torch.no_grad()
def test_a_stream_of_any_length_stays_right() -> None:
    net = build()
    x, steer = inputs(net, 1, 4)
    memory = net.blank(1, x) | {"time": torch.tensor([10**7])}
    for t in range(4):
        out, memory = net.keep(x[:, t], of(steer, t), memory)
    assert torch.allclose(out, net(x, steer)[:, 3], atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    net = build()
    x, steer = inputs(net, 2, 3)
    with pytest.raises(UserError, match="made for"):
        net(x[:, :, 1:], steer)
    with pytest.raises(UserError, match="give a vector"):
        net(x, None)
    with pytest.raises(UserError, match="rows of frames"):
        net.peek(x[:, 0], of(steer, 0), net.blank(3, x))
    for words in ({"heads": 3}, {"time_every": 3}, {"steering": "none"}, {"places": "rotary", "heads": 8}):
        with pytest.raises(UserError):
            SpaceTime(SpaceTimeConfig.model_validate(TINY | words), [(2, 3)], 5)
