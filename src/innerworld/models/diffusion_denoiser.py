"""DIAMOND's denoiser: from the last frames, what was done at them and a noisy next frame, the clean next frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.models.diffusion_config import DiffusionConfig
from innerworld.nn import edm
from innerworld.nn.linear import Linear
from innerworld.nn.mlp import maybe_no_inputs
from innerworld.nn.unet import EPS, UNet, groups_of

BYTE = 255


class Denoiser(nn.Module):
    """Frames are floats in [-1, 1] here. n = `history`; what is not known of them, and of their actions, is zero."""

    def __init__(self, config: DiffusionConfig, channels: int, action: int) -> None:
        super().__init__()
        self.config = config
        width, square = config.channels[0], config.patch**2
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.randn(config.steer // 2))
        self.action = embedding(action, config.steer // config.history)
        self.condition = nn.Sequential(
            Linear(config.steer, config.steer), nn.SiLU(), Linear(config.steer, config.steer)
        )
        self.into = nn.Conv2d((config.history + 1) * channels * square, width, 3, padding=1)
        self.unet = UNet(config.steer, config.channels, config.depths, config.attention or None)
        self.norm = nn.GroupNorm(groups_of(width), width, eps=EPS)
        self.out = nn.Conv2d(width, channels * square, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, noisy: Tensor, sigma: Tensor, frames: Tensor, actions: Tensor) -> tuple[Tensor, edm.Scales]:
        """Noisy next frames `r c y x` at levels `r`, frames `r n c y x`, actions `r n a` → what the network says."""
        at = self._scales(sigma)
        steering = self.unet.steer(self.condition(self._waves(at.noise) + self._moves(actions)))
        return self._say(at.seen(noisy), self._before(frames), steering), at

    @torch.no_grad()
    def sample(self, frames: Tensor, actions: Tensor, x: Tensor, steps: int) -> Tensor:
        """The next frames `r c y x`, 8 bit, from noise `x` `r c y x`; frames `r n c y x`, actions `r n a`.

        What steers the norms is had for all steps at once.
        """
        config = self.config
        levels = edm.levels(steps, config.level_low, config.start, config.rho, like=x)
        at = self._scales(levels[:-1])
        steering = self.unet.steer(self.condition(self._waves(at.noise)[:, None] + self._moves(actions)))  # steps r 2c
        before = self._before(frames)
        faster = torch.autocast(x.device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()

        def denoise(x: Tensor, i: int) -> Tensor:
            at = self._scales(levels[i : i + 1])
            with faster:
                said = self._say(at.seen(x), before, [norm[i] for norm in steering])
            return signed(self.bytes(at.clean(x, said)), like=x)

        return ((edm.euler(denoise, x, levels) + 1) / 2 * BYTE).round().to(torch.uint8)

    def loss(self, frames: Tensor, actions: Tensor, known: Tensor, judged: Tensor) -> Tensor:
        """Squared error of what the network says of k frames in a row, `r n+k c y x` with `r n+k-1 a`.

        Those after the first are drawn from what was denoised of the ones before, as when imagining. `known` `r k n`
        says which of the frames before each are known, `judged` `r k` which of the k are.
        """
        n, seen, errors = self.config.history, list(frames.unbind(1)), []
        for i in range(judged.shape[1]):
            heard, target, counts = known[:, i, :, None], seen[n + i], judged[:, i]
            before = torch.stack(seen[i : n + i], dim=1) * heard[..., None, None]
            sigma = self._drawn_levels(target)
            noisy = edm.noised(target, sigma, self.config.offset)
            said, at = self(noisy, sigma, before, actions[:, i : n + i] * heard)
            error = (said - at.to_say(noisy, target)).square().mean(dim=(1, 2, 3))
            errors.append((error * counts).sum() / counts.sum().clamp(min=1))
            denoised = signed(self.bytes(at.clean(noisy, said.detach())), like=target)
            seen[n + i] = torch.where(counts[:, None, None, None], denoised, target)
        return torch.stack(errors).mean()

    def bytes(self, x: Tensor) -> Tensor:
        """Floats in [-1, 1] → 8 bit."""
        x = (x.clamp(-1, 1) + 1) / 2 * BYTE
        return (x if self.config.rounding == "down" else x.round()).to(torch.uint8)

    # ------------------------------------------------------------------ below

    def _scales(self, sigma: Tensor) -> edm.Scales:
        return edm.scales(sigma, self.config.sigma_data, self.config.offset)

    def _drawn_levels(self, like: Tensor) -> Tensor:
        config = self.config
        return edm.drawn_levels(
            len(like), config.level_mean, config.level_std, config.level_low, config.level_high, like
        )

    def _waves(self, noise: Tensor) -> Tensor:
        """A number `...` as Fourier features `... e`."""
        turns = 2 * math.pi * noise[..., None] * self.frequencies
        return torch.cat([turns.cos(), turns.sin()], dim=-1)

    def _moves(self, actions: Tensor) -> Tensor:
        """What was done at each frame, side by side: `r n a` → `r e`."""
        return self.action(within(actions)).flatten(1)

    def _before(self, frames: Tensor) -> Tensor:
        return frames.flatten(1, 2) / self.config.sigma_data

    def _say(self, noisy: Tensor, before: Tensor, steering: Sequence[Tensor]) -> Tensor:
        patch = self.config.patch
        seen = F.pixel_unshuffle(torch.cat([before, noisy], dim=1), patch)
        x = self.unet(self.into(side_by_side(seen)), steering)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), patch)


def embedding(action: int, width: int) -> nn.Linear:
    """A vector for each choice, or for each dimension of a continuous action, drawn as torch's embeddings are."""
    with maybe_no_inputs():
        layer = Linear(action, width, bias=False)
    nn.init.normal_(layer.weight)
    return layer


def within(actions: Tensor) -> Tensor:
    """Beyond [-1, 1] actions are cut, as a world's are."""
    return actions / actions.detach().abs().clamp(min=1)


def signed(frames: Tensor, like: Tensor) -> Tensor:
    """8 bit → floats in [-1, 1]."""
    return frames.to(like.dtype) / BYTE * 2 - 1


def side_by_side(x: Tensor) -> Tensor:
    """Channels side by side in memory, where that is faster."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x
