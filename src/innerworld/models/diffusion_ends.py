"""What tells reward and end of imagined frames: a convolution net of two frames, and an LSTM (arXiv 2405.12399)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.models.diffusion_config import EndsConfig
from innerworld.models.diffusion_denoiser import embedding, side_by_side, within
from innerworld.nn.distributions import symexp_bins, twohot_loss, twohot_mean
from innerworld.nn.linear import Linear
from innerworld.nn.lstm import cell
from innerworld.nn.unet import Descent

SIGNS = (-1.0, 0.0, 1.0)
GOES_ON = 0  # of the two classes: goes on, has ended


class Ends(nn.Module):
    """Two frames in a row, what was done between them, and a memory `h` and `c` `r d` → reward and end.

    `rewards` and `ends` say what it is to tell; one of them at least.
    """

    def __init__(
        self, config: EndsConfig, channels: int, size: tuple[int, int], action: int, rewards: bool, ends: bool
    ) -> None:
        super().__init__()
        self.sign, self.hidden = config.head == "sign", config.hidden
        self.split = (len(SIGNS) if self.sign else config.bins) * rewards, 2 * ends
        self.action = embedding(action, config.steer)
        self.into = nn.Conv2d(2 * channels, config.channels[0], 3, padding=1)
        self.body = Descent(config.steer, config.channels, config.depths)
        self.width = self.body.width(size)
        self.memory = cell(self.width, config.hidden)
        last = Linear(config.hidden, sum(self.split), bias=False)
        if rewards and not self.sign:  # two-hot bins reach far: it would begin with huge rewards
            nn.init.zeros_(last.weight[: config.bins].detach())
        self.head = nn.Sequential(Linear(config.hidden, config.hidden), nn.SiLU(), last)
        self.bins: Tensor
        self.register_buffer("bins", torch.tensor(SIGNS) if self.sign else symexp_bins(config.bins), persistent=False)

    def look(self, before: Tensor, after: Tensor, action: Tensor) -> Tensor:
        """Frames in [-1, 1], `r c y x` each, and `r a` between them → `r d`."""
        x = self.into(side_by_side(torch.cat([before, after], dim=1)))
        return self.body(x, self.body.steer(self.action(within(action)))).contiguous().flatten(1)

    def remember(self, seen: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next memory."""
        return self.memory(seen, (h, c))

    def told(self, h: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The reward that is expected, and the chance to go on, `...`, of memories `... d`."""
        rewarding, ending = self.head(h).split(self.split, dim=-1)
        return self._expected(rewarding) if self.split[0] else None, (
            ending.softmax(-1)[..., GOES_ON] if self.split[1] else None
        )

    def losses(self, h: Tensor, reward: Tensor, terminated: Tensor) -> dict[str, Tensor]:
        """Cross-entropies `...` of memories `... d`, by name."""
        rewarding, ending = self.head(h).split(self.split, dim=-1)
        found = {}
        if self.split[0]:
            found["reward"] = (
                _cross_entropy(rewarding, reward.sign().long() + 1)
                if self.sign
                else twohot_loss(rewarding, reward.float(), self.bins)
            )
        if self.split[1]:
            found["continue"] = _cross_entropy(ending, terminated.long())
        return found

    def _expected(self, scores: Tensor) -> Tensor:
        return (scores.softmax(-1) * self.bins).sum(-1) if self.sign else twohot_mean(scores, self.bins)


def _cross_entropy(logits: Tensor, which: Tensor) -> Tensor:
    """Of classes `... k` with indices `...`."""
    return F.cross_entropy(logits.flatten(0, -2), which.flatten(), reduction="none").view(which.shape)
