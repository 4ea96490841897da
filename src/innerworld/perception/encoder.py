"""`Encoder`: eyes that learn alone, by predicting representations. Each family is a leaf of it in a file of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.nn.vision import VisionTransformer
from innerworld.perception.sight import SightConfig
from innerworld.types import Clip, Obs, each

FRAMES = 64  # looked at together where the frames of many clips are


class Encoder(Learns):
    """Eyes with a face like a world model's: `encode` what is seen, `loss` to learn from. Subclass once.

    The loss does not look at the clip's actions.
    """

    alike = True  # walls and floor are in every frame, and a mean of tokens is mostly they

    @abstractmethod
    def encode(self, obs: Obs) -> Tensor:
        """What is this? `obs` each `b ...` → tokens `b s d`."""

    def vision(self, learning: bool = False) -> tuple[VisionTransformer, SightConfig]:
        """What sees in it, and what it is shown: the part that `encode` uses, or the one that is `learning`.

        For those who want its eyes alone. Raises `UserError` where there is no such part.
        """
        raise UserError(f"{type(self).__name__} has no vision transformer to lend as eyes: give it the method vision")

    def impressions(self, clip: Clip) -> Tensor:
        """The mean of each frame's tokens, each frame seen alone: `b t+1 d`."""
        return torch.cat([tokens.mean(dim=1) for tokens in self._seen(clip)]).unflatten(0, (-1, clip.length + 1))

    def tokens(self, clip: Clip) -> Tensor:
        """Each frame's tokens, each frame seen alone: `b t+1 s d`."""
        return torch.cat(list(self._seen(clip))).unflatten(0, (-1, clip.length + 1))

    @classmethod
    def actions_in(cls, length: int) -> int:
        """One less than frames. Raises `UserError` for a single frame, which no clip of experience is."""
        if length < 2:
            raise UserError("eyes learn from clips of 2 frames or more: give a greater --length")
        return length - 1

    def _seen(self, clip: Clip) -> Iterator[Tensor]:
        """The tokens of some frames after the other, each `f s d`."""
        frames = {name: clip.obs[name].flatten(0, 1) for name in self.spec.obs}
        for i in range(0, len(clip.action) * (clip.length + 1), FRAMES):
            yield self.encode(each(lambda value, i=i: value[i : i + FRAMES], frames))
