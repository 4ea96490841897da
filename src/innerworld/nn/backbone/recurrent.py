"""A gated recurrent unit as one layer among others: torch's own, over all times at once where no episode begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.nn.backbone.layer import Layer, Memory, Roll
from innerworld.nn.backbone.residual import Residual, before, same_rows
from innerworld.nn.backbone.segments import segmented
from innerworld.nn.mlp import init_, linear


class GRULayer(Residual):
    """x + GRU(norm(x)), `b t d` → `b t d`; its memory is `hidden` numbers (default d)."""

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__(Recurrent(dim, hidden or dim), dim)


class Recurrent(Layer):
    """The unit alone, as torch has it (arXiv 1406.1078), and a linear map to d where its memory is of another size."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.unit = _begun(nn.GRU(dim, hidden, batch_first=True))
        self.out = nn.Identity() if hidden == dim else linear(hidden, dim)

    def blank(self, b: int, like: Tensor) -> Memory:
        return {"state": like.new_zeros(b, self.hidden)}

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        return self.out(self._states(x, first))

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        states = self._states(x, None if first is None else first[:, :-1])
        return self.out(states), {"state": before(states, first).to(x.dtype)}

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        state = self._next(x, memory["state"])
        return self.out(state), {"state": state.to(memory["state"].dtype)}

    def roll(self, memory: Memory, horizon: int) -> Roll:
        state = memory["state"]  # b k hidden

        def step(x: Tensor) -> Tensor:
            nonlocal state
            state = self._next(x, state)
            return self.out(state)

        return step

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return b * k * self.hidden

    def _states(self, x: Tensor, first: Tensor | None) -> Tensor:
        """The memory after each token: `b t hidden`."""
        return segmented(lambda piece: self.unit(piece)[0], x, first)

    def _next(self, x: Tensor, state: Tensor) -> Tensor:
        same_rows(x, state)
        rows = torch.gru_cell(x.flatten(0, -2), state.flatten(0, -2).to(x.dtype), *self.unit.all_weights[0])
        return rows.unflatten(0, x.shape[:-1])


def _begun(unit: nn.GRU) -> nn.GRU:
    """As Keras begins it, and the cells of `nn/gru.py`: the memory's weights orthogonal, no bias."""
    inputs, memory, *biases = unit.all_weights[0]
    init_(inputs, unit.input_size)
    nn.init.orthogonal_(memory)
    for bias in biases:
        nn.init.zeros_(bias)
    return unit
