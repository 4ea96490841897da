"""A side branch: silent at the start, a stream equals a clip whoever was told what, and nothing told is no branch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.space_time import SpaceTime, SpaceTimeConfig

TINY: dict[str, Any] = {"dim": 16, "depth": 3, "heads": 2, "mlp": 2.0, "window": 3}
KINDS: dict[str, dict[str, Any]] = {
    "adaln": {},
    "token": {"steering": "token", "feeds": "each", "places": "rotary"},
    "none": {"steering": "none", "time_every": 2, "depth": 4},
}
TOLD = 6


def build(copies: int = 2, silent: bool = False, **words: Any) -> SpaceTime:
    torch.manual_seed(0)
    config = SpaceTimeConfig.model_validate(TINY | words)
    net = SpaceTime(config, [(2, 3)], 0 if config.steering == "none" else 5, 1, copies, TOLD if copies else 0)
    side = {id(p) for p in net.side.parameters()} if net.side is not None else set()
    for p in net.parameters():
        if not (silent and id(p) in side):
            nn.init.normal_(p, std=0.2)
    if silent and net.side is not None:
        net.side.copy(list(net.blocks), net.by)
    return net.eval()


def inputs(net: SpaceTime, f: int) -> tuple[Tensor, Tensor | None, Tensor]:
    rng = torch.Generator().manual_seed(1)
    steer = None if net.config.steering == "none" else torch.randn(2, f, 5, generator=rng)
    told = torch.randn(2, f, net.s, TOLD + 1, generator=rng)
    return torch.randn(2, f, net.s, 16, generator=rng), steer, told


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_branch_that_was_not_taught_changes_no_bit(kind: str) -> None:
    plain, net = build(0, **KINDS[kind]), build(silent=True, **KINDS[kind])
    net.load_state_dict(plain.state_dict(), strict=False)
    x, steer, told = inputs(net, 5)
    assert torch.equal(net(x, steer, None, told), plain(x, steer))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_stream_equals_a_clip_of_which_some_frames_are_told(kind: str) -> None:
    """Longer than the window; the frames 0, 2 and 5 are told nothing. Without any told frame it is the trunk."""
    net = build(**KINDS[kind])
    x, steer, told = inputs(net, 7)
    told[:, [0, 2, 5]] = 0
    whole, memory = net(x, steer, None, told), net.blank(2, x)
    for t in range(7):
        now = None if steer is None else steer[:, t]
        more = None if t in (0, 2, 5) else told[:, t]
        assert torch.allclose(net.peek(x[:, t], now, memory, more), whole[:, t], atol=1e-5)
        out, memory = net.keep(x[:, t], now, memory, more)
        assert torch.allclose(out, whole[:, t], atol=1e-5)
    plain = build(0, **KINDS[kind])
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("side.")})
    assert torch.equal(net(x, steer), plain(x, steer)) and not torch.allclose(whole, plain(x, steer))


@torch.no_grad()
def test_futures_go_on_from_frames_that_were_told() -> None:
    net = build()
    x, steer, told = inputs(net, 6)
    assert steer is not None
    memory = net.blank(2, x)
    for t in range(4):
        _, memory = net.keep(x[:, t], steer[:, t], memory, told[:, t])
    roll = net.roll({name: value[:, None].expand(-1, 3, *value.shape[1:]) for name, value in memory.items()}, 2)
    for t in (4, 5):
        out, memory = net.keep(x[:, t], steer[:, t], memory)
        futures = roll.keep(x[:, t].repeat_interleave(3, 0), steer[:, t].repeat_interleave(3, 0))
        assert torch.allclose(futures, out.repeat_interleave(3, 0), atol=1e-5)


def test_copies_are_spread_evenly() -> None:
    for copies, at in ((1, (0,)), (2, (0, 1)), (3, (0, 1, 2))):
        side = build(copies).side
        assert side is not None and side.at == at
    side = build(2, **KINDS["none"]).side
    assert side is not None and side.at == (0, 2) and side.layers == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="the transformer has 3"):
        build(4)
    net = build(0)
    x, steer, told = inputs(net, 2)
    with pytest.raises(UserError, match="no branch for it"):
        net(x, steer, None, told)
