"""PCA of patches: the best linear tokenizer, found in closed form from one batch of pictures instead of trained.

What training then adds is a linear autoencoder with one matrix for both ways, whose optimum is the same subspace
(Baldi and Hornik 1989), seen on more data.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.perception.tokenizer import Tokenizer, TokenizerConfig, cut, paste
from innerworld.team import mean_of_all
from innerworld.types import Clip, Spec

GREY_LEVEL = 1 / 255  # deviation of a component below which it is taken to be rounding, and not blown up to 1


class PCAConfig(TokenizerConfig):
    width: int = Field(default=16, description="numbers of a token: directions of patches", ge=1)
    follow: float = Field(default=0.99, description="share of the deviations that a step of training keeps", ge=0, lt=1)


class PCA(Tokenizer):
    """Each patch as its coordinates along `width` orthonormal directions, each divided by its deviation.

    Before `prepare`: the lowest frequencies of a cosine transform, which need no data. Raises `UserError` for tokens
    wider than patches have numbers.
    """

    Config = PCAConfig
    presets: ClassVar[dict[str, Config]] = {
        "tiny": PCAConfig(width=32),
        "small": PCAConfig(),  # 8×8 pixels in 16 numbers
        "fine": PCAConfig(patch=4),
    }

    def __init__(self, config: PCAConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.width = config.width
        numbers = self.channels * self.patch**2
        if self.width > numbers:
            raise UserError(
                f"a patch of {self.patch}×{self.patch}×{self.channels} has {numbers} numbers, not {self.width} "
                f"directions: choose width={numbers} at most, or a greater patch"
            )
        basis, scale = _cosines(self.channels, self.patch, self.width)
        self.basis = nn.Parameter(basis)  # d p
        self.mean = nn.Parameter(torch.full((numbers,), 0.5))  # p
        self.scale: Tensor  # d   deviation of each coordinate
        self.register_buffer("scale", scale)
        self._follow = config.follow

    def code(self, x: Tensor) -> Tensor:
        return self._coordinates(x) / self.scale

    def paint(self, tokens: Tensor) -> Tensor:
        return paste((tokens * self.scale) @ self.basis + self.mean, self.grid, self.patch)

    @torch.no_grad()
    def prepare(self, clip: Clip) -> None:
        patches = cut(self.pictures(clip.obs[self.sight.sensor]), self.patch).flatten(0, 1)
        basis, mean, scale = principal(patches, self.width)
        self.basis.copy_(basis)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def terms(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Squared error of the pictures: the directions are taught by what they leave out."""
        with torch.autocast(x.device.type, enabled=False):  # what is left out is small beside what is not
            coordinates = self._coordinates(x)
            shown = paste(coordinates @ self.basis + self.mean, self.grid, self.patch)
        if self.training:
            with torch.no_grad():
                spread = mean_of_all(coordinates.square().mean(dim=(0, 1))).sqrt().clamp(min=GREY_LEVEL)
                self.scale.lerp_(spread, 1 - self._follow)
        return coordinates / self.scale, {"pixels": (shown - x).square().mean()}, {}

    @torch.no_grad()
    def after_step(self) -> None:
        """Turn the directions back into orthonormal ones."""
        q, r = torch.linalg.qr(self.basis.mT)
        self.basis.copy_((q * r.diagonal().sign()).mT)

    def _coordinates(self, x: Tensor) -> Tensor:
        return (cut(x, self.patch) - self.mean) @ self.basis.mT


def principal(rows: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of rows `n p`, those of all who share the batch: the k main directions `k p`, mean `p` and deviations `k`.

    The largest number of a direction is positive, so that the same rows give the same tokens.
    """
    rows = rows.double()
    mean = mean_of_all(rows.mean(dim=0))
    apart = rows - mean
    covariance = mean_of_all(apart.mT @ apart / len(rows))
    values, vectors = torch.linalg.eigh(covariance)
    basis = vectors.mT.flip(0)[:k]
    largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
    scale = values.flip(0)[:k].clamp(min=GREY_LEVEL**2).sqrt()
    return (basis * largest.sign()).float(), mean.float(), scale.float()


def _cosines(channels: int, patch: int, k: int) -> tuple[Tensor, Tensor]:
    """The k lowest frequencies of channels, rows and columns together, orthonormal `k p`, and deviations `k` to begin
    with: they fall with the frequency, as those of most pictures do."""
    places = torch.cartesian_prod(*(torch.arange(n) for n in (channels, patch, patch)))
    frequency = places.sum(dim=1)
    lowest = torch.argsort(frequency, stable=True)[:k]
    waves = torch.kron(_cosine(channels), torch.kron(_cosine(patch), _cosine(patch)))
    scale = 0.25 * patch * math.sqrt(channels) / (1 + frequency[lowest])
    return waves[lowest].float(), scale


def _cosine(n: int) -> Tensor:
    """The orthonormal cosine transform of n numbers: `frequency place`."""
    place = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * (place + 0.5) * place[:, None]) * math.sqrt(2 / n)
    waves[0] /= math.sqrt(2)
    return waves
