"""A small decoder, trained afterwards on latents that no longer learn: it shows what they keep and what they forgot.

The learner never feels it: what it is given are finished numbers.
"""

from __future__ import annotations

from math import isqrt

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.untouched import same_random
from innerworld.nn.conv import ConvDecoder
from innerworld.nn.linear import Linear
from innerworld.nn.schedules import warmup_cosine
from innerworld.nn.sensors import image_in, to_uint8

LARGEST = 64  # pixels of the longer side that is drawn, unless there are more tokens than that
STAGES = 2  # of the doublings are layers of their own
HALVINGS = 3  # between a picture and the map that a single vector is turned into
NARROW = 128  # that a longer vector than WIDE passes through on the way to that map: fewer weights
WIDE = 1024


class DecoderConfig(Config):
    steps: int = Field(default=400, description="steps of its training", ge=1)
    batch: int = Field(default=32, description="pictures in a step", ge=1)
    lr: float = Field(default=1e-2, description="highest learning rate", gt=0)
    channels: int = Field(default=16, description="of its last layer but one; doubled at each layer before", ge=1)
    seed: int = Field(default=0, description="of its first weights and its batches", ge=0)


class DetachedDecoder(nn.Module):
    """Latents `n s d` → pictures; begins as the mean picture, whatever it is given.

    Tokens that tile the picture are drawn in their places, others as their mean. Made by `fit_decoder`.
    """

    def __init__(self, latents: Tensor, target: Tensor, doublings: int, channels: int) -> None:
        super().__init__()
        c, y, x = target.shape[1:]
        stages = min(doublings, STAGES)
        self.spread = 2 ** (doublings - stages)  # the last doublings are one linear step, which is cheap
        self.decoder = ConvDecoder(
            c * self.spread**2,
            (y // self.spread, x // self.spread),
            channels,
            [2**i for i in range(stages)],
            output="linear",
        )
        width, self.grid = self.decoder.start[0], self.decoder.start[1:]
        self.tiled = latents.shape[1] == self.grid[0] * self.grid[1]
        d, width = latents.shape[2], width if self.tiled else width * self.grid[0] * self.grid[1]
        long = d > WIDE and not self.tiled
        self.inwards = nn.Sequential(Linear(d, NARROW), Linear(NARROW, width)) if long else Linear(d, width)
        mean = latents.mean((0, 1))
        picture = target.mean(0)
        self.mean, self.scale = nn.Buffer(mean), nn.Buffer(latents.std((0, 1)).clamp_min(1e-6 * (1e-3 + mean.abs())))
        self.picture, self.contrast = nn.Buffer(picture), nn.Buffer((target - picture).square().mean().sqrt())

    def forward(self, latents: Tensor) -> Tensor:
        """`n s d` → how the pictures differ from the mean picture, in units of `contrast`: `n c y x`."""
        x = (latents - self.mean) / self.scale
        x = self.inwards(x).transpose(1, 2) if self.tiled else self.inwards(x.mean(dim=1))
        return F.pixel_shuffle(self.decoder(x.reshape(len(x), -1, *self.grid)), self.spread)

    @torch.no_grad()
    def draw(self, latents: Tensor) -> Tensor:
        """`n s d` → pictures `n y x c` uint8."""
        x = self.picture + self.contrast * self(latents.to(self.mean.device, torch.float32))
        return to_uint8(x).permute(0, 2, 3, 1).cpu()

    def shrunk(self, frames: Tensor) -> Tensor:
        """Frames `n y x c` uint8 at the size at which pictures are drawn, for a look beside them."""
        return to_uint8(resized(frames, tuple(self.picture.shape[1:]))).permute(0, 2, 3, 1)

    @torch.no_grad()
    def r2(self, latents: Tensor, frames: Tensor) -> float:
        """Share of what sets pictures apart that is drawn: 1 is exact, 0 is no better than the mean picture."""
        target = resized(frames, tuple(self.picture.shape[1:])).to(self.picture.device)
        differs = (target - self.picture) / self.contrast
        error = (self(latents.to(self.mean.device, torch.float32)) - differs).square().mean()
        return (1 - error / differs.square().mean()).item()


def fit_decoder(latents: Tensor, frames: Tensor, config: DecoderConfig = DecoderConfig()) -> DetachedDecoder:
    """Train a decoder from latents `n s d` to frames `n y x c` uint8, on the latents' device.

    Minimises the squared error over the pictures' variance, which is 1 - R². Leaves torch's random state as it was.
    Raises `UserError` for numbers that do not fit each other, fewer than two, latents that are not finite, or frames
    that are all alike.
    """
    if latents.ndim != 3 or frames.ndim != 4 or len(latents) != len(frames) or len(frames) < 2:
        shapes = f"{tuple(latents.shape)} and {tuple(frames.shape)}"
        raise UserError(f"decoder: latents and frames have shapes {shapes}, expected (n, s, d) and (n, y, x, c), n > 1")
    if not torch.isfinite(latents).all():
        raise UserError("decoder: the latents are not finite")
    if not (frames != frames[0]).any():
        raise UserError("decoder: all frames are alike, so there is nothing to draw")
    device = latents.device
    x = latents.detach().float()
    size, stages = _drawn(latents.shape[1], frames.shape[1], frames.shape[2])
    target = resized(frames, size).to(device)
    with torch.enable_grad(), same_random(device):
        torch.manual_seed(config.seed)
        decoder = DetachedDecoder(x, target, stages, config.channels).to(device)
        _train(decoder, x, (target - decoder.picture) / decoder.contrast, config)
    return decoder.eval().requires_grad_(False)


def _train(decoder: DetachedDecoder, x: Tensor, differs: Tensor, config: DecoderConfig) -> None:
    optimiser = AdamW(decoder.parameters(), lr=config.lr)
    for step in range(config.steps):
        rows = torch.randint(len(x), (min(config.batch, len(x)),)).to(x.device)
        optimiser.param_groups[0]["lr"] = warmup_cosine(step, config.steps, config.lr, config.steps // 10)
        optimiser.zero_grad()
        F.mse_loss(decoder(x[rows]), differs[rows]).backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()


def _drawn(s: int, y: int, x: int) -> tuple[tuple[int, int], int]:
    """At which size s tokens of a picture `y x` are drawn, and by how many doublings from the map of tokens."""
    grid = _grid(s, y, x)
    if grid is None:
        shrink = min(1.0, LARGEST / max(y, x))
        unit = 2**HALVINGS
        return (max(1, round(y * shrink / unit)) * unit, max(1, round(x * shrink / unit)) * unit), HALVINGS
    stages = 1
    while max(grid) * 2 ** (stages + 1) <= min(LARGEST, max(y, x)):
        stages += 1
    return (grid[0] * 2**stages, grid[1] * 2**stages), stages


def _grid(s: int, y: int, x: int) -> tuple[int, int] | None:
    """Rows and columns of tokens that tile a picture of these sides, or a square that it was made; None: neither."""
    if s < 4:
        return None
    for rows in (round((s * y / x) ** 0.5), isqrt(s)):
        if rows and s % rows == 0 and (rows * x == s // rows * y or rows * rows == s):
            return rows, s // rows
    return None


def resized(frames: Tensor, size: tuple[int, ...]) -> Tensor:
    """Frames `n y x c` uint8 → `n c y x` in [0, 1] of that size (y, x), by area means."""
    x = image_in(frames)
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode="area")
