"""Frames per second of imagining one stream, as when one plays; and what a frame costs, which no clock says twice."""

from __future__ import annotations

import time
from itertools import cycle

import torch
from torch import Generator, Tensor

from innerworld.evaluate.counting import flop_counter
from innerworld.nn.sensors import to_uint8
from innerworld.types import State, each
from innerworld.world import WorldModel

WARM = 8  # frames before the clock starts
TIMED = 48
LONGEST = 5.0  # seconds after which the clock stops


@torch.no_grad()
def frames_per_s(model: WorldModel, belief: State, actions: Tensor, sensor: str, seed: int = 0) -> float:
    """How many frames a second the model imagines and draws, of one stream: `belief` each `1 ...`, `actions` `1 h a`.

    The protocol: one action at a time, each frame decoded to 8 bits on the CPU before the next action is given, chance
    drawn; 8 frames to warm up, then the mean of 48, of either at most as many as 5 s allow. Actions are repeated where
    they do not suffice. What the frames cost to send and show is not in it.
    """
    rng = Generator(actions.device).manual_seed(seed)
    roll = model.roll(each(lambda value: value[:, None], belief), WARM + TIMED)
    given = cycle(actions.unbind(dim=1))

    def go(frames: int) -> float:
        """Imagine them; how many a second that were."""
        begun = time.perf_counter()
        for i in range(frames):
            to_uint8(model.decode(roll(next(given), rng))[sensor]).cpu()
            seconds = time.perf_counter() - begun
            if seconds > LONGEST:
                return (i + 1) / seconds
        return frames / seconds

    go(WARM)
    return go(TIMED)


@torch.no_grad()
def flops_per_frame(model: WorldModel, belief: State, actions: Tensor, sensor: str, seed: int = 0) -> int:
    """Floating-point operations of imagining and drawing one frame (matrix products, as torch counts them)."""
    rng = Generator(actions.device).manual_seed(seed)
    roll = model.roll(each(lambda value: value[:, None], belief), 1)
    with flop_counter() as counter:
        model.decode(roll(actions[:, 0], rng))
    return counter.get_total_flops()
