"""`Tokenizer`: eyes that draw again what they saw: a picture ↔ a grid of tokens, numbers or entries of a codebook."""

from __future__ import annotations

from abc import abstractmethod

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.sensors import image_in, image_out
from innerworld.nn.vision import VisionTransformer
from innerworld.perception.encoder import Encoder
from innerworld.perception.sight import Sight, SightConfig
from innerworld.types import Clip, Obs, Spec


class TokenizerConfig(Config):
    sight: SightConfig = Field(default=SightConfig(), description="what it looks at")
    patch: int = Field(default=8, description="side of the square that a token stands for, pixels", ge=1)


class Tokenizer(Encoder):
    """One image sensor ↔ tokens, one for each patch, rows first. A leaf says how patches become tokens and come back.

    Raises `UserError` for a picture that patches do not tile, and frames of another size than `spec` says.
    """

    grid: tuple[int, int]
    """Rows and columns of the tokens."""
    width: int
    """Numbers of a token, which the leaf says."""
    codes: int = 0
    """Entries of the vocabulary; 0: tokens are continuous."""

    def __init__(self, config: TokenizerConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.sight = Sight(config.sight, spec)
        if config.sight.pixels != "centred":
            raise UserError("a tokenizer draws what it saw in the sensor's own colours: leave sight.pixels out")
        self.shape = spec.obs[self.sight.sensor]
        y, x, self.channels = self.shape
        y, x = (config.sight.size, config.sight.size) if config.sight.size else (y, x)
        if y % config.patch or x % config.patch:
            raise UserError(
                f"a picture of {y}×{x} cannot be cut into patches of {config.patch}: choose a patch that divides both "
                "sides, or resize the picture (image_size of a codec, sight.size of a tokenizer)"
            )
        self.patch = config.patch
        self.grid = (y // config.patch, x // config.patch)

    # ------------------------------------------------------------------ what a leaf must answer

    @abstractmethod
    def code(self, x: Tensor) -> Tensor:
        """Pictures `b c y x` in [0, 1] → tokens `b s d`."""

    @abstractmethod
    def paint(self, tokens: Tensor) -> Tensor:
        """Tokens `b s d` → pictures `b c y x`, not yet clipped."""

    @abstractmethod
    def terms(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Pictures `b c y x` → tokens, the parts of the loss, which add up to it, and numbers that are only told."""

    def indices(self, tokens: Tensor) -> Tensor:
        """Tokens `b s d` → entries of the vocabulary `b s`. Raises `UserError` where there is none."""
        raise UserError(f"the tokens of {type(self).__name__} are continuous, they have no indices: choose vq or fsq")

    def lookup(self, indices: Tensor) -> Tensor:
        """Entries `b s` → tokens `b s d`. Raises `UserError` where there is no vocabulary."""
        raise UserError(f"the tokens of {type(self).__name__} are continuous, they have no indices: choose vq or fsq")

    # ------------------------------------------------------------------ what follows from it

    def encode(self, obs: Obs) -> Tensor:
        return self.code(self.pictures(obs[self.sight.sensor]))

    def decode(self, tokens: Tensor) -> dict[str, Tensor]:
        """What `b s d` show, by name of the sensor: `b y x c` in [0, 1]."""
        return {self.sight.sensor: image_out(self.paint(tokens).clamp(0, 1), self.shape)}

    def impressions(self, clip: Clip) -> Tensor:
        """All tokens of each frame, side by side, for a mean of them would not tell where things are: `b t+1 (s d)`."""
        return self.tokens(clip).flatten(2)

    def vision(self, learning: bool = False) -> tuple[VisionTransformer, SightConfig]:
        """Raises `UserError`: what a tokenizer sees is lent to a codec, not as eyes."""
        raise UserError(
            f"{type(self).__name__} is a tokenizer and lends no eyes: a family with a codec takes it, as "
            "codec.checkpoint"
        )

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Every frame of the clip is a picture."""
        _, parts, told = self.terms(self.pictures(clip.obs[self.sight.sensor]))
        loss = torch.stack(list(parts.values())).sum()
        return loss, {name: part.detach() for name, part in (parts | told).items()}

    def pictures(self, frames: Tensor) -> Tensor:
        """The sensor's frames `... y x c` → pictures `(...) c y x` in [0, 1], at the size at which they are coded."""
        if tuple(frames.shape[-3:]) != self.shape:
            found, made = ("×".join(map(str, shape)) for shape in (frames.shape[-3:], self.shape))
            raise UserError(
                f"a picture of {self.sight.sensor!r} is {found} (y, x, channels), this tokenizer was made for {made}: "
                "resize the frames, or train a tokenizer on them"
            )
        return image_in(frames, self.sight.config.size)


def cut(x: Tensor, patch: int) -> Tensor:
    """Pictures `b c y x` → patches `b s p`, rows first."""
    return rearrange(x, "b c (y i) (x j) -> b (y x) (c i j)", i=patch, j=patch)


def paste(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The inverse of `cut`."""
    return rearrange(patches, "b (y x) (c i j) -> b c (y i) (x j)", y=grid[0], x=grid[1], i=patch, j=patch)
