"""How well a model knows some experience: asked without leaving a trace on it, or on what others draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from innerworld.types import Clip, each
from innerworld.world import WorldModel, flatten

LOSS, FORESIGHT = "loss", "foresight error"


@torch.no_grad()
def knows(model: WorldModel, clip: Clip, seed: int = 0) -> dict[str, float]:
    """The loss on a clip, drawn alike each time, and how far what is foreseen of a step is from what is seen then, as a
    share of standing still; in a loss of many parts that one may be small."""
    clip = clip.to(next(model.parameters()).device)
    with as_it_was(model), drawing(model, seed):
        model.eval()
        loss, states = model.loss(clip)[0], model.watch(clip)
        before, after = (flatten(each(lambda value, t=t: value[:, t : t + clip.length], states), 2) for t in (0, 1))
        expected = model.predict(before, clip.action.flatten(0, 1))
        error = model.energy(expected, after).mean() / model.energy(before, after).mean()
    return {LOSS: float(loss), FORESIGHT: float(error)}


@contextmanager
def drawing(model: WorldModel, seed: int) -> Iterator[None]:
    """Within, what a loss draws depends on the seed alone; whoever draws outside does not notice."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def as_it_was(model: WorldModel) -> Iterator[None]:
    """Afterwards the same parts of the model learn and are in their training mode as before."""
    modes = {module: module.training for module in model.modules()}
    learns = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, mode in learns.items():
            parameter.requires_grad_(mode)
