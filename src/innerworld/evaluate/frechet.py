"""Fréchet distance between real and imagined frames, on features of a net that is part of the number's name.

It is not FVD: that name belongs to one network trained on other people's videos (I3D). Numbers of different nets, or of
different numbers of frames, cannot be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.nn.sensors import image_in

LARGEST = 48  # pixels of the longer side that nets are shown, at most
CHANNELS = 32
HALVINGS = 3


def frechet(real: Tensor, other: Tensor) -> float:
    """Squared Fréchet distance of two sets of features, `n d` and `m d`, each taken for a Gaussian (Heusel et al. 2017,
    arXiv 1706.08500, eq. 6): |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½).

    Each feature is first measured in deviations of the real ones, so that no net's scale counts; one that never varies
    there is left out.
    """
    real, other = real.double(), other.double()
    spread = real.std(dim=0)
    varies = spread > 1e-6 * spread.max()
    a, b = ((x - real.mean(dim=0))[:, varies] / spread[varies] for x in (real, other))
    cov_a, cov_b = a.T.cov(), b.T.cov()
    cov_a, cov_b = (cov.reshape(a.shape[1], a.shape[1]) for cov in (cov_a, cov_b))  # one feature gives a bare number
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return max(0.0, (apart + cov_a.trace() + cov_b.trace() - 2 * inner).item())


class RandomConv(nn.Module):
    """Random features of a frame, never trained and the same for every model: mean and deviation of 32 maps, `n 64`."""

    def __init__(self, channels: int, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        for i in range(HALVINGS):
            layer = nn.Conv2d(channels if i == 0 else CHANNELS, CHANNELS, 3, stride=2, padding=1, bias=False)
            fan_in = layer.in_channels * 9
            layer.weight.data = torch.randn(layer.weight.shape, generator=rng) * (2 / fan_in) ** 0.5
            layers += [layer, nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Frames `n y x c` uint8 → `n 64`."""
        parts = [self.layers(shrunk(some) - 0.5).flatten(2) for some in frames.split(256)]
        maps = torch.cat(parts)  # n 32 (y x)
        return torch.cat([maps.mean(dim=-1), maps.std(dim=-1, correction=0)], dim=1)


def shrunk(frames: Tensor) -> Tensor:
    """Frames `n y x c` uint8 → `n c y x` in [0, 1], each side a whole number of times smaller where they are large."""
    x = image_in(frames)
    times = -(-max(x.shape[-2:]) // LARGEST)
    return x if times == 1 else F.avg_pool2d(x, [min(times, side) for side in x.shape[-2:]])
