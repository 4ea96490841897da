"""What Genie's dynamics speak in: the tokens of a codec as words of a few vocabularies, and back to pictures.

A codec with a vocabulary has one word for each token. Numbers found in closed form (pca) become one word each, of
levels that lie where the numbers do: such a tokenizer costs no training, and a token's words are guessed side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.errors import UserError
from innerworld.models.codec import Codec, CodecConfig
from innerworld.types import Clip, Obs, Spec

ROUNDS = 30
"""In which levels move to the mean of what is nearest to them; more change little."""


class Words(nn.Module):
    """Pictures of a spec ↔ words `s k`, each of `classes`. Raises `UserError` for a world without pictures."""

    def __init__(self, config: CodecConfig, spec: Spec, levels: int) -> None:
        super().__init__()
        if not spec.images():
            raise UserError(f"genie sees pictures only, here are {', '.join(spec.obs)}: choose a sensor of images")
        self.codec = Codec(config, spec.only(*spec.images()))
        told = bool(self.codec.codes)
        self.k, self.classes = (1, self.codec.codes) if told else (self.codec.width, levels)
        self.levels: Tensor | None  # k classes   in ascending order
        begun = None if told else torch.linspace(-2.5, 2.5, levels).repeat(self.k, 1)
        self.register_buffer("levels", begun)

    @torch.no_grad()
    def look(self, obs: Obs) -> Tensor:
        """Each sensor `... y x c` → `... s k`."""
        tokens = self.codec.look(obs)
        if self.levels is not None:
            return _nearest(tokens, self.levels)
        return self.codec.indices(tokens.flatten(0, -3)).unflatten(0, tokens.shape[:-2])[..., None]

    def tokens(self, words: Tensor) -> Tensor:
        """Words `... s k` → tokens `... s d`."""
        if self.levels is None:
            return self.codec.lookup(words[..., 0].flatten(0, -2)).unflatten(0, words.shape[:-2])
        return self.levels[torch.arange(self.k, device=words.device), words]

    def show(self, words: Tensor) -> dict[str, Tensor]:
        """Words `b s k` → pictures `b y x c` in [0, 1]."""
        return self.codec.show(self.tokens(words))

    @torch.no_grad()
    def prepare(self, clip: Clip) -> None:
        """Find what has a closed form in the first batch: the codec's directions, and levels of each number (Lloyd)."""
        self.codec.prepare(clip)
        if self.levels is not None:
            rows = self.codec.look(clip.obs).flatten(0, -2)  # n k
            self.levels.copy_(_lloyd(rows, self.classes))


def _nearest(numbers: Tensor, levels: Tensor) -> Tensor:
    """Of numbers `... k` the nearest of their `levels` `k classes`: `... k`."""
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    return torch.searchsorted(middles, numbers.flatten(0, -2).mT.contiguous()).mT.reshape(numbers.shape)


def _lloyd(rows: Tensor, classes: int) -> Tensor:
    """Levels `k classes` at which numbers `n k` lie nearest in squares, from even steps on."""
    low, high = rows.amin(dim=0), rows.amax(dim=0)
    steps = torch.linspace(0, 1, classes, device=rows.device)
    levels = low[:, None] + (high - low).clamp(min=1e-3)[:, None] * steps
    for _ in range(ROUNDS):
        nearest = _nearest(rows, levels).mT  # k n
        count = torch.zeros_like(levels).scatter_add_(1, nearest, torch.ones_like(rows.mT))
        total = torch.zeros_like(levels).scatter_add_(1, nearest, rows.mT)
        levels = torch.where(count > 0, total / count.clamp(min=1), levels)
    return levels.sort(dim=1).values
