"""S5: one diagonal linear system that all channels enter and leave by matrices (arXiv 2208.04933)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.backbone.linear_scan import scan
from innerworld.nn.backbone.residual import Gate, Gated, Residual, before, same_rows
from innerworld.nn.backbone.state_space import Method, complexed, discrete, hippo, log_steps


class S5Layer(Residual):
    """x + gate(GELU(S5(norm(x)))), `b t d` → `b t d`."""

    def __init__(
        self,
        dim: int,
        state: int = 256,
        blocks: int = 1,
        method: Method = "zoh",
        gate: Gate = "half_glu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(S5(dim, state, blocks, method), dim, Gated(dim, gate, dropout))


class S5(Layer):
    """A system of `state` real numbers, begun as HiPPO's normal part in `blocks`; the memory is `b n 2`, n = state / 2.

    Raises `UserError` for blocks of an odd size or that do not divide the state, and for a decay that is not finite.
    """

    def __init__(self, dim: int, state: int = 256, blocks: int = 1, method: Method = "zoh") -> None:
        super().__init__()
        if blocks < 1 or state % blocks:
            raise UserError(f"a state of {state} numbers does not divide into {blocks} blocks")
        legs = hippo(state // blocks)
        base = torch.block_diag(*[legs.base] * blocks)  # N n
        enter = base.conj().T @ (torch.randn(state, dim, dtype=torch.float64) / dim**0.5 + 0j)  # n d
        leave = torch.randn(dim, state, 2, dtype=torch.float64) * (0.5 / state) ** 0.5
        leave = torch.view_as_complex(leave) @ base  # d n
        self.method: Method = method
        self.n = state // 2
        self.log_decay = nn.Parameter((-legs.poles.real).log().float().repeat(blocks))  # n: no pole can be made to grow
        self.turn = nn.Parameter(legs.poles.imag.float().repeat(blocks))
        self.log_step = nn.Parameter(log_steps(self.n))
        self.enter = nn.Parameter(torch.stack([enter.real, enter.imag], dim=1).flatten(0, 1).float())  # (n 2) d
        self.leave = nn.Parameter(torch.stack([leave.real, -leave.imag], dim=2).flatten(1, 2).float())  # d (n 2)
        self.skip = nn.Parameter(torch.randn(dim))

    def blank(self, b: int, like: Tensor) -> Memory:
        return {"state": like.new_zeros(b, self.n, 2)}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        u = x.to(self.skip.dtype)
        return self._read(self._states(u, first), u)

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        u = x.to(self.skip.dtype)
        states = self._states(u, None if first is None else first[:, :-1])
        return self._read(states, u), {"state": before(torch.view_as_real(states), first).to(x.dtype)}

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        state, u = memory["state"], x.to(self.skip.dtype)
        same_rows(x, state)
        decay, weight = self._system()
        z = decay * complexed(state.to(u.dtype)) + self._push(u, weight)
        return self._read(z, u), {"state": torch.view_as_real(z).to(state.dtype)}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        decay, weight = self._system()
        z = complexed(memory["state"].to(self.skip.dtype))  # b k n

        def step(x: Tensor) -> Tensor:
            nonlocal z
            same_rows(x, z)
            u = x.to(self.skip.dtype)
            z = decay * z + self._push(u, weight)
            return self._read(z, u)

        return step

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return 2 * b * k * self.n * 2  # the state, and what is pushed into it

    def _system(self) -> tuple[Tensor, Tensor]:
        poles = torch.complex(-self.log_decay.exp(), self.turn)
        return discrete(poles, self.log_step.exp(), self.method, f"S5 of {self.n} pairs")

    def _states(self, u: Tensor, first: Tensor | None) -> Tensor:
        """The state after each token, `b t n` complex."""
        decay, weight = self._system()
        return scan(self._push(u, weight), decay, first)

    def _push(self, u: Tensor, weight: Tensor) -> Tensor:
        """What inputs `... d` add to the state: `... n`."""
        pushed = nn.functional.linear(u, self.enter).to(u.dtype)  # there are no complex numbers of half precision
        return weight * complexed(pushed.unflatten(-1, (-1, 2)))

    def _read(self, z: Tensor, u: Tensor) -> Tensor:
        """Each state stands for a pair, so twice the real part of what leaves: `... n` → `... d`."""
        return 2 * nn.functional.linear(torch.view_as_real(z).flatten(-2), self.leave) + self.skip * u
