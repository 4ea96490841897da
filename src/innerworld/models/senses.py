"""The senses of a model that paints: sensors → tokens, by eyes of its own or borrowed ones, and beliefs → sensors."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, BorrowedEyes
from innerworld.models.standard import VectorScale
from innerworld.models.tokens import look
from innerworld.nn.block_gru import BlockLinear
from innerworld.nn.conv import ConvDecoder, ConvEncoder, ImageNorm, Output, PixelDecoder, Resize, image_norm
from innerworld.nn.mlp import ACTIVATIONS, MLP, Activation, Norm, linear
from innerworld.nn.sensors import image_in, image_out
from innerworld.types import Obs, Spec

GRID = 16  # side of the pictures by which states are compared, pixels


class SensesConfig(Config):
    eyes: BorrowConfig = Field(default=BorrowConfig(), description="an encoder of perception instead of the own eyes")
    depth: int = Field(default=4, description="image channels, times `mults`", ge=1)
    units: int = Field(default=64, description="width of the vector encoder, the decoder and the heads", ge=1)
    layers: int = Field(default=3, description="layers of the vector encoder and decoder", ge=1)
    norm: Norm = Field(default="rms", description="of every layer: rms (V3), layer, or none (v1, v2)")
    activation: Activation = Field(default="silu", description="of every dense layer: silu (V3), elu, or relu")
    symlog: bool = Field(default=True, description="see and tell vectors in symlog (V3)")
    standardise: bool = Field(
        default=False,
        description="see and tell each number of a vector by its mean and deviation in training, then"
        " in symlog if so set: small ones weigh as much as large ones (not in the papers)",
    )
    error: Literal["square", "normal"] = Field(
        default="square", description="of what is decoded: squared (V3), or half of it, a unit normal's nats (v1, v2)"
    )
    image: Resize = Field(default="maxpool", description="how images shrink: maxpool (V3), strided (fast), valid (v1)")
    image_activation: Activation = Field(default="silu", description="of every convolution: silu (V3), elu, or relu")
    image_norm: ImageNorm | Literal["same"] = Field(
        default="same", description="of every convolution: the same as `norm`, another, or batch (STORM, DRAMA)"
    )
    image_bias: bool = Field(default=True, description="layers of images that a norm follows have a bias, too")
    image_stem: bool = Field(default=False, description="the first stage of images keeps their sides (DRAMA)")
    decoder: Literal["maps", "linear", "dense"] = Field(
        default="maps",
        description="images grow from: maps, by mirrored stages (V3), linear, the same behind a single layer (STORM,"
        " DRAMA), or dense, from one pixel (v1, v2)",
    )
    kernels: tuple[int, ...] = Field(
        default=(5, 5, 6, 6), description="dense decoder: sides of its kernels, pixels; these paint 64×64", min_length=1
    )
    output: Output = Field(default="sigmoid", description="maps: decoded pixels, sigmoid (V3) or linear")
    mults: tuple[int, ...] = Field(default=(2, 3, 4, 4), description="channels per stage, times `depth`", min_length=1)
    kernel: int = Field(default=5, description="side of the image kernels, pixels; odd for maxpool", ge=2)
    image_size: int | None = Field(default=None, description="side at which images are seen, pixels (none: own)", ge=8)


class Encoder(nn.Module):
    """Sensors → tokens `... e`: pictures are stacked along their channels, or each looked at with borrowed eyes."""

    def __init__(self, config: SensesConfig, spec: Spec, borrowed: list[BorrowedEyes]) -> None:
        super().__init__()
        self.images, self.vectors, self.size = spec.images(), spec.vectors(), config.image_size
        self.scale = VectorScale(spec, config.standardise, config.symlog)
        self.width = 0
        if self.vectors:
            numbers = sum(spec.obs[name][0] for name in self.vectors)
            self.mlp = MLP(
                numbers, config.units, config.layers, norm=config.norm, activation=ACTIVATIONS[config.activation]
            )
            self.width += config.units
        self.eyes = nn.ModuleList(borrowed)  # in the order of `images`
        if borrowed:
            self.width += sum(eyes.width for eyes in borrowed)
        elif self.images:
            channels = sum(spec.obs[name][2] for name in self.images)
            self.conv = ConvEncoder(
                channels,
                _sides(config, spec),
                config.depth,
                config.mults,
                config.kernel,
                config.image,
                _image_norm(config),
                config.image_activation,
                config.image_bias,
                config.image_stem,
            )
            self.width += self.conv.width

    def forward(self, obs: Obs) -> tuple[Tensor, Obs]:
        """The tokens, and the sensors as the decoder tells them: pictures `... c y x`, vectors as `scale` has them."""
        pictures = {name: image_in(obs[name], self.size).unflatten(0, obs[name].shape[:-3]) for name in self.images}
        vectors = {name: self.scale.squeezed(name, obs[name].float()) for name in self.vectors}
        tokens = []
        if vectors:
            tokens.append(self.mlp(torch.cat(list(vectors.values()), dim=-1)))
        if self.eyes:
            tokens += [
                _look(cast(BorrowedEyes, eyes), obs, name) for name, eyes in zip(self.images, self.eyes, strict=True)
            ]
        elif pictures:
            picture = torch.cat(list(pictures.values()), dim=-3)
            tokens.append(self.conv(picture.flatten(0, -4)).unflatten(0, picture.shape[:-3]))
        return torch.cat(tokens, dim=-1), pictures | vectors


class Decoder(nn.Module):
    """Memory and features → sensors, and how far they are from the real ones.

    Features are the memory's `deter` numbers and the latent's `flat`; with none of the former the latent paints alone.
    """

    def __init__(self, config: SensesConfig, spec: Spec, deter: int, flat: int, blocks: int) -> None:
        super().__init__()
        self.spec, self.deter = spec, deter
        self.share = 0.5 if config.error == "normal" else 1.0  # of the squared error
        self.images, self.vectors = spec.images(), spec.vectors()
        # An error is that of the sensor's own pixels: seeing them smaller saves time and must not lighten pictures.
        self.pixels = {name: math.prod(spec.obs[name][:2]) / math.prod(_sides(config, spec)) for name in self.images}
        if self.vectors:
            width = sum(spec.obs[name][0] for name in self.vectors)
            self.mlp = MLP(
                deter + flat,
                config.units,
                config.layers,
                out_dim=width,
                norm=config.norm,
                activation=ACTIVATIONS[config.activation],
            )
        if self.images:
            channels = sum(spec.obs[name][2] for name in self.images)
            y, x = _sides(config, spec)
            if config.decoder == "dense":
                self.conv = _from_pixel(config, channels, (y, x))
                self.map = _StartPixel(deter, flat, self.conv.start)
            elif config.decoder == "linear":
                self.conv = _mirror(config, channels, (y, x))
                self.map = _StartLinear(config, deter, flat, self.conv.start)
            else:
                self.conv = _mirror(config, channels, (y, x))
                self.map = _StartMap(config, deter, flat, blocks, self.conv.start)
            self.grid = min(y, GRID), min(x, GRID)
            self.root: Tensor
            self.register_buffer("root", energy_root(*self.grid), persistent=False)

    def sensors(self, deter: Tensor, feat: Tensor, scale: VectorScale) -> Obs:
        """As `obs` has them: pictures `b y x c` in [0, 1], vectors `b n`, by the encoder's `scale`."""
        pictures, vectors = self._pictures(deter, feat), self._vectors(feat)
        seen = {name: image_out(picture.clamp(0, 1), self.spec.obs[name]) for name, picture in pictures.items()}
        return seen | {name: scale.stretched(name, vector) for name, vector in vectors.items()}

    def losses(self, deter: Tensor, feat: Tensor, ready: Obs) -> dict[str, Tensor]:
        """Squared error of each sensor, or half of it, summed over its pixels or numbers, of states `b t ...`: scalars.

        Half of it is the negative log-likelihood of a normal of deviation 1, less a constant.
        """
        deter, feat = deter.flatten(0, 1), feat.flatten(0, 1)
        told = self._pictures(deter, feat) | self._vectors(feat)
        errors = {name: (x - ready[name].flatten(0, 1)).square().flatten(1).sum(1).mean() for name, x in told.items()}
        return {name: error * self.share * self.pixels.get(name, 1.0) for name, error in errors.items()}

    def place(self, deter: Tensor, feat: Tensor) -> Tensor:
        """What is where, `b e`: the squared distance of two of these grows with the way that things have moved.

        Pictures are compared by the energy distance (Székely): Δᵀ K Δ for the difference Δ of two coarse pictures,
        with K falling linearly with the distance of two pixels; a dot moved by r is then r away, however far. So here
        is K^½ times the picture. Vectors count as `VectorScale` has them.
        """
        seen = list(self._vectors(feat).values())
        for picture in self._pictures(deter, feat).values():
            coarse = F.adaptive_avg_pool2d(picture, self.grid).flatten(2)  # b c (y x)
            seen.append((coarse @ self.root).flatten(1))
        return torch.cat(seen, dim=-1)

    def _pictures(self, deter: Tensor, feat: Tensor) -> dict[str, Tensor]:
        """`b c y x` each, at the size at which they are seen."""
        if not self.images:
            return {}
        picture = self.conv(self.map(deter, feat[:, self.deter :]))
        return dict(zip(self.images, picture.split([self.spec.obs[name][2] for name in self.images], 1), strict=True))

    def _vectors(self, feat: Tensor) -> dict[str, Tensor]:
        """`b n` each, as the encoder reads them."""
        if not self.vectors:
            return {}
        vector = self.mlp(feat)
        return dict(zip(self.vectors, vector.split([self.spec.obs[name][0] for name in self.vectors], -1), strict=True))


class _StartMap(nn.Module):
    """Memory `b d` and latent `b s` → the decoder's smallest map `b c y x`; a block paints its own channels."""

    def __init__(self, config: SensesConfig, deter: int, flat: int, blocks: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        c, y, x = self.shape = shape
        dense, painted = ACTIVATIONS[config.activation], ACTIVATIONS[config.image_activation]
        self.memory = BlockLinear(deter, c * y * x, blocks) if deter else None
        self.latent = MLP(flat, 2 * config.units, 1, out_dim=c * y * x, norm=config.norm, activation=dense)
        self.norm = image_norm(c, _image_norm(config))
        self.activation = painted()

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        found = self.latent(stoch)
        if self.memory is not None:
            found = self.memory(deter) + found
        return self.activation(self.norm(found.unflatten(-1, self.shape)))


class _StartLinear(nn.Module):
    """Memory `b d` and latent `b s` → the decoder's smallest map `b c y x`, by one linear layer (STORM, DRAMA)."""

    def __init__(self, config: SensesConfig, deter: int, flat: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        norm = _image_norm(config)
        self.linear = linear(deter + flat, math.prod(shape), bias=config.image_bias or norm == "none")
        self.norm = image_norm(shape[0], norm)
        self.activation = ACTIVATIONS[config.image_activation]()

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        found = self.linear(torch.cat([deter, stoch], dim=-1)).unflatten(-1, self.shape)
        return self.activation(self.norm(found))


class _StartPixel(nn.Module):
    """Memory `b d` and latent `b s` → a single pixel `b c 1 1`, by one linear layer (PlaNet, Dreamer v1 and v2)."""

    def __init__(self, deter: int, flat: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = linear(deter + flat, shape[0])

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        return self.linear(torch.cat([deter, stoch], dim=-1)).unflatten(-1, self.shape)


def _mirror(config: SensesConfig, channels: int, sides: tuple[int, int]) -> ConvDecoder:
    return ConvDecoder(
        channels,
        sides,
        config.depth,
        config.mults,
        config.kernel,
        config.image,
        config.output,
        _image_norm(config),
        config.image_activation,
        config.image_bias,
        config.image_stem,
    )


def _from_pixel(config: SensesConfig, channels: int, sides: tuple[int, int]) -> PixelDecoder:
    painter = PixelDecoder(
        channels,
        config.depth,
        config.mults,
        config.kernels,
        _image_norm(config),
        config.image_activation,
        config.image_bias,
    )
    if sides != (painter.side, painter.side):
        raise UserError(
            f"decoder=dense with kernels {config.kernels} paints {painter.side}×{painter.side}, pictures are seen at "
            f"{sides[0]}×{sides[1]}: set image_size={painter.side}, or decoder=maps"
        )
    return painter


def _image_norm(config: SensesConfig) -> ImageNorm:
    return config.norm if config.image_norm == "same" else config.image_norm


def _look(eyes: BorrowedEyes, obs: Obs, sensor: str) -> Tensor:
    """One vector for each frame: `... e`."""
    tokens = look(eyes, obs, sensor)  # ... s d
    return eyes.pooled(tokens.flatten(0, -3)).unflatten(0, tokens.shape[:-2])


def energy_root(y: int, x: int) -> Tensor:
    """K^½, `(y x) (y x)`: K = -distance on the unit square, centred to be positive, plus the mean."""
    rows, columns = (torch.arange(side, dtype=torch.float64) / max(y, x) for side in (y, x))
    points = torch.cartesian_prod(rows, columns)
    mean = torch.full((y * x, y * x), 1 / (y * x), dtype=torch.float64)
    centre = torch.eye(y * x, dtype=torch.float64) - mean
    values, vectors = torch.linalg.eigh(mean - centre @ torch.cdist(points, points) @ centre)
    return (vectors * values.clamp(min=0).sqrt() @ vectors.T).float()


def _sides(config: SensesConfig, spec: Spec) -> tuple[int, int]:
    """y and x at which all images are seen."""
    if config.image_size is not None:
        return config.image_size, config.image_size
    sides = {spec.obs[name][:2] for name in spec.images()}
    if len(sides) > 1:
        raise UserError(f"images of different sizes {sorted(sides)}: set image_size, so that all are seen at one")
    y, x = sides.pop()
    return y, x
