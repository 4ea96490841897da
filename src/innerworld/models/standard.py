"""Numbers of any size brought to mean 0 and deviation 1, by what was seen of them in training."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from innerworld.nn.sensors import symexp, symlog
from innerworld.team import mean_of_all, rows_of_all
from innerworld.types import Obs, Spec

SMALLEST = 1e-6  # deviation, as a share of the mean if that is above 1: below it a number is constant but for rounding


class Standard(nn.Module):
    """`... n` → `... n`: less the mean, by the deviation, of all rows that `see` was shown. Before that as they are."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor  # sum of the squared distances from the mean
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("square", torch.zeros(n))

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Take in rows `... n` (Chan et al. 1979, for rounding does not spoil it), those of all who share a batch."""
        rows = x.flatten(0, -2).to(self.mean.dtype)
        mean = mean_of_all(rows.mean(dim=0))
        spread = mean_of_all((rows - mean).square().mean(dim=0))
        n = rows_of_all(len(rows))
        total = self.count + n
        change = mean - self.mean
        self.square += spread * n + change.square() * self.count * n / total
        self.mean += change * n / total
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self._deviation()

    def back(self, x: Tensor) -> Tensor:
        """What `forward` was given."""
        return x * self._deviation() + self.mean

    def _deviation(self) -> Tensor:
        """`n`; 1 where the number never changed."""
        deviation = (self.square / self.count.clamp(min=1)).sqrt()
        return torch.where(deviation > SMALLEST * self.mean.abs().clamp(min=1), deviation, 1.0)


class VectorScale(nn.Module):
    """Vectors as they are seen and told: by mean and deviation of what `see` was shown, in symlog, both or neither."""

    def __init__(self, spec: Spec, standardise: bool, symlog: bool) -> None:
        super().__init__()
        self.symlog = symlog
        self.names = spec.vectors() if standardise else []
        self.standards = nn.ModuleList(Standard(spec.obs[name][0]) for name in self.names)

    def see(self, obs: Obs) -> None:
        """Take in the vectors of `obs`, each `... n`."""
        for name in self.names:
            self._of(name).see(obs[name])

    def squeezed(self, name: str, vector: Tensor) -> Tensor:
        if name in self.names:
            vector = self._of(name)(vector)
        return symlog(vector) if self.symlog else vector

    def stretched(self, name: str, vector: Tensor) -> Tensor:
        """What `squeezed` was given."""
        vector = symexp(vector) if self.symlog else vector
        return self._of(name).back(vector) if name in self.names else vector

    def _of(self, name: str) -> Standard:
        return cast(Standard, self.standards[self.names.index(name)])
