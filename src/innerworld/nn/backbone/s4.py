"""S4: every channel passes through a linear system of its own that is made to remember (arXiv 2111.00396, 2206.11893).

A channel's state z of n complex numbers goes on by z ← decay · z + push · u, and is read as y = 2 Re(read · z) + D u.
That is S4D. In S4 the states hear each other, too: by one number, s = 2 Re(hear · z), of which z ← … − back · s. All
times at once it is a convolution, whose kernel is computed anew for the length at hand; imagination takes steps.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.backbone.residual import Gate, Gated, Residual, same_rows
from innerworld.nn.backbone.segments import segmented
from innerworld.nn.backbone.state_space import Method, complexed, discrete, hippo, log_steps, pairs

Kind = Literal["s4", "s4d"]
Init = Literal["legs", "lin", "inv"]


class S4Layer(Residual):
    """x + gate(GELU(S4(norm(x)))), `b t d` → `b t d`, as in S4WM (arXiv 2307.02064)."""

    def __init__(
        self,
        dim: int,
        state: int = 64,
        kind: Kind = "s4d",
        init: Init = "legs",
        method: Method = "zoh",
        gate: Gate = "glu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(S4(dim, state, kind, init, method), dim, Gated(dim, gate, dropout))


class S4(Layer):
    """d systems of `state` real numbers each, `b t d` → `b t d`. The memory is `b d n 2`, n = state / 2.

    `s4d`: diagonal, begun as S4D-LegS, -Lin or -Inv; `s4`: HiPPO-LegS itself, diagonal and low-rank, always bilinear
    and never begun otherwise. Raises `UserError` for a state of an odd size, and for a decay that is not finite.
    """

    def __init__(
        self, dim: int, state: int = 64, kind: Kind = "s4d", init: Init = "legs", method: Method = "zoh"
    ) -> None:
        super().__init__()
        self.method: Method = "bilinear" if kind == "s4" else method
        self.n = state // 2
        legs = hippo(state)
        poles = legs.poles if kind == "s4" else _poles(init, legs.poles)
        self.log_decay = nn.Parameter((-poles.real).log().float().repeat(dim, 1))  # d n: no pole can be made to grow
        self.turn = nn.Parameter(poles.imag.float().repeat(dim, 1))
        self.log_step = nn.Parameter(log_steps(dim))
        self.read = nn.Parameter(math.sqrt(0.5) * torch.randn(dim, self.n, 2))
        self.skip = nn.Parameter(torch.ones(dim))
        self.low = nn.Parameter(pairs(legs.low).repeat(dim, 1, 1)) if kind == "s4" else None
        self.inputs = nn.Parameter(pairs(legs.inputs).repeat(dim, 1, 1)) if kind == "s4" else None

    def blank(self, b: int, like: Tensor) -> Memory:
        return {"state": like.new_zeros(b, len(self.skip), self.n, 2)}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        u = x.to(self.skip.dtype)
        kernel = _kernel(self._system(), x.shape[1])
        return segmented(lambda piece: _convolve(kernel, piece), u, first) + self.skip * u

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        return self(x, None if first is None else first[:, :-1]), {"state": self._states(x, first)}

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        state, u = memory["state"], x.to(self.skip.dtype)
        same_rows(x, state)
        system = self._system()
        z = complexed(state.to(u.dtype))
        z = _next(system, z, u, _told(system, z)[1])
        return _told(system, z)[0] + self.skip * u, {"state": torch.view_as_real(z).to(state.dtype)}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        system = self._system()
        z = complexed(memory["state"].to(self.skip.dtype))  # b k d n
        heard = _told(system, z)[1]
        mine = False  # a state that no graph needs and nobody else has: it may be overwritten

        def step(x: Tensor) -> Tensor:
            nonlocal z, heard, mine
            same_rows(x, z)
            u = x.to(self.skip.dtype)
            z = _next(system, z, u, heard, in_place=mine and not torch.is_grad_enabled())
            mine = not torch.is_grad_enabled()
            said, heard = _told(system, z)
            return said + self.skip * u

        return step

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return b * k * len(self.skip) * self.n * 2

    def _system(self) -> System:
        poles = torch.complex(-self.log_decay.exp(), self.turn)  # d n
        step = self.log_step.exp()[:, None]
        decay, weight = discrete(poles, step, self.method, f"S4 of {len(self.skip)} channels")
        read = complexed(self.read)
        if self.low is None or self.inputs is None:
            return System(decay, weight, read, read, None)
        # A = poles − low low*, by the matrix inversion lemma (S4, appendix C.2)
        low, inputs = complexed(self.low), complexed(self.inputs)
        back = 0.5 * weight * low
        ear = low.conj() / (1 + _twice_real(low.conj() * back))[:, None]
        push = weight * inputs
        return System(decay, push - back * _twice_real(ear * push)[:, None], read, ear * (1 + decay), back)

    @torch.no_grad()
    def _states(self, x: Tensor, first: Tensor | None) -> Tensor:
        """The state before every token and after the last, `b t+1 d n 2`: step by step, so nothing else is held."""
        system, u = self._system(), x.to(self.skip.dtype)
        b, t, d = x.shape
        out = x.new_empty(b, t + 1, d, self.n, 2)
        z = complexed(u.new_zeros(b, d, self.n, 2))
        for i in range(t + 1):
            if i > 0:
                heard = None if system.back is None else _told(system, z)[1]
                z = _next(system, z, u[:, i - 1], heard, in_place=True)
            if first is not None:
                z.masked_fill_(first[:, i, None, None], 0.0)
            out[:, i] = torch.view_as_real(z)
        return out


class System(NamedTuple):
    """One step of all channels, each `d n` complex; without `back` nothing comes of what the states hear."""

    decay: Tensor
    push: Tensor
    read: Tensor
    hear: Tensor
    back: Tensor | None


def _next(system: System, z: Tensor, u: Tensor, heard: Tensor | None, in_place: bool = False) -> Tensor:
    """States `... d n` that heard `... d`, after one more input `... d`."""
    z = z.mul_(system.decay) if in_place else z * system.decay
    z.addcmul_(u[..., None].to(z.dtype), system.push)
    if system.back is not None and heard is not None:
        z.addcmul_(heard[..., None].to(z.dtype), system.back, value=-1)
    return z


def _told(system: System, z: Tensor) -> tuple[Tensor, Tensor]:
    """What is read off states `... d n` and what they hear of each other, each `... d`.

    Both by one product, even where one is not needed: with two rows a CPU takes half as long as with one.
    """
    weight = torch.stack([system.read, system.hear], dim=1)  # d 2 n
    real = 2 * torch.stack([weight.real, -weight.imag], dim=-1).flatten(-2)  # d 2 (n 2)
    with torch.autocast(z.device.type, enabled=False):  # half precision would not stay what the convolution says
        said, heard = torch.einsum("...dm,djm->...dj", torch.view_as_real(z).flatten(-2), real).unbind(-1)
    return said, heard


def _twice_real(z: Tensor) -> Tensor:
    return 2 * z.real.sum(-1)


def _kernel(system: System, t: int) -> Tensor:
    """What an input adds to this output and to the t - 1 after it: `d t`."""
    power = _powers(system.decay, t)  # d n t
    if system.back is None:
        return 2 * torch.einsum("dn,dnt->dt", system.read * system.push, power).real
    said = torch.stack([system.read, system.hear], dim=1)[:, :, None]  # d 2 1 n
    heard = torch.stack([system.push, system.back], dim=1)[:, None]  # d 1 2 n
    parts = 2 * torch.einsum("dijn,dnt->ijdt", said * heard, power).real
    (own, across), (start, loop) = parts.double().unbind()  # much cancels below
    # What is heard at a time, s = start ∗ input − loop ∗ s of a token before: solved for s as power series are divided.
    closed = torch.cat([torch.ones_like(loop[:, :1]), loop[:, :-1]], dim=1)
    s = _convolve_series(start, _reciprocal(closed))
    return (own - nn.functional.pad(_convolve_series(across, s)[:, :-1], (1, 0))).to(parts.dtype)


def _powers(decay: Tensor, t: int) -> Tensor:
    """decay^0 … decay^(t-1) along a new last axis, by doubling: as exact as the steps that they stand for."""
    power, base = torch.ones_like(decay)[..., None], decay[..., None]
    while power.shape[-1] < t:
        power = torch.cat([power, power * base], dim=-1)
        base = base * base
    return power[..., :t]


def _reciprocal(series: Tensor) -> Tensor:
    """1 / series `d t` of power series that begin with 1, by Newton's method: each round doubles the right terms."""
    found = torch.ones_like(series[:, :1])
    while found.shape[1] < series.shape[1]:
        right = min(2 * found.shape[1], series.shape[1])
        found = nn.functional.pad(found, (0, right - found.shape[1]))
        found = 2 * found - _convolve_series(found, _convolve_series(found, series[:, :right]))
    return found


def _convolve_series(a: Tensor, b: Tensor) -> Tensor:
    """The first t terms of the product of power series `... t`."""
    t = a.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(a, n=2 * t) * torch.fft.rfft(b, n=2 * t), n=2 * t)[..., :t]


def _convolve(kernel: Tensor, u: Tensor) -> Tensor:
    """Causal convolution of `n t d` with a kernel of at least its length, `d t`."""
    t = u.shape[1]
    return _convolve_series(u.transpose(1, 2), kernel[:, :t]).transpose(1, 2)


def _poles(init: Init, legs: Tensor) -> Tensor:
    """S4D's beginnings: HiPPO's normal part, or what it tends to (2206.11893, §4)."""
    n = torch.arange(len(legs), dtype=torch.float64)
    size = 2 * len(legs)
    turns = {"legs": legs.imag, "lin": math.pi * n, "inv": size / math.pi * (size / (2 * n + 1) - 1)}
    return torch.complex(torch.full_like(n, -0.5), turns[init])
