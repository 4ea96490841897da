"""What a training step costs: arithmetic, bytes read, memory and network, counted on a real step and by formula."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from innerworld import families
from innerworld.config import Config
from innerworld.errors import choose
from innerworld.evaluate.counting import Alive, flop_counter
from innerworld.learns import Learns
from innerworld.types import Clip, Spec

Strategy = Literal["ddp", "fsdp"]

NUMBER = 4  # bytes of a float32, in which parameters, gradients and AdamW's two averages are kept
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Cost:
    """One step of training on one process. FLOPs count a multiplication and an addition as two."""

    parameters: int  # that are trained
    parameters_still: int  # that are not: frozen eyes, a slow copy
    parameters_in_blocks: int  # of them, in the elements of module lists, which FSDP gathers one by one
    flops_forward: int  # counted while the step ran
    flops_backward: int
    flops_layers: int  # by formula, of linear and convolution layers: 6 x weights x the places they are used at
    bytes_read: int  # out of the store, at one byte for each colour of a pixel
    bytes_working: int  # alive at once, at most, beside parameters and their gradients: activations above all

    @property
    def flops(self) -> int:
        return self.flops_forward + self.flops_backward

    def bytes_state(self, processes: int = 1, strategy: Strategy = "ddp") -> int:
        """Parameters, gradients and AdamW's memory on one process; DDP also holds gradients in its buckets."""
        whole = 4 * NUMBER * self.parameters + NUMBER * self.parameters_still
        if strategy == "fsdp":
            return -(-whole // processes)
        return whole + (NUMBER * self.parameters if processes > 1 else 0)

    def bytes_sent(self, processes: int, strategy: Strategy = "ddp", gloo: bool = False) -> int:
        """What one process sends in a step.

        DDP adds up gradients around a ring: each passes on (n-1)/n of them twice. FSDP gathers the parameters and
        scatters the gradients, which is as much; blocks are gathered a second time, for the backward pass. `gloo`, the
        way between CPUs, scatters by adding all of them up, which sends twice as much. What is not trained has no
        gradient and no backward pass: FSDP gathers it once, DDP never sends it.
        """
        gathered = self.parameters + self.parameters_in_blocks + self.parameters_still
        scattered = (2 if gloo else 1) * self.parameters
        numbers = 2 * self.parameters if strategy == "ddp" else gathered + scattered
        return NUMBER * numbers * (processes - 1) // processes


def cost(family: str, config: Config | dict[str, Any], spec: Spec, batch: int, length: int) -> Cost:
    """Count one step of the family on noise of that shape, `length` actions, of eyes frames. Raises `UserError`."""
    model = families.build(family, config, spec)
    clip = noise(spec, batch, choose("family", family, families.FAMILIES).actions_in(length))
    model.loss(clip)  # once before: what is made at the first call is not part of a step
    with Alive() as alive:
        with _Layers(model) as layers, flop_counter() as forward:
            loss, _ = model.loss(clip)
        with flop_counter() as backward:
            loss.backward()
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Cost(
        parameters=trained,
        parameters_still=every - trained,
        parameters_in_blocks=_in_blocks(model),
        flops_forward=forward.get_total_flops(),
        flops_backward=backward.get_total_flops(),
        flops_layers=layers.flops,
        bytes_read=sum(value.nbytes for value in (*clip.obs.values(), clip.action, clip.reward, clip.terminated)),
        bytes_working=max(0, alive.peak - NUMBER * trained),
    )


def noise(spec: Spec, b: int, t: int, seed: int = 0) -> Clip:
    """A clip that fits `spec`, of noise."""
    rng = torch.Generator().manual_seed(seed)
    obs = {
        name: torch.randint(0, 256, (b, t + 1, *shape), generator=rng, dtype=torch.uint8)
        if len(shape) == 3
        else torch.randn(b, t + 1, *shape, generator=rng)
        for name, shape in spec.obs.items()
    }
    if spec.discrete:
        choice = torch.randint(spec.action, (b, t), generator=rng)
        action = nn.functional.one_hot(choice, spec.action).float()
    else:
        action = torch.rand(b, t, spec.action, generator=rng) * 2 - 1
    return Clip(obs, action, torch.randn(b, t, generator=rng), torch.zeros(b, t, dtype=torch.bool))


def _in_blocks(model: Learns) -> int:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return sum(p.numel() for p in {p for each in lists for p in each.parameters()} if p.requires_grad)


class _Layers:
    """Adds up 6 x weights x places of every linear and convolution layer that runs inside the `with`.

    A third of that is the forward pass, a third the gradient of the weights, which frozen ones do not need, and a third
    the gradient of what the layer was given, which the first layer does not need; a slow copy needs neither.
    """

    def __init__(self, model: Learns) -> None:
        self.flops = 0
        self._model = model
        self._hooks = ExitStack()

    def __enter__(self) -> _Layers:
        for layer in self._model.modules():
            if isinstance(layer, LAYERS):
                self._hooks.callback(layer.register_forward_hook(self._add).remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _add(self, layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # A transposed convolution uses its weights once at each place of what it is given, the others of what they
        # make; either's channels come first in the weight's shape.
        seen = given[0] if isinstance(layer, nn.ConvTranspose2d) else made
        passes = 1 + (made.requires_grad and given[0].requires_grad) + (made.requires_grad and weight.requires_grad)
        self.flops += passes * 2 * weight.numel() * (seen.numel() // weight.shape[0])
