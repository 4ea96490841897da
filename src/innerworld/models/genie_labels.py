"""What Genie's latent actions mean: a few transitions whose real action is known tell which code stands for which.

Genie (arXiv 2402.15391, §3.3) maps latent to real actions by 200 labelled samples. Choices are counted; of continuous
actions each code has the mean of those seen with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.genie_config import LabelsConfig
from innerworld.types import Clip, Obs, Spec

Infer = Callable[[Obs], Tensor]
"""Clips `n t+1 ...` → codes `n t`."""


class Labels(nn.Module):
    """The labelled transitions, as pieces of the first clips; kept, for what codes mean still changes."""

    def __init__(self, config: LabelsConfig, spec: Spec, skip: int) -> None:
        """Raise `UserError` for pieces of which nothing is left without the first `skip` steps."""
        super().__init__()
        if config.length <= skip:
            raise UserError(f"labels.length={config.length}: the first {skip} steps do not count, choose more")
        self.config, self.images = config, spec.images()
        pieces = math.ceil(config.count / (config.length - skip))
        for i, name in enumerate(self.images):
            frames = torch.zeros(pieces, config.length + 1, *spec.obs[name], dtype=torch.uint8)
            self.register_buffer(f"frames_{i}", frames)
        self.actions: Tensor  # n t a
        self.known: Tensor  # n t   which of them are there
        self.register_buffer("actions", torch.zeros(pieces, config.length, spec.action))
        self.register_buffer("known", torch.zeros(pieces, config.length, dtype=torch.bool))

    @torch.no_grad()
    def take(self, clip: Clip, counted: Callable[[Clip], Tensor]) -> None:
        """Keep as many transitions as were asked for, of as many clips as there are, or all of a smaller batch.

        `counted` says which steps `b t` of a clip have a code that means something.
        """
        t = min(self.config.length, clip.length)
        starts = range(0, clip.length - t + 1, t)
        parts = [clip.cut(start, t) for start in starts]
        n = len(self.known)
        self.known.zero_()
        for i, name in enumerate(self.images):
            frames = torch.cat([part.obs[name] for part in parts])[:n]
            self._frames(i)[: len(frames), : t + 1] = frames
        actions = torch.cat([part.action for part in parts])[:n]
        self.actions[: len(actions), :t] = actions
        self.known[: len(actions), :t] = torch.cat([counted(part) for part in parts])[:n]
        surplus = self.known.flatten().cumsum(0).unflatten(0, self.known.shape) > self.config.count
        self.known &= ~surplus

    @torch.no_grad()
    def pairs(self, infer: Infer) -> tuple[Tensor, Tensor]:
        """Codes `n` that are inferred now, and the real actions `n a` that were done."""
        some = self.known.any(dim=1)
        if not bool(some.any()):
            return self.known.new_zeros(0, dtype=torch.long), self.actions[:0, 0]
        codes = infer({name: self._frames(i)[some] for i, name in enumerate(self.images)})
        return codes[self.known[some]], self.actions[self.known]

    def _frames(self, i: int) -> Tensor:
        return self.get_buffer(f"frames_{i}")


class Meaning:
    """Which code a real action is played as, and which real action a code stands for, by pairs of both (none: as they
    come, the first action the first code)."""

    def __init__(self, codes: Tensor, actions: Tensor, n: int, spec: Spec) -> None:
        self.n, self.spec, self.count = n, spec, len(codes)
        if not self.count:
            codes, actions = _as_they_come(n, spec, actions)
        self.table = torch.zeros(n, spec.action, device=actions.device).index_add_(0, codes, actions)
        self.seen = torch.bincount(codes, minlength=n)
        if not spec.discrete:  # means, else how often a code was seen with a choice
            self.table = self.table / self.seen.clamp(min=1)[:, None]

    def code(self, action: Tensor) -> Tensor:
        """Real actions `b a` → codes `b`. Raises `UserError` for a choice that no labelled transition shows.

        Of a choice that code which is most its own: n² / (n of the code · n of the choice), n of both together. A
        continuous action is the code whose mean is nearest. Where nobody acts, it is unknown which code.
        """
        if not self.spec.action:
            return torch.full(action.shape[:-1], self.n, device=action.device)
        if not self.spec.discrete:
            apart = (action[..., None, :] - self.table).square().sum(dim=-1)
            return apart.masked_fill(self.seen == 0, float("inf")).argmin(dim=-1)
        choice, each = action.argmax(dim=-1), self.table.sum(dim=0)
        missing = (each == 0)[choice]
        if bool(missing.any()):
            raise UserError(
                f"action {int(choice[missing][0])} is in none of the {self.count} labelled transitions, so no latent "
                "action is known for it: train with more of them (labels.count, a larger batch), or play by codes"
            )
        own = self.table.square() / (self.seen[:, None] * each).clamp(min=1)
        return own.argmax(dim=0)[choice]

    def real(self, codes: Tensor) -> Tensor:
        """Codes `...` → the real actions that they stand for, `... a`: the most frequent, or the mean.

        A code that no labelled transition shows stands for what is most frequent of all, or for the mean of all.
        """
        seen = (self.seen > 0)[:, None]
        if not self.spec.discrete:
            return torch.where(seen, self.table, self.table[self.seen > 0].mean(dim=0))[codes]
        table = torch.where(seen, self.table, self.table.sum(dim=0))
        return F.one_hot(table.argmax(dim=1), self.spec.action).float()[codes]


def _as_they_come(n: int, spec: Spec, like: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and actions of a model that has seen none: choices in their order, or directions that differ."""
    if spec.discrete:
        order = torch.arange(max(n, spec.action), device=like.device)
        return order % n, F.one_hot(order % spec.action, spec.action).float()
    angle = torch.arange(1, spec.action + 1, device=like.device) * (torch.arange(n, device=like.device)[:, None] + 0.5)
    return torch.arange(n, device=like.device), torch.cos(angle * math.pi / n)
