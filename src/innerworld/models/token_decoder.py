"""From tokens in their places to pictures: a decoder to look at what a model of tokens believes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.nn.conv import ConvDecoder
from innerworld.nn.frames import Grid
from innerworld.nn.linear import Linear
from innerworld.nn.sensors import image_in, image_out
from innerworld.types import Obs, Spec


class TokenDecoder(nn.Module):
    """Tokens `b s d` of the pictures of `spec` → those pictures. Give it detached tokens, that nobody else feels it."""

    def __init__(self, channels: int, width: int, grids: list[Grid], spec: Spec) -> None:
        super().__init__()
        self.spec, self.width, self.grids = spec, width, grids
        self.inwards, self.decoders = nn.ModuleList(), nn.ModuleList()  # in the order of the images
        for name, (y, x) in zip(spec.images(), grids, strict=True):
            doublings = min(4, max(1, round(math.log2(spec.obs[name][0] / y))))
            size = (y * 2**doublings, x * 2**doublings)
            decoder = ConvDecoder(spec.obs[name][2], size, channels, [2**i for i in range(doublings)], output="linear")
            self.inwards.append(Linear(width, decoder.start[0]))
            self.decoders.append(decoder)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Tokens `b s d` → pictures `b c y x`, at the decoder's own size."""
        shown, first = {}, 0
        for name, (y, x), inwards, decoder in zip(
            self.spec.images(), self.grids, self.inwards, self.decoders, strict=True
        ):
            tokens = z[:, first : first + y * x, : self.width]
            shown[name] = decoder(inwards(tokens).transpose(1, 2).unflatten(2, (y, x)))
            first += y * x
        return shown

    def show(self, z: Tensor) -> dict[str, Tensor]:
        return {name: image_out(x.clamp(0, 1), self.spec.obs[name]) for name, x in self(z).items()}

    def loss(self, z: Tensor, obs: Obs) -> Tensor:
        """Squared error of the pictures: tokens `b s d`, frames each `... y x c`."""
        errors = []
        for name, shown in self(z).items():
            true = F.interpolate(image_in(obs[name]), shown.shape[-2:], mode="area")
            errors.append(F.mse_loss(shown, true))
        return torch.stack(errors).mean()
