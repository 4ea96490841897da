"""The eyes of World Models: a variational autoencoder of pictures and numbers (arXiv 1803.10122, A.1)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.senses import GRID, energy_root
from innerworld.nn.conv import ConvDecoder, ConvEncoder
from innerworld.nn.mlp import MLP, linear
from innerworld.nn.sensors import image_in, image_out, symexp, symlog
from innerworld.types import Obs, Spec

SIDE = 64  # of the pictures that the paper's convolutions see, pixels


class VAEConfig(Config):
    z: int = Field(default=32, description="numbers in the latent", ge=1)
    image: Literal["paper", "strided"] = Field(
        default="paper",
        description="convolutions: the paper's, for 64 pixels; strided, for any size and a third dearer",
    )
    depth: int = Field(default=32, description="image channels after the first layer; each of the others doubles", ge=1)
    stages: int = Field(default=3, description="strided: how often pictures are halved", ge=1)
    image_size: int | None = Field(default=None, description="side at which images are seen, pixels (none: own)", ge=8)
    units: int = Field(default=128, description="width of the networks of vectors and of the heads", ge=1)
    layers: int = Field(default=2, description="layers of the networks of vectors", ge=1)
    tolerance: float = Field(default=0.5, description="KL below this costs nothing, nats per number of z", ge=0)


class VAE(nn.Module):
    """All sensors of a world ↔ one latent z: images stacked along their channels, vectors in symlog."""

    def __init__(self, config: VAEConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.images, self.vectors = spec.images(), spec.vectors()
        width = 0
        if self.vectors:
            numbers = sum(spec.obs[name][0] for name in self.vectors)
            self.read = MLP(numbers, config.units, config.layers)
            self.write = MLP(config.z, config.units, config.layers, out_dim=numbers)
            width += config.units
        if self.images:
            self.sides = _sides(config, spec)
            channels = sum(spec.obs[name][2] for name in self.images)
            self.look, self.paint = _convolutions(config, channels, self.sides)
            width += self.look.width
            # An error is that of the sensor's own pixels: seeing them smaller saves time and must not lighten pictures.
            self.pixels = {name: math.prod(spec.obs[name][:2]) / math.prod(self.sides) for name in self.images}
            self.grid = min(self.sides[0], GRID), min(self.sides[1], GRID)
            self.root: Tensor
            self.register_buffer("root", energy_root(*self.grid), persistent=False)
        self.mean = linear(width, config.z)
        self.logvar = linear(width, config.z)

    def ready(self, obs: Obs) -> Obs:
        """The sensors `n ...` as they are coded: pictures float `n c y x`, vectors in symlog."""
        size = self.config.image_size
        pictures = {name: image_in(obs[name], size) for name in self.images}
        return pictures | {name: symlog(obs[name].float()) for name in self.vectors}

    def encode(self, ready: Obs) -> tuple[Tensor, Tensor]:
        """Mean and log variance of z: `n z` each."""
        tokens = []
        if self.vectors:
            tokens.append(self.read(torch.cat([ready[name] for name in self.vectors], dim=-1)))
        if self.images:
            tokens.append(self.look(torch.cat([ready[name] for name in self.images], dim=1)))
        token = torch.cat(tokens, dim=-1)
        return self.mean(token), self.logvar(token)

    def told(self, z: Tensor) -> Obs:
        """What z `n z` says is seen, as `ready` gives it."""
        seen: Obs = {}
        if self.images:
            channels = [self.spec.obs[name][2] for name in self.images]
            seen |= dict(zip(self.images, self.paint(z).split(channels, dim=1), strict=True))
        if self.vectors:
            sizes = [self.spec.obs[name][0] for name in self.vectors]
            seen |= dict(zip(self.vectors, self.write(z).split(sizes, dim=-1), strict=True))
        return seen

    def decode(self, z: Tensor) -> Obs:
        """As `obs` has them: pictures `n y x c` in [0, 1], vectors `n k`."""
        told = self.told(z)
        pictures = {name: image_out(told[name].clamp(0, 1), self.spec.obs[name]) for name in self.images}
        return pictures | {name: symexp(told[name]) for name in self.vectors}

    def losses(self, ready: Obs, mean: Tensor, logvar: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Squared error summed over all numbers of each sensor, and max(KL, tolerance · z): means over n, scalars."""
        told = self.told(z)
        parts = {name: (x - ready[name]).square().flatten(1).sum(dim=1).mean() for name, x in told.items()}
        parts = {name: error * (self.pixels[name] if name in self.images else 1) for name, error in parts.items()}
        kl = kl_to_normal(mean, logvar)
        return parts | {"kl": kl.clamp(min=self.config.tolerance * self.config.z).mean()}

    def place(self, z: Tensor) -> Tensor:
        """What is where, `n e`: the squared distance of two of these grows with the way that things have moved.

        As `senses.Decoder.place`: K^½ times a coarse picture, which makes it the energy distance (Székely); vectors
        as they are, in symlog.
        """
        told = self.told(z)
        seen = [told[name] for name in self.vectors]
        for name in self.images:
            coarse = F.adaptive_avg_pool2d(told[name], self.grid).flatten(2)  # n c (y x)
            seen.append((coarse @ self.root).flatten(1))
        return torch.cat(seen, dim=-1)


def draw(mean: Tensor, logvar: Tensor, rng: Generator | None = None) -> Tensor:
    """A draw of z that lets gradients pass."""
    return mean + (0.5 * logvar).exp() * torch.empty_like(mean).normal_(generator=rng)


def kl_to_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL to the standard normal in nats, summed over the last axis."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(dim=-1)


class _Look(nn.Module):
    """The paper's encoder: four convolutions 4×4 with a stride of 2, nothing around the picture: 64 → 31, 14, 6, 2."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        widths = [channels, depth, 2 * depth, 4 * depth, 8 * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [_begun(nn.Conv2d(before, after, 4, stride=2), before * 16), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.width = 32 * depth

    def forward(self, picture: Tensor) -> Tensor:
        return self.layers(picture)


class _Paint(nn.Module):
    """The paper's decoder: 1×1 map, then kernels 5, 5, 6, 6 with a stride of 2: 1 → 5, 13, 30, 64."""

    def __init__(self, channels: int, depth: int, z: int) -> None:
        super().__init__()
        self.start = linear(z, 32 * depth)
        widths = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        layers: list[nn.Module] = []
        for i, kernel in enumerate((5, 5, 6, 6)):
            before, after = widths[i], widths[i + 1]
            reach = 1 if i == 0 else kernel * kernel / 4  # pixels that an output pixel is made of
            layers += [_begun(nn.ConvTranspose2d(before, after, kernel, stride=2), before * reach), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.start(z)[..., None, None])


class _PaintStrided(nn.Module):
    """The mirror image of `ConvEncoder`, begun with a linear map."""

    def __init__(self, decoder: ConvDecoder, z: int) -> None:
        super().__init__()
        self.start = linear(z, math.prod(decoder.start))
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(F.silu(self.start(z)).unflatten(-1, self.decoder.start))


def _convolutions(
    config: VAEConfig, channels: int, sides: tuple[int, int]
) -> tuple[_Look | ConvEncoder, _Paint | _PaintStrided]:
    if config.image == "paper":
        return _Look(channels, config.depth), _Paint(channels, config.depth, config.z)
    mults = [2**i for i in range(config.stages)]
    decoder = ConvDecoder(channels, sides, config.depth, mults, output="linear")
    return ConvEncoder(channels, sides, config.depth, mults), _PaintStrided(decoder, config.z)


def _begun(layer: nn.Conv2d | nn.ConvTranspose2d, inputs: float) -> nn.Module:
    """With weights that keep the size of what goes through a rectifier (He 2015), each output made of `inputs`."""
    nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _sides(config: VAEConfig, spec: Spec) -> tuple[int, int]:
    """y and x at which all images are seen. Raises `UserError` where the convolutions do not fit."""
    own = {spec.obs[name][:2] for name in spec.images()}
    if config.image_size is None and len(own) > 1:
        raise UserError(f"images of different sizes {sorted(own)}: set image_size, so that all are seen at one")
    y, x = (config.image_size, config.image_size) if config.image_size is not None else next(iter(own))
    if config.image == "paper" and (y, x) != (SIDE, SIDE):
        raise UserError(
            f"image=paper sees pictures of {SIDE}×{SIDE}, these are {y}×{x}: set image_size={SIDE}, or image=strided"
        )
    return y, x
