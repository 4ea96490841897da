"""Terms against what the model does not know: futures unlike all experience, futures about which models disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from innerworld.agent.cost.readout import Reading
from innerworld.agent.cost.regions import read
from innerworld.agent.cost.terms import Term, energies
from innerworld.agent.modules import Imagined
from innerworld.errors import UserError
from innerworld.world import flatten


@dataclass(frozen=True, eq=False)
class Surprise(Term):
    """How unlike the beliefs of experience an imagined one is: the root mean square of its whitened features.

    What is familiar is near 1 on average; a plan that leads where the model never was learns nothing from what it says
    there. Unit: standard deviations (Mahalanobis distance over the root of the number of directions).
    """

    mean: Tensor  # d
    whiten: Tensor  # d r   features less the mean → r independent directions of unit variance
    name: str = field(default="surprise", kw_only=True)
    unit: str = field(default="standard deviations", kw_only=True)

    @classmethod
    def of(cls, features: Tensor, weight: float = 1.0, floor: float = 1e-3) -> Surprise:
        """From features of experience, `n d`. Directions whose spread is below `floor` of the widest count as if they
        had that spread, or rounding would be a surprise. Raises `UserError` for fewer than two rows."""
        if features.ndim != 2 or len(features) < 2 or not bool(features.isfinite().all()):
            raise UserError(f"surprise needs finite features (n, d) of n ≥ 2 beliefs, got {tuple(features.shape)}")
        x = features.detach().cpu().double()
        mean = x.mean(0)
        _, spread, directions = torch.linalg.svd(x - mean, full_matrices=False)
        std = spread / len(x) ** 0.5
        if not bool(std[0] > 0):
            raise UserError("surprise: all features are alike, nothing can be told from them")
        whiten = directions.T / std.clamp(min=floor * float(std[0]))
        return cls(mean.float(), whiten.float(), weight=weight)

    def __call__(self, future: Imagined) -> Tensor:
        features = future.model.features(flatten(future.states, 3))
        if features.shape[1] != len(self.mean):
            raise UserError(
                f"surprise knows {len(self.mean)} features, the model has {features.shape[1]}: make it from this model"
            )
        off = (features - self.mean.to(features)) @ self.whiten.to(features)
        far = off.square().mean(dim=-1).clamp_min(torch.finfo(off.dtype).tiny).sqrt()
        return far.unflatten(0, future.actions.shape[:3])


@dataclass(frozen=True)
class Disagreement(Term):
    """How differently several futures end up, see `disagreement`; the same in all of them, and 0 for a single one.

    Unit: by energy a share of the mean, by sensors or by a reading theirs.
    """

    by: Literal["energy", "sensors"] | Reading = "energy"
    name: str = field(default="disagreement", kw_only=True)
    unit: str = field(default="spread", kw_only=True)

    @property
    def pursues(self) -> bool:
        return self.by == "energy"

    def __call__(self, future: Imagined) -> Tensor:
        return self.among([future])

    def among(self, futures: Sequence[Imagined]) -> Tensor:
        """The cost of each step, `b n h`."""
        return spread(futures, self.by)


def disagreement(futures: Sequence[Imagined], by: Literal["energy", "sensors"] | Reading = "energy") -> Tensor:
    """How much several futures of the same candidates differ, mean over their steps: `b n`; 0 for a single one.

    By "energy": the standard deviation of their energies to the goal over the mean of those. By "sensors": of what
    they decode, root mean square over all numbers. By a reading: of its quantities, likewise.
    """
    return spread(futures, by).mean(dim=2)


def spread(futures: Sequence[Imagined], by: Literal["energy", "sensors"] | Reading) -> Tensor:
    """The disagreement after each step, `b n h`. Raises `UserError` for what a future cannot be asked."""
    if len(futures) == 1:
        return futures[0].actions.new_zeros(futures[0].actions.shape[:3])
    if by == "energy":
        found = torch.stack([energies(future) for future in futures])  # f b n h
        mean = found.mean(dim=0)
        return _deviation(found) / mean.clamp_min(torch.finfo(mean.dtype).tiny)
    if by == "sensors":
        told = torch.stack([_decoded(future) for future in futures])  # f b n h k
    else:
        told = torch.stack([read(by, future) for future in futures])
    return _root(told.var(dim=0, correction=0).mean(dim=-1))


def _decoded(future: Imagined) -> Tensor:
    """All numbers of the sensors that the model draws, `b n h k`."""
    model = future.model
    told = model.decode(model.bare(flatten(future.states, 3)))
    sensors = [told[name].flatten(1) for name in model.spec.obs if name in told]
    if not sensors:
        raise UserError(f"{model.card.name} draws no sensor: measure disagreement by energy, or by a readout")
    return torch.cat(sensors, dim=1).unflatten(0, future.actions.shape[:3])


def _deviation(found: Tensor) -> Tensor:
    """The standard deviation over the first axis."""
    return _root(found.var(dim=0, correction=0))


def _root(variance: Tensor) -> Tensor:
    return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()  # the root of zero has no gradient
