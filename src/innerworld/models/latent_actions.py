"""Genie's latent action model (arXiv 2402.15391, §2.1): what was done between two frames, learned from video alone.

An encoder sees frames up to t+1 and says in one of few codes what happened; a decoder must draw frame t+1 from those up
to t and the code. What the past does not tell of the future can come through the code only, so codes become actions.

Ours: pixels come in along the main directions of patches, at deviation 1; a guess begins as the frame before; and, with
`motion`, the encoder begins with what moves in each patch. From pixels alone the first codes mean left here and right
there, which a decoder that sees where things are can use, and which takes long to unlearn.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.codec import Codec, CodecConfig
from innerworld.models.genie_config import LatentActionConfig
from innerworld.models.latent_world import lived
from innerworld.nn.backbone.attention import begins
from innerworld.nn.linear import Linear
from innerworld.nn.motion import patch_motion
from innerworld.nn.space_time import SpaceTime
from innerworld.nn.vocabulary import usage
from innerworld.perception.pca import PCA
from innerworld.perception.quantise import Codebook
from innerworld.team import mean_of_all
from innerworld.types import Clip, Obs, Spec

LEAST_CHANGE = 1e-6  # mean squared change of pixels in [0, 1] below which a video stands still


class LatentActions(nn.Module):
    """Clips → a code for each step, `b t`. Raises `UserError` for pictures that patches do not tile."""

    def __init__(self, config: LatentActionConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.codes = config, config.book.codes
        dim = config.backbone.dim
        seen = CodecConfig(kind="pca", patch=config.patch, width=config.pixels, image_size=config.image_size)
        self.eyes = Codec(seen, spec.only(*spec.images()))
        self.see, self.recall = Linear(self.eyes.width, dim), Linear(self.eyes.width, dim)
        self.encoder = SpaceTime(config.backbone, self.eyes.grids)
        self.decoder = SpaceTime(config.backbone, self.eyes.grids)
        self.squeeze = nn.Sequential(nn.LayerNorm(dim), Linear(dim, dim), nn.GELU(), Linear(dim, config.width))
        self.feel, self.drift = None, None
        if config.motion:
            self.feel, self.drift = Linear(2, dim), Linear(2, config.width)
            nn.init.zeros_(self.see.weight)
        self.book = Codebook(config.book, config.width)
        self.act = Linear(config.width, dim)
        self.draw = Linear(dim, self.eyes.width)
        nn.init.zeros_(self.draw.weight)
        self.hidden = nn.Parameter(torch.randn(dim) * 0.02) if config.keep < 1 else None
        self.taught: Tensor  # steps
        self.change: Tensor  # mean squared change of pixels from frame to frame
        self.register_buffer("taught", torch.zeros((), dtype=torch.long))
        self.register_buffer("change", torch.tensor(0.01))
        self._told: dict[str, Tensor] = {}

    @property
    def settled(self) -> bool:
        """Is it held still? Then there is nothing to learn."""
        return bool(self.config.steps) and int(self.taught) >= self.config.steps

    @torch.no_grad()
    def infer(self, obs: Obs, first: Tensor | None = None) -> Tensor:
        """What was done along clips `b t+1 ...`, as codes `b t`. That of step t is read from frames up to t+1.

        Which of them mean something is told by `counted`.
        """
        return self.book.indices(self._latents(obs, self.eyes.look(obs), first)[0])

    def counted(self, clip: Clip) -> Tensor:
        """Which steps `b t` count: within an episode, and not the first `skip` of one."""
        b, t = clip.action.shape[:2]
        now = torch.arange(t, device=clip.action.device)
        known = now - begins(None if clip.first is None else clip.first[:, :-1], b, t, now.device) >= self.config.skip
        return known if clip.first is None else known & ~clip.first[:, 1:]

    def loss(self, clip: Clip) -> dict[str, Tensor]:
        """Share of the pixels' change that is not guessed, and what keeps codes in use; nothing once held still."""
        if self.settled:
            self._told = {}
            return {}
        x = self.eyes.look(clip.obs)  # b t+1 s d
        latent, spread = self._latents(clip.obs, x, clip.first)
        counts = self.counted(clip)
        if not bool(counts.any()):
            raise UserError(
                f"no step of clips of {clip.length} actions counts: longer ones than actions.skip={self.config.skip}"
            )
        known, index, parts = self.book(latent[counts])
        code = latent.new_zeros(latent.shape).masked_scatter(counts[..., None], known)
        error = self._pixels(self._guess(x[:, :-1], code, clip.first) - x[:, 1:])  # b t
        self._told = {f"actions_{name}": value for name, value in usage(index, self.codes).items()}
        found = {"actions": (error * counts).sum() / counts.sum().clamp(min=1) / self.change}
        found |= {f"actions_{name}": part for name, part in parts.items()}
        if self.config.spread and self.config.spreads:
            found["actions_spread"] = self.config.spreads * F.relu(self.config.spread - spread)
        return found

    def told(self) -> dict[str, Tensor]:
        """Numbers of the last `loss` for the log: how many codes are used, and how evenly."""
        return self._told

    @torch.no_grad()
    def prepare(self, clip: Clip) -> None:
        """Find the main directions of patches, and how much changes from frame to frame."""
        self.eyes.prepare(clip)
        x = self.eyes.look(clip.obs)
        change = lived(self._pixels(x[:, 1:] - x[:, :-1]), clip)
        self.change.copy_(mean_of_all(change).clamp(min=LEAST_CHANGE))

    def after_step(self) -> None:
        """Called after every optimiser step: entries follow, and one more step was taught."""
        if self.settled:
            return
        self.book.after_step()
        self.taught += 1

    # ------------------------------------------------------------------ below

    def _latents(self, obs: Obs, x: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Frames, and as tokens `b t+1 s d` → `b t width`, what the encoder makes of frame t+1 in the light of those
        before it, of length 1, so that it cannot run away from the codebook; and its variance before that."""
        seen = self.see(x)
        if self.feel is None or self.drift is None:
            latent = self.squeeze(self.encoder(seen, None, first)[:, 1:].mean(dim=2)).float()
        else:
            motion = self._motion(obs)  # b t+1 s 2
            if first is not None:  # nothing moved from one episode into the next
                motion = motion.masked_fill(first[..., None, None], 0)
            seen = self.encoder(seen + self.feel(motion), None, first)[:, 1:].mean(dim=2)
            latent = (self.squeeze(seen) + self.drift(motion[:, 1:].mean(dim=2))).float()
        return F.normalize(latent, dim=-1), latent.flatten(0, 1).var(dim=0, unbiased=False).mean()

    def _motion(self, obs: Obs) -> Tensor:
        """What moves in each patch of clips `b t+1 ...`: `b t+1 s 2`."""
        found = []
        for name, tokenizer in zip(self.eyes.images, self.eyes.tokenizers, strict=True):
            assert isinstance(tokenizer, PCA)
            frames = tokenizer.pictures(obs[name]).unflatten(0, obs[name].shape[:2])
            found.append(patch_motion(frames, tokenizer.patch))
        return torch.cat(found, dim=2)

    def _guess(self, x: Tensor, code: Tensor, first: Tensor | None) -> Tensor:
        """Frames `b t s d` and what was done at each → those that follow."""
        seen = self.recall(x)
        if self.hidden is not None:
            kept = torch.rand(x.shape[:3], device=x.device) < self.config.keep
            kept[:, 0] = True
            if first is not None:
                kept |= first[:, :-1, None]
            seen = torch.where(kept[..., None], seen, self.hidden.to(seen.dtype))
        before = None if first is None else first[:, :-1]
        guess = self.draw(self.decoder(seen + self.act(code.to(seen.dtype))[:, :, None], None, before))
        return guess if self.hidden is not None else x + guess  # what is hidden must not come in by the back door

    def _pixels(self, apart: Tensor) -> Tensor:
        """Differences of frames `b t s d` → the mean square that they are in pixels, `b t`."""
        split = apart.split([y * x for y, x in self.eyes.grids], dim=2)
        found = []
        for some, tokenizer in zip(split, self.eyes.tokenizers, strict=True):
            assert isinstance(tokenizer, PCA)
            numbers = tokenizer.channels * tokenizer.patch**2
            found.append((some * tokenizer.scale).square().sum(dim=-1).mean(dim=-1) / numbers)
        return torch.stack(found).mean(dim=0)
