"""What carries tokens through time: `Layer`, whatever goes on from a memory, and `Stack`, one after the other.

All that a world model asks of attention, of a state-space model or of a recurrent unit is asked here in the same words.
Tokens enter and leave as `b t d`. A *memory* is what a layer needs to go on after a token: tensors `b ...` of constant
shapes. A *trace* is the memory before every token of a clip and after the last, each tensor `b t+1 ...`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from innerworld.types import each

Memory = dict[str, Tensor]
Roll = Callable[[Tensor], Tensor]
"""The next token of k futures of each row, `b k d` → `b k d`; what it needs to go on it keeps itself."""


class Layer(nn.Module, ABC):
    """Tokens `b t d` → `b t d`, each of itself and of those before it."""

    @abstractmethod
    def blank(self, b: int, like: Tensor) -> Memory:
        """The memory before any token, each `b ...`, of the device and dtype of `like`."""

    @abstractmethod
    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        """All tokens of clips that begin with a blank memory; it is blank again before each token of `first` `b t`."""

    @abstractmethod
    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        """`forward`, and the memories from which each token went on and the next would: each `b t+1 ...`, no gradients.

        `first` is `b t+1` here: where the last one is set, what comes after these tokens begins anew. Memory `j` is
        blank at 0 and where `first[:, j]`. Times may share their storage (a window that slides, a row that is
        expanded): who gets a trace only reads it.
        """

    @abstractmethod
    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One more token `b d`: what comes of it, `b d`, and the memory then. What was given is not changed."""

    @abstractmethod
    def roll(self, memory: Memory, horizon: int) -> Roll:
        """At most `horizon` tokens of k futures of each row, from memories `b k ...`, which are not changed.

        Where futures share storage (times of a trace, or one memory expanded k times) a layer may compute with what is
        shared once. It can be differentiated through. Raises `UserError` for a horizon that its positions do not allow.
        """

    def trim(self, memory: Memory) -> Memory:
        """The memory with which to go on after a real look; shorter where imagining needs room for its own tokens."""
        return memory

    @abstractmethod
    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        """Numbers that `roll` holds at most, beside what it was given; `shared`: futures share their row's past.

        Without gradients: what a graph keeps of every step is not counted.
        """


class Stack(Layer):
    """Layers one after the other, and `finish` (a norm) on what they say.

    `recompute` saves memory in training: what is within a layer is computed twice.
    """

    def __init__(self, layers: Sequence[Layer], finish: nn.Module | None = None, recompute: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.finish = finish or nn.Identity()
        self.recompute = recompute

    def blank(self, b: int, like: Tensor) -> Memory:
        return _joined([layer.blank(b, like) for layer in self._layers])

    def forward(self, x: Tensor, first: Tensor | None = None) -> Tensor:
        for layer in self._layers:
            x = cast(Tensor, self._run(layer, x, first))
        return self.finish(x)

    def trace(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        memories = []
        for layer in self._layers:
            x, memory = cast(tuple[Tensor, Memory], self._run(layer.trace, x, first))
            memories.append(each(Tensor.detach, memory))
        return self.finish(x), _joined(memories)

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        memories = []
        for i, layer in enumerate(self._layers):
            x, after = layer.step(x, _of(memory, i))
            memories.append(after)
        return self.finish(x), _joined(memories)

    def roll(self, memory: Memory, horizon: int) -> Roll:
        rolls = [layer.roll(_of(memory, i), horizon) for i, layer in enumerate(self._layers)]

        def step(x: Tensor) -> Tensor:
            for roll in rolls:
                x = roll(x)
            return self.finish(x)

        return step

    def trim(self, memory: Memory) -> Memory:
        return _joined([layer.trim(_of(memory, i)) for i, layer in enumerate(self._layers)])

    def held(self, b: int, k: int, horizon: int, shared: bool) -> int:
        return sum(layer.held(b, k, horizon, shared) for layer in self._layers)

    def _run(self, layer: Callable[..., Any], x: Tensor, first: Tensor | None) -> Any:
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(layer, x, first, use_reentrant=False)
        return layer(x, first)

    @property
    def _layers(self) -> list[Layer]:
        return [cast(Layer, layer) for layer in self.layers]


def _joined(memories: Sequence[Memory]) -> Memory:
    """Of each layer its own, by the number of the layer: `2.keys`."""
    return {f"{i}.{name}": value for i, memory in enumerate(memories) for name, value in memory.items()}


def _of(memory: Memory, layer: int) -> Memory:
    prefix = f"{layer}."
    return {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}
