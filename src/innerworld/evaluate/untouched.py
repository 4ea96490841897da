"""Look at what is being taught and leave no trace: neither gradients nor modes nor random states change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from innerworld.learns import Learns


@contextmanager
def untouched(model: Learns) -> Iterator[torch.device]:
    """The model in eval mode and without gradients, for a while; gives its device."""
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), same_random(device):
            model.eval()
            yield device
    finally:
        for module, training in modes.items():
            module.training = training  # each its own: part of a model may be frozen in eval mode


@contextmanager
def same_random(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as it was, on the CPU and on `device`."""
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    if mps is not None:
        torch.mps.set_rng_state(mps)
