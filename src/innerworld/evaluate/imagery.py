"""What a belief looks like: decoded where a family decodes, else the most similar picture among those it has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerworld.data import Clips, Store
from innerworld.nn.sensors import to_uint8
from innerworld.types import State
from innerworld.world import WorldModel, flatten


@dataclass(frozen=True)
class Album:
    """Pictures that a model has seen, with what it believed: its memory, for families that cannot draw."""

    features: Tensor  # n d
    frames: Tensor  # n y x c   uint8

    def nearest(self, features: Tensor) -> Tensor:
        """The picture whose features are closest: `m d` → `m y x c`."""
        return self.frames[torch.cdist(features, self.features).argmin(dim=1)]


@torch.no_grad()
def album(model: WorldModel, store: Store, episodes: np.ndarray, sensor: str = "pixels") -> Album:
    """Pictures and beliefs along whole episodes."""
    model.eval()
    features, frames = [], []
    for episode in episodes:
        clip = Clips(store, [int(episode)], int(store.lengths[episode]), 1).cut(np.zeros(1, np.int64))
        features.append(model.features(flatten(model.watch(clip), 2)))
        frames.append(clip.obs[sensor][0])
    return Album(torch.cat(features), torch.cat(frames))


@torch.no_grad()
def draw(model: WorldModel, states: State, memory: Album, sensor: str = "pixels") -> np.ndarray:
    """Beliefs `t ...` as pictures `t y x c` uint8."""
    decoded = model.decode(states)
    if sensor in decoded:
        return to_uint8(decoded[sensor]).numpy()
    return memory.nearest(model.features(states)).numpy()
