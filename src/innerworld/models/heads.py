"""Reward and the chance to go on, read off features: what a family must tell for somebody to act in its imagination."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.latent_world import lived
from innerworld.nn.distributions import symexp_bins, twohot_loss, twohot_mean
from innerworld.nn.mlp import MLP
from innerworld.types import Clip


class Heads(nn.Module):
    """A two-hot reward and a chance, each an MLP of one layer over features `... width`; a weight of 0 leaves one out.

    Both follow DreamerV3 (arXiv 2301.04104): bins spaced by symexp, the reward's last layer starts at zero.
    """

    def __init__(self, width: int, units: int, bins: int, reward: float, continues: float) -> None:
        super().__init__()
        self.weights = {"reward": reward, "continue": continues}
        self.reward = MLP(width, units, 1, bins, outscale=0.0) if reward else None
        self.continues = MLP(width, units, 1, 1) if continues else None
        self.bins: Tensor
        self.register_buffer("bins", symexp_bins(bins), persistent=False)

    @property
    def some(self) -> bool:
        """Is there any?"""
        return self.reward is not None or self.continues is not None

    def told(self, features: Tensor) -> dict[str, Tensor]:
        """What there is, as `WorldModel.decode` tells it: "reward" and "continue", `b` each."""
        told = {}
        if self.reward is not None:
            told["reward"] = twohot_mean(self.reward(features), self.bins)
        if self.continues is not None:
            told["continue"] = torch.sigmoid(self.continues(features)).squeeze(-1)
        return told

    def prospects(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`WorldModel.prospects`: where no end is told, going on is certain. Raises `UserError` without a reward."""
        told = self.told(features)
        if "reward" not in told:
            raise UserError("reward=0 left the reward's head out: what to act for is unknown to this model")
        return told["reward"], told.get("continue", torch.ones_like(told["reward"]))

    def losses(self, features: Tensor, clip: Clip) -> dict[str, Tensor]:
        """Of features of the moments after each action, `b t d`, or of several tellings of them, `k b t d`."""
        parts, lead = {}, features.shape[:-1]
        if self.reward is not None:
            error = twohot_loss(self.reward(features), clip.reward.float().expand(lead), self.bins)
            parts["reward"] = lived(_of_each(error), clip)
        if self.continues is not None:
            logit, going = self.continues(features).squeeze(-1), (1 - clip.terminated.float()).expand(lead)
            error = F.binary_cross_entropy_with_logits(logit, going, reduction="none")
            parts["continue"] = lived(_of_each(error), clip)
        return parts

    def weighed(self, parts: dict[str, Tensor]) -> Tensor | float:
        """The sum of `losses` by their weights."""
        return sum(self.weights[name] * part for name, part in parts.items())


def _of_each(error: Tensor) -> Tensor:
    """`b t`, the mean over tellings where there are several."""
    return error if error.ndim == 2 else error.mean(dim=0)
