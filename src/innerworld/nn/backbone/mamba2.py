"""Mamba-2 (arXiv 2405.21060) as a layer: a state whose decay each token chooses, of a size that never grows.

norm → z, x, B, C, dt by one projection → a short causal convolution of x, B and C → the scan → norm(y · silu(z)) →
projection → added to what came in. Axes as in `ssd.py`; and w taps of the convolution, d numbers of a token.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.backbone import ssd
from innerworld.nn.backbone.causal_conv import Convolution, pasts
from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.backbone.residual import before, same_rows
from innerworld.nn.backbone.state_space import log_steps
from innerworld.nn.linear import Linear, gradients, product
from innerworld.nn.rms_norm import RMSNorm

EPS = 1e-5  # of both norms, as published
RATES = (1.0, 16.0)  # of decay at the start, drawn evenly for each head
TOKENS = 256  # between the projections at once on a CPU, by whole rows: what they need stays in its cache


class Mamba2Config(Config):
    state: int = Field(default=16, ge=1, description="numbers of the state for each number of a head")
    head: int = Field(default=64, ge=1, description="numbers of a head")
    expand: int = Field(default=2, ge=1, description="numbers within the layer, in multiples of a token's")
    width: int = Field(default=4, ge=2, description="tokens under the convolution")
    groups: int = Field(default=1, ge=1, description="groups of heads; each has its own B and C and is normed alone")
    chunk: int = Field(
        default=ssd.CHUNK, ge=1, description="tokens scanned at once by matrix products; changes only the speed"
    )
    kernel: Literal["auto", "torch"] = Field(
        default="auto", description="auto: mamba_ssm's or fla's kernel on CUDA where it is installed; torch: never"
    )


class Mamba2(Layer):
    """x + out(norm(scan · silu(z))), pre-norm, `b t d` → `b t d`; `layers` in the stack set the scale of `out`.

    `forward`, `trace` and `step` raise `UserError` where a decay is not finite; they look at one sum over `b t h`.
    """

    Config = Mamba2Config

    def __init__(self, dim: int, config: Mamba2Config, layers: int = 1) -> None:
        super().__init__()
        self.config = config
        inner, shared = dim * config.expand, config.groups * config.state
        if inner % config.head:
            raise UserError(f"{inner} numbers do not divide into heads of {config.head}: choose another head or expand")
        self.heads = inner // config.head
        if self.heads % config.groups:
            raise UserError(f"{self.heads} heads do not divide into {config.groups} groups: choose another number")
        self.mixed = [inner, shared, shared]  # x, B, C: what is convolved
        self.sizes = [inner, sum(self.mixed), self.heads]  # z, what is convolved, dt
        self.norm = RMSNorm(dim, eps=EPS)
        self.into = Linear(dim, sum(self.sizes), bias=False)
        bound = config.width**-0.5  # as torch begins a convolution
        self.taps = nn.Parameter(torch.empty(config.width, sum(self.mixed)).uniform_(-bound, bound))  # the oldest first
        self.bias = nn.Parameter(torch.empty(sum(self.mixed)).uniform_(-bound, bound))
        dt = log_steps(self.heads).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # of which dt is the softplus
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(*RATES).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.gated_norm = RMSNorm(inner, eps=EPS) if config.groups == 1 else _GroupNorm(inner, config.groups)
        self.out = Linear(inner, dim, bias=False)
        with torch.no_grad():
            self.out.weight.div_(math.sqrt(layers))

    def blank(self, b: int, like: Tensor) -> Memory:
        return {
            "state": like.new_zeros(b, self.heads, self.config.state, self.config.head),
            "past": like.new_zeros(b, self.config.width - 1, sum(self.mixed)),  # what was convolved, the oldest first
        }

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        projected, first = self._project(x), _within(first)
        parts = [self._mix(*part)[0] for part in self._parts(projected, first)]
        return x + self._finish(torch.cat(parts))

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        begins, within = first, _within(None if first is None else first[:, :-1])
        projected = self._project(x)
        b, t = x.shape[:2]
        # A recurrence in half precision would lose small changes, so these are rounded when all are there.
        states = projected.new_empty(b, t + 1, self.heads, self.config.state, self.config.head)
        states[:, 0] = 0
        parts, done = [], 0
        for part, cut in self._parts(projected, within):
            y, scanned = self._mix(part, cut)
            ssd.states(scanned.x, scanned.dt, scanned.A, scanned.B, cut, out=states[done : done + len(part), 1:])
            parts.append(y)
            done += len(part)
        if begins is not None:
            states.masked_fill_(begins[..., None, None, None], 0)
        mixed = projected.detach().split(self.sizes, dim=-1)[1]
        past = before(pasts(mixed, self.config.width, within).to(x.dtype), begins)
        memory = {"state": states.to(x.dtype), "past": past}
        return x + self._finish(torch.cat(parts)), memory

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        same_rows(x, memory["state"])
        past = [*memory["past"].unbind(1)]
        y, mixed, state = self._step(x, past, memory["state"], inplace=False)
        past = torch.stack([*past[1:], mixed], dim=1)
        return y, {"state": state.to(memory["state"].dtype), "past": past.to(memory["past"].dtype)}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        """Rows and futures are advanced together; without gradients in one copy of the state that is written over."""
        state, own = memory["state"], False
        past = [*memory["past"].flatten(0, 1).unbind(1)]

        def step(x: Tensor) -> Tensor:
            nonlocal state, own, past
            same_rows(x, memory["state"])
            inplace = not torch.is_grad_enabled()
            if inplace and not own:
                state = state.clone(memory_format=torch.contiguous_format)
            state = state if state.ndim == 4 else state.flatten(0, 1)
            y, mixed, state = self._step(x.flatten(0, 1), past, state, inplace)
            past, own = [*past[1:], mixed.clone()], inplace  # cloned: it is a part of a wider projection
            return y.unflatten(0, x.shape[:2])

        return step

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        inner, *_ = self.mixed
        return b * k * (inner * self.config.state + (self.config.width - 1) * sum(self.mixed))

    def _step(self, x: Tensor, past: list[Tensor], state: Tensor, inplace: bool) -> tuple[Tensor, Tensor, Tensor]:
        """One token `b d`: what comes of it, what was convolved, and the state."""
        z, mixed, dt = self._project(x).split(self.sizes, dim=-1)
        convolved = torch.addcmul(self.bias, mixed, self.taps[-1])
        for earlier, tap in zip(past, self.taps[:-1], strict=True):
            convolved = torch.addcmul(convolved, earlier, tap)
        scanned = self._scanned(F.silu(convolved), dt)
        with torch.autocast(x.device.type, enabled=False):
            y, state = ssd.step(state.to(scanned.x.dtype), *scanned, inplace=inplace)
        return x + self._finish(_gate(y, z)), mixed, state

    def _project(self, x: Tensor) -> Tensor:
        """In full precision: what is recurrent must not lose its small changes."""
        return self.into(self.norm(x)).to(self.taps.dtype)

    def _parts(self, projected: Tensor, first: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        b, t, _ = projected.shape
        rows = max(TOKENS // t, 1) if projected.device.type == "cpu" else max(b, 1)
        parts = projected.split(rows)
        return [*zip(parts, [None] * len(parts) if first is None else first.split(rows), strict=True)]

    def _mix(self, projected: Tensor, first: Tensor | None) -> tuple[Tensor, _Scanned]:
        """All that is between the two projections, and what was scanned."""
        z, mixed, dt = projected.split(self.sizes, dim=-1)
        scanned = self._scanned(Convolution.apply(mixed, self.taps, self.bias, first), dt)
        return _gate(self._scan(scanned, first), z), scanned

    def _scanned(self, convolved: Tensor, dt: Tensor) -> _Scanned:
        x, B, C = convolved.split(self.mixed, dim=-1)
        shared = (self.config.groups, self.config.state)
        dt, A = F.softplus(dt + self.dt_bias), -torch.exp(self.A_log)
        if not bool(torch.isfinite((dt * A).sum())):  # one infinite or missing number spoils the sum of them all
            spoilt = "A_log" if not bool(torch.isfinite(A).all()) else "dt, and so the tokens or the weights of `into`"
            raise UserError(f"Mamba-2: a decay is not finite because of {spoilt}: go back to an earlier checkpoint")
        return _Scanned(
            x.unflatten(-1, (self.heads, -1)), dt, A, B.unflatten(-1, shared), C.unflatten(-1, shared), self.D
        )

    def _scan(self, scanned: _Scanned, first: Tensor | None) -> Tensor:
        fused = ssd.kernel() if scanned.x.is_cuda and self.config.kernel == "auto" else None
        if fused is not None:
            return fused(*scanned, first)
        with torch.autocast(scanned.x.device.type, enabled=False):
            return ssd.scan(*scanned, chunk=self.config.chunk, first=first)[0]

    def _finish(self, gated: Tensor) -> Tensor:
        alone = self.config.groups > 1 or gated.device.type != "cpu" or torch.is_autocast_enabled("cpu")
        if alone or not torch.is_grad_enabled():
            return self.out(self.gated_norm(gated))
        return NormedLinear.apply(gated, self.gated_norm.weight, self.out.weight, EPS)


def _gate(y: Tensor, z: Tensor) -> Tensor:
    return y.flatten(-2) * F.silu(z)


class _Scanned(NamedTuple):
    """What `ssd.scan` and `ssd.step` take."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor


class NormedLinear(torch.autograd.Function):
    """weight · rms_norm(x): `... i` → `... o`. It norms where there are fewer numbers: its weights go into the
    matrix, each token's scale into what comes out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = x.shape[-1]
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(size).add_(eps).rsqrt_()
        scaled = weight * norm
        y = product(x, scaled).mul_(scale)
        ctx.save_for_backward(x, norm, weight, scaled, scale, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, norm, weight, scaled, scale, y = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, y).unsqueeze(-1).mul_(scale.square()).div_(x.shape[-1])
        to_x, to_scaled = gradients(gradient * scale, x, scaled)
        to_norm = (to_scaled * weight).sum(0)
        return to_x.addcmul_(x, along, value=-1), to_norm, to_scaled.mul_(norm), None


class _GroupNorm(nn.Module):
    """The root-mean-square norm of each group alone."""

    def __init__(self, size: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (self.groups, -1)).to(self.weight.dtype)
        return F.rms_norm(x, x.shape[-1:], eps=EPS).flatten(-2) * self.weight


def _within(first: Tensor | None) -> Tensor | None:
    """`first`, if any episode begins after the first token: before that one the memory is blank anyway."""
    return first if first is not None and bool(first[:, 1:].any()) else None
