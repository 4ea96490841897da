"""What a belief looks like: decoded where a family decodes, else the most similar picture among those it has seen.

Where there is a decoder that was trained afterwards (`detached_decoder.py`), it draws for those who cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerworld.data import Clips, Store
from innerworld.evaluate.detached_decoder import DetachedDecoder
from innerworld.nn.sensors import image_out, to_uint8
from innerworld.types import State
from innerworld.world import WorldModel


@dataclass(frozen=True)
class Album:
    """Pictures that a model has seen, with what it believed: its memory, for families that cannot draw."""

    features: Tensor  # n d
    frames: Tensor  # n y x c   uint8

    def nearest(self, features: Tensor) -> Tensor:
        """The picture whose features are closest: `m d` → `m y x c`."""
        return self.frames[torch.cdist(features, self.features).argmin(dim=1)]


@torch.no_grad()
def album(model: WorldModel, store: Store, episodes: np.ndarray, sensor: str = "pixels", frame_skip: int = 1) -> Album:
    """Pictures and beliefs along whole episodes, those that are too short for one action left out."""
    model.eval()
    features, frames = [], []
    for episode in episodes:
        length = int(store.lengths[episode]) // frame_skip
        if length:
            clip = Clips(store, [int(episode)], length, 1, frame_skip=frame_skip).cut(np.zeros(1, np.int64))
            features.append(model.impressions(clip)[0])
            frames.append(clip.obs[sensor][0])
    return Album(torch.cat(features), torch.cat(frames))


@torch.no_grad()
def draw(model: WorldModel, states: State, memory: Album, sensor: str = "pixels") -> np.ndarray:
    """Beliefs `t ...` as pictures `t y x c` uint8."""
    decoded = model.decode(states)
    if sensor in decoded:
        return to_uint8(decoded[sensor]).numpy()
    return memory.nearest(model.features(states)).numpy()


@torch.no_grad()
def sketch(model: WorldModel, states: State, decoder: DetachedDecoder, size: tuple[int, int]) -> np.ndarray:
    """Beliefs `t ...` as a small decoder draws them: `t y x c` uint8 of that size (y, x), enlarged by repetition."""
    drawn = decoder.draw(model.features(states)[:, None])
    return image_out(drawn.permute(0, 3, 1, 2).float(), size).to(torch.uint8).numpy()
