"""The selective state space of Mamba-2 by chunks: matrix products within a chunk, a recurrence from one to the next.

    S_t = exp(dt_t A) S_{t-1} + dt_t B_t x_tᵀ        y_t = S_tᵀ C_t + D x_t        (arXiv 2405.21060, section 6)

Axes: b rows, t times, h heads, p numbers of a head, g groups of heads that share B and C, n numbers of a state for each
number of a head; within, c chunks of q times. x is `b t h p`, dt `b t h`, A and D `h`, B and C `b t g n`, a state S
`b h n p`, first `b t`: before that time the state is zero.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 16  # times; on a CPU at DRAMA's sizes 32 costs as much, 8 and 64 a sixth and a quarter more
ROWS = 32  # whose states are advanced at once: on a CPU a step is bound by memory, and so many stay in its cache


def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    chunk: int = CHUNK,
    state: Tensor | None = None,
    first: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y `b t h p` and the state after the last time, from `state` or zero. Any number of times; `chunk` is only speed.

    Decays are summed from one time to another, never subtracted, so that none is lost beside a large one.
    """
    b, t, h, p = x.shape
    chunk = min(chunk, t)
    missing = -t % chunk
    if missing:  # with dt = 0 nothing decays and nothing comes in
        x, B, C = (F.pad(part, (0, 0, 0, 0, 0, missing)) for part in (x, B, C))
        dt = F.pad(dt, (0, 0, 0, missing))
        first = None if first is None else F.pad(first, (0, missing))
    if state is None:
        state = x.new_zeros(b, h, B.shape[-1], p)
    y, last = _Scan.apply(x, dt, A, B, C, D, state, first, chunk)
    return (y[:, :t] if missing else y), last


@torch.no_grad()
def states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, first: Tensor | None, out: Tensor) -> None:
    """Write the state after every time, from zero, into `out` `b t h n p`. It has no gradients."""
    h = x.shape[2]
    decay = torch.exp(dt * A)
    if first is not None:
        decay = decay.masked_fill(first[..., None], 0)
    decay, inflow = decay[..., None, None], (x * dt[..., None]).unsqueeze(-2)
    B = _by_head(B, h).unsqueeze(-1)  # b t h n 1
    torch.mul(B[:, 0], inflow[:, 0], out=out[:, 0])
    for i in range(1, x.shape[1]):  # each is written once and read once
        torch.mul(out[:, i - 1], decay[:, i], out=out[:, i])
        out[:, i].addcmul_(B[:, i], inflow[:, i])


def step(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, inplace: bool = False
) -> tuple[Tensor, Tensor]:
    """One time, all without `t`: y `b h p` and the state after. `inplace` writes it over the one that was given."""
    h = x.shape[1]
    decay, inflow = torch.exp(dt * A)[..., None, None], (x * dt[..., None]).unsqueeze(2)  # b h 1 1, b h 1 p
    B, C = _by_head(B, h).unsqueeze(-1), _by_head(C, h).unsqueeze(-2)  # b h n 1, b h 1 n
    if not inplace:
        state = torch.addcmul(state * decay, B, inflow)
        return torch.addcmul((C @ state).squeeze(2), x, D[:, None]), state
    y = torch.empty_like(inflow)
    rows = ROWS if state.device.type == "cpu" else len(state)
    for i in range(0, len(state), rows):
        some = slice(i, i + rows)
        state[some].mul_(decay[some]).addcmul_(B[some], inflow[some])
        torch.matmul(C[some], state[some], out=y[some])
    return y.squeeze(2).addcmul_(x, D[:, None]), state


@functools.cache
def kernel() -> Callable[..., Tensor] | None:
    """A fused scan for CUDA, x dt A B C D first → y, of `mamba_ssm` or `fla`, whichever is installed; else nothing."""
    for module, wrap in (("mamba_ssm.ops.triton.ssd_combined", _mamba_ssm), ("fla.ops.simple_gla", _fla)):
        try:
            return functools.partial(wrap, importlib.import_module(module))
        except ImportError:
            continue
    return None


class _Scan(torch.autograd.Function):
    """Heads come before times, so that every product is one batch of small matrices without a copy in between."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        state: Tensor,
        first: Tensor | None,
        q: int,
    ) -> tuple[Tensor, Tensor]:
        X, dt, B, C = _chunks(x, q), _chunks(dt, q), _chunks(B, q), _chunks(C, q)  # b h c q p, b h c q, b g c q n
        decays = _decays(dt * A[:, None, None], first)
        G = C @ B.mT  # b g c q q
        inward, outward = _mixing(decays, dt, B, C, G, D)
        mixed = _bmm(inward, X)
        inflow, decay = mixed[..., q:, :], decays.head[..., -1, None, None]  # b h c n p, b h c 1 1
        entering = X.new_empty(inflow.shape)  # the state before each chunk
        before, into, left = entering.unbind(2), inflow.unbind(2), decay.unbind(2)
        before[0].copy_(state)
        for i in range(1, len(before)):
            torch.addcmul(into[i - 1], before[i - 1], left[i - 1], out=before[i])
        last = torch.addcmul(into[-1], before[-1], left[-1])
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.add(mixed[..., :q, :], _bmm(outward, entering), out=_chunked(y, q))
        ctx.save_for_backward(X, dt, A, B, C, G, decays.all, inward, outward, entering)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_y: Tensor, to_last: Tensor) -> tuple[Tensor | None, ...]:
        X, dt, A, B, C, G, all_decays, inward, outward, entering = ctx.saved_tensors
        decays, q = _Decays(all_decays, X.shape[3]), X.shape[3]
        to_mixed = torch.empty(*inward.shape[:-1], X.shape[-1], dtype=X.dtype, device=X.device)
        to_y, to_inflow = to_mixed[..., :q, :].copy_(_chunked(to_y, q)), to_mixed[..., q:, :]
        to_entering, decay = _bmm(outward.mT, to_y), decays.head[..., -1, None, None]
        to_before, to_into, left = to_entering.unbind(2), to_inflow.unbind(2), decay.unbind(2)
        to_into[-1].copy_(to_last)
        for i in range(len(left) - 1, 0, -1):
            torch.addcmul(to_before[i], to_into[i], left[i], out=to_into[i - 1])
        to_state = torch.addcmul(to_before[0], to_into[0], left[0])
        to_x, to_inward, to_outward = _bmm(inward.mT, to_mixed), _bmm(to_mixed, X.mT), _bmm(to_y, entering.mT)
        to_M, to_W = to_inward[..., :q, :], to_inward[..., q:, :]
        to_logs = torch.empty_like(all_decays)
        to = _Decays(to_logs, q)  # the decays' logarithms, filled part by part

        groups = B.shape[1]
        within, head, tail, dts = (_grouped(part, groups) for part in (decays.within, decays.head, decays.tail, dt))
        of_decay = _grouped(to_M, groups) * within  # b g r c q q
        to_G = (of_decay * dts.unsqueeze(-2)).sum(2)
        of_decay *= G.unsqueeze(2)
        to_dt = of_decay.sum(-2)
        torch.mul(of_decay, dts.unsqueeze(-2), out=_grouped(to.within, groups))

        to_W, to_R = _grouped(to_W, groups), _grouped(to_outward, groups)
        of_tail = (to_W * B.mT.unsqueeze(2)).sum(-2)  # b g r c q
        to_dt.addcmul_(of_tail, tail)
        torch.mul(of_tail * dts, tail, out=_grouped(to.tail, groups))
        torch.mul((to_R * C.unsqueeze(2)).sum(-1), head, out=_grouped(to.head, groups))
        to.head[..., -1] += (to_inflow * entering).sum((-2, -1)) * decays.head[..., -1]
        to_B = to_G.mT @ C + (to_W * (tail * dts).unsqueeze(-2)).sum(2).mT
        to_C = to_G @ B + (to_R * head.unsqueeze(-1)).sum(2)

        of_logs = to_logs @ _sums(q, X.dtype, X.device).mT  # of dt · A, b h c q
        to_dt = to_dt.flatten(1, 2).addcmul_(of_logs, A[:, None, None])
        to_A, to_D = (of_logs * dt).sum((0, 2, 3)), to_M.diagonal(dim1=-2, dim2=-1).sum((0, 2, 3))
        return _times(to_x), _times(to_dt), to_A, _times(to_B), _times(to_C), to_D, to_state, None, None


class _Decays:
    """What is left at time i of a chunk of what came in at j (`within`), of the state before it (`head`), and of what
    came in at j after the chunk (`tail`): views of one tensor `b h c (q·q + q + q)`."""

    def __init__(self, all: Tensor, q: int) -> None:
        self.all = all
        self.within = all[..., : q * q].unflatten(-1, (q, q))
        self.head, self.tail = all[..., q * q : -q], all[..., -q:]


def _decays(logs: Tensor, first: Tensor | None) -> _Decays:
    """From the logarithms `b h c q` of each time's decay. What `first` cuts off is exactly 0, as is its gradient."""
    q = logs.shape[-1]
    sums = logs @ _sums(q, logs.dtype, logs.device)
    time = torch.arange(q, device=logs.device)
    if first is None:
        gone = _Decays(torch.zeros(1, q * q + 2 * q, dtype=torch.bool, device=logs.device), q)
        gone.within[:] = time > time[:, None]
    else:
        episode = first.unflatten(1, (-1, q)).cumsum(-1)[:, None]  # b 1 c q, counted within the chunk
        gone = _Decays(torch.zeros(*episode.shape[:3], q * q + 2 * q, dtype=torch.bool, device=logs.device), q)
        gone.within[:] = (time > time[:, None]) | (episode[..., None, :] != episode[..., None])
        gone.head[:] = episode > 0
        gone.tail[:] = episode != episode[..., -1:]
    return _Decays(sums.masked_fill_(gone.all, -torch.inf).exp_(), q)


@functools.lru_cache(maxsize=16)
def _sums(q: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix that makes of q logarithms the sums of which `_Decays` are the exponentials: `q (q·q + q + q)`."""
    time = torch.arange(q)
    k, i, j = time[:, None, None], time[:, None], time
    within = (k > j) & (k <= i)
    head, tail = time[:, None] <= time, time[:, None] > time
    return torch.cat([within.flatten(1), head, tail], dim=1).to(device, dtype)


def _mixing(decays: _Decays, dt: Tensor, B: Tensor, C: Tensor, G: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """Of each chunk: its inputs → its outputs and what they add to the state, `b h c q+n q`; the state before it → its
    outputs, `b h c q n`."""
    g, q = B.shape[1], dt.shape[-1]
    within, head, tail, dts = (_grouped(part, g) for part in (decays.within, decays.head, decays.tail, dt))
    inward = torch.empty(*within.shape[:4], q + B.shape[-1], q, dtype=dt.dtype, device=dt.device)
    torch.mul(within, G.unsqueeze(2), out=inward[..., :q, :])
    torch.mul(tail.unsqueeze(-2), B.mT.unsqueeze(2), out=inward[..., q:, :])
    inward = inward.mul_(dts.unsqueeze(-2)).flatten(1, 2)
    inward[..., :q, :].diagonal(dim1=-2, dim2=-1).add_(D[:, None, None])
    return inward, (head.unsqueeze(-1) * C.unsqueeze(2)).flatten(1, 2)


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    """The product of matrices `b h c ...`."""
    return torch.bmm(left.flatten(0, 2), right.flatten(0, 2)).unflatten(0, left.shape[:3])


def _grouped(part: Tensor, g: int) -> Tensor:
    """`b h ...` → `b g h/g ...`"""
    return part.unflatten(1, (g, -1))


def _chunked(part: Tensor, q: int) -> Tensor:
    """`b t h ...` → `b h c q ...`, a view."""
    return part.unflatten(1, (-1, q)).movedim(3, 1)


def _chunks(part: Tensor, q: int) -> Tensor:
    """The same, contiguous: every product is then one batch of small matrices without a copy in between."""
    return _chunked(part, q).contiguous()


def _times(part: Tensor) -> Tensor:
    """`b h c q ...` → `b t h ...`, contiguous."""
    return part.flatten(2, 3).transpose(1, 2).contiguous()


def _by_head(part: Tensor, h: int) -> Tensor:
    """`... g n` → `... h n`"""
    return part if part.shape[-2] == h else part.repeat_interleave(h // part.shape[-2], dim=-2)


def _mamba_ssm(
    module: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, first: Tensor | None
) -> Tensor:
    episode = None if first is None else first.cumsum(1).int()  # the kernel blanks its state where the number changes
    return module.mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size=256, D=D, seq_idx=episode)


def _fla(
    module: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, first: Tensor | None
) -> Tensor:
    """Its gated linear attention has C for queries, B for keys, dt · x for values. It cannot be cut."""
    if first is not None:
        return scan(x, dt, A, B, C, D, first=first)[0]
    B, C = _by_head(B, x.shape[2]), _by_head(C, x.shape[2])
    y, _ = module.chunk_simple_gla(C, B, x * dt[..., None], g=dt * A, scale=1.0)
    return y + D[:, None] * x
