"""Numbers made entries of a vocabulary: a learned codebook (VQ, arXiv 1711.00937), or a fixed lattice (FSQ)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.team import mean_of_all, same_for_all

ROWS = 8192
"""Of which a codebook begins; more would take longer and change little."""
ROUNDS = 10
"""Of k-means, with which it begins."""


class BookConfig(Config):
    codes: int = Field(default=512, description="entries of the codebook", ge=2)
    follow: Literal["average", "loss"] = Field(
        default="average", description="how entries follow what they stand for: a moving average, or by the gradient"
    )
    decay: float = Field(default=0.99, description="share of the averages that a step keeps", ge=0, lt=1)
    commit: float = Field(default=0.25, description="weight of the pull of tokens towards their entry", ge=0)
    dead: float = Field(
        default=0.1, description="an entry used less often than this in a step, on average, begins anew", ge=0
    )


class Codebook(nn.Module):
    """Rows `... d` ↔ the nearest of `codes` learned entries.

    Entries that are hardly used are put where rows are far from all entries.
    """

    def __init__(self, config: BookConfig, width: int) -> None:
        super().__init__()
        self.config, self.codes, self.width = config, config.codes, width
        entries = torch.randn(config.codes, width)
        self.entries: Tensor  # k d
        if config.follow == "loss":
            self.entries = nn.Parameter(entries)
        else:
            self.register_buffer("entries", entries)
        self.used: Tensor  # k     rows of a step that took it, on average
        self.sums: Tensor  # k d   the sum of those rows, likewise
        self.spare: Tensor  # k d   where entries that begin anew are put
        self.register_buffer("used", torch.ones(config.codes))
        self.register_buffer("sums", entries.clone())
        self.register_buffer("spare", entries.clone())

    def indices(self, rows: Tensor) -> Tensor:
        """The nearest entry's number: `... d` → `...`."""
        return self._nearest(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        return self.entries[indices]

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Rows `... d` → their entries, through which gradients pass straight on, the indices, and parts of the loss.

        In training the averages of the entries take these rows in, those of all who share the batch.
        """
        rows = rows.float()  # distances are not for bfloat16
        indices = self.indices(rows)
        entries = self.lookup(indices)
        parts = {"commit": self.config.commit * F.mse_loss(rows, entries.detach())}
        if self.config.follow == "loss":
            parts["codebook"] = F.mse_loss(entries, rows.detach())
        if self.training:
            self._take_in(rows.detach().flatten(0, -2), indices.flatten())
        return rows + (entries - rows).detach(), indices, parts

    @torch.no_grad()
    def begin(self, rows: Tensor) -> None:
        """Put the entries amid `rows` `n d`: k-means, begun on rows that lie far from each other (k-means++)."""
        rows = rows[torch.randperm(len(rows), device=rows.device)[:ROWS]]
        apart = torch.full_like(rows[:, 0], 1e9)  # squared distance of each row to the nearest that was taken
        found = []
        for _ in range(self.codes):
            found.append(rows[torch.multinomial(apart + 1e-9, 1)])
            apart = apart.minimum((rows - found[-1]).square().sum(dim=-1))
        self.entries.copy_(torch.cat(found))
        for _ in range(ROUNDS):
            used, sums = self._shares(rows, self._nearest(rows))
            self.entries.copy_(torch.where(used[:, None] > 0, sums / used.clamp(min=1)[:, None], self.entries))
        self.entries.copy_(same_for_all(self.entries.detach()))
        for own in (self.sums, self.spare):
            own.copy_(self.entries)
        self.used.fill_(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the entries to their averages, and those that are dead to rows that are badly told."""
        if self.config.follow == "average":
            self.entries.copy_(self.sums / self.used.clamp(min=1e-6)[:, None])
        dead = self.used < self.config.dead
        for own in (self.entries, self.sums):
            own.copy_(torch.where(dead[:, None], self.spare, own))
        self.used.masked_fill_(dead, 1)

    @torch.no_grad()
    def _take_in(self, rows: Tensor, indices: Tensor) -> None:
        used, sums = self._shares(rows, indices)
        self.used.lerp_(mean_of_all(used), 1 - self.config.decay)
        self.sums.lerp_(mean_of_all(sums), 1 - self.config.decay)
        apart = (rows - self.entries[indices]).square().sum(dim=-1)
        self.spare.copy_(same_for_all(rows[torch.multinomial(apart + 1e-9, self.codes, replacement=True)]))

    def _shares(self, rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """How many rows took each entry, and their sum."""
        used = torch.zeros_like(self.used).index_add_(0, indices, rows.new_ones(len(rows)))
        return used, torch.zeros_like(self.sums).index_add_(0, indices, rows)

    def _nearest(self, rows: Tensor) -> Tensor:
        """Some at a time: there may be many, and each has a distance to every entry."""
        found = []
        with torch.autocast(rows.device.type, enabled=False):
            for some in rows.float().split(ROWS):
                apart = self.entries.square().sum(dim=-1) - 2 * some @ self.entries.mT  # but for the row's own square
                found.append(apart.argmin(dim=-1))
        return torch.cat(found)


class Lattice(nn.Module):
    """FSQ (arXiv 2309.15505): each number squeezed into a range and rounded to one of `levels`. No codebook."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise UserError(f"levels={list(levels)}: each number of a token needs 2 levels or more, such as 8,5,5,5")
        self.codes, self.width = math.prod(levels), len(levels)
        count = torch.tensor(levels)
        self.count: Tensor
        self.place: Tensor  # what a level of each number adds to the index
        self.register_buffer("count", count, persistent=False)
        self.register_buffer("place", torch.cat([count.new_ones(1), count[:-1].cumprod(dim=0)]), persistent=False)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Rows `... d` → numbers in [-1, 1], rounded, through which gradients pass straight on, and their indices."""
        bounded = self._bound(rows.float())
        rounded = bounded + (bounded.round() - bounded).detach()
        found = rounded / (self.count // 2)
        return found, self.indices(found), {}

    def indices(self, rows: Tensor) -> Tensor:
        """The index of numbers in [-1, 1], rounded to the nearest level: `... d` → `...`."""
        half = self.count // 2
        level = (rows * half).round() + half
        return (level.clamp(min=0).minimum(self.count - 1).long() * self.place).sum(dim=-1)

    def lookup(self, indices: Tensor) -> Tensor:
        half = self.count // 2
        level = indices[..., None] // self.place % self.count
        return (level - half) / half

    def _bound(self, rows: Tensor) -> Tensor:
        """Squeezed so that rounding gives as many whole numbers as there are levels (the paper's listing).

        The listing shifts even counts so that 0 stays 0. Of two levels 0 is the upper end of the range, which no shift
        reaches: one level would lie below -3.8. They part at 0 instead.
        """
        half = (self.count - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.count % 2 == 0, 0.5, 0.0)
        shift = torch.where(self.count > 2, (offset / half).atanh(), 0.0)
        return torch.tanh(rows + shift) * half - offset
