"""Genie's dynamics (arXiv 2402.15391, §2.2): words of a frame that are masked are guessed, all at once (MaskGIT).

A space-time transformer sees the frames before, the latent action, and those words of the frame that are known already.
A frame is filled in by a few looks: after each the surest guesses stay (arXiv 2202.04200).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.models.genie_config import MaskGITConfig
from innerworld.nn.frames import Grid
from innerworld.nn.linear import Linear
from innerworld.nn.space_time import SpaceTime

Look = Callable[[Tensor, Tensor | None], Tensor]
"""Tokens of a frame `r s d` and what steers it, `r e` → what comes of it, `r s d` (`SpaceTime.peek`)."""

Lookup = Callable[[Tensor], Tensor]
"""Words `r s k` → tokens `r s width`."""


class MaskGIT(nn.Module):
    """Frames of tokens `r f s width`, told as k words of `classes` each, `r f s k`; a token is read as its numbers.

    Latent actions are numbers below `codes`; `codes` itself stands for one that is not known.
    """

    def __init__(
        self, config: MaskGITConfig, grids: Sequence[Grid], width: int, k: int, classes: int, codes: int
    ) -> None:
        super().__init__()
        self.config, self.k, self.classes, self.unknown = config, k, classes, codes
        dim = config.backbone.dim
        self.added = config.backbone.steering == "none"
        self.body = SpaceTime(config.backbone, grids, 0 if self.added else dim)
        self.read = Linear(width, dim)
        self.masked = nn.Parameter(torch.randn(dim) * 0.02)
        self.acts = nn.Embedding(codes + 1, dim)
        self.guess = Linear(dim, k * classes)

    def enter(self, tokens: Tensor, act: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Tokens `... s d`, the action before their frame `...`, which are masked `... s` → what the body is given."""
        x = self.read(tokens)
        if masked is not None:
            x = torch.where(masked[..., None], self.masked.to(x.dtype), x)
        acts = self.acts(act)
        return (x + acts[..., None, :], None) if self.added else (x, acts)

    def logits(self, out: Tensor) -> Tensor:
        """What came of tokens `... d` → scores of their words `... k classes`."""
        return self.guess(out).unflatten(-1, (self.k, self.classes))

    def loss(self, tokens: Tensor, words: Tensor, act: Tensor, first: Tensor | None = None) -> Tensor:
        """Cross-entropy of masked words, in nats each. The first frame of an episode is never masked."""
        masked = self._masks(words, first)
        x, steer = self.enter(tokens, act, masked)
        told = self.logits(self.body(x, steer, first)[masked])  # n k classes
        if not len(told):
            return told.sum()
        return F.cross_entropy(told.flatten(0, 1).float(), words[masked].flatten())

    def fill(self, look: Look, lookup: Lookup, act: Tensor, rng: Generator | None) -> Tensor:
        """The words of the next frame, `r s k`, after the action `r`; without a generator the most likely each time.

        After look i of n, s cos(π i / 2n) tokens are still masked, those whose words are least sure.
        """
        r, s, steps = len(act), self.body.s, self.config.steps
        words = torch.zeros(r, s, self.k, dtype=torch.long, device=act.device)
        masked = torch.ones(r, s, dtype=torch.bool, device=act.device)
        for i in range(1, steps + 1):
            told = self.logits(look(*self.enter(lookup(words), act, masked))).float() / self.config.temperature
            found, sure = _chosen(told.log_softmax(dim=-1), rng)
            words = torch.where(masked[..., None], found, words)
            left = math.floor(s * math.cos(math.pi / 2 * i / steps))
            if not left:
                break
            least = sure.masked_fill(~masked, float("inf")).argsort(dim=-1)[:, :left]
            masked = torch.zeros_like(masked).scatter(1, least, True)
        return words

    def _masks(self, words: Tensor, first: Tensor | None) -> Tensor:
        """Which tokens of `r f s k` are masked: `r f s`."""
        r, f, s = words.shape[:3]
        config, device = self.config, words.device
        each = f if config.masks == "frame" else 1
        share = config.least + (1 - config.least) * torch.rand(r, each, 1, device=device)
        if config.masks == "frame":
            share = share * (torch.rand(r, f, 1, device=device) < 0.5)
        masked = torch.rand(r, f, s, device=device) < share
        masked[:, 0] = False
        return masked if first is None else masked & ~first[..., None]


def _chosen(scores: Tensor, rng: Generator | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities `r s k classes` → words `r s k`, the most likely or drawn, and those of each token, `r s`."""
    if rng is None:
        found = scores.argmax(dim=-1)
    else:  # the largest of scores plus Gumbel noise is a draw
        chance = torch.empty_like(scores).uniform_(generator=rng).clamp(min=1e-20, max=1 - 1e-7)
        found = (scores - (-chance.log()).log()).argmax(dim=-1)
    return found, scores.gather(-1, found[..., None]).squeeze(-1).sum(dim=-1)
