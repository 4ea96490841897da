"""Frames that a model draws, in 8 bits as a screen shows them: of what it has just seen, and of what it imagines.

All measures of pictures begin here. Only the contract is used: `encode`, `roll` with a generator, `decode`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.nn.sensors import to_uint8
from innerworld.types import Clip, State, each
from innerworld.world import WorldModel


@dataclass(frozen=True)
class Looked:
    """What came of looking along a clip."""

    belief: State  # each b ...   at time `context`, after the frames 0 to `context` were seen
    redrawn: Tensor  # b t+1 y x c uint8   what is drawn of the belief at each time, right after looking: the codec


@torch.no_grad()
def look(model: WorldModel, clip: Clip, sensor: str, context: int) -> Looked:
    """Look at the whole clip, frame by frame: all beliefs at once may not fit into memory.

    Raises `UserError` for a family that does not draw this sensor.
    """
    state = model.encode(clip.at(0))
    kept, frames = state, [_drawn(model, state, sensor)]
    for t in range(clip.length):
        state = model.encode(clip.at(t + 1), state, clip.action[:, t])
        kept = state if t + 1 == context else kept
        frames.append(_drawn(model, state, sensor))
    return Looked(kept, torch.stack(frames, dim=1))


@torch.no_grad()
def imagined(model: WorldModel, belief: State, actions: Tensor, sensor: str, seed: int = 0) -> Tensor:
    """What is drawn of each imagined step, `b h y x c` uint8: from beliefs each `b ...`, with the actions `b h a`.

    Chance is drawn, as when one plays; the same seed draws the same, whatever the actions.
    """
    rng = Generator(actions.device).manual_seed(seed)
    roll = model.roll(each(lambda value: value[:, None], belief), actions.shape[1])
    return torch.stack([_drawn(model, roll(action, rng), sensor) for action in actions.unbind(dim=1)], dim=1)


def _drawn(model: WorldModel, state: State, sensor: str) -> Tensor:
    told = model.decode(state)
    if sensor not in told:
        raise UserError(f"{model.card.name} does not draw {sensor!r}, so its pictures cannot be judged")
    return to_uint8(told[sensor]).cpu()
