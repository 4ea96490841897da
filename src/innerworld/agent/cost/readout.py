"""What a belief says about the world in known quantities (a place, an angle), so that a cost can be put on those."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor

from innerworld.disk import write_atomic
from innerworld.errors import UserError, nearest
from innerworld.nn.ridge import fit_linear
from innerworld.types import State
from innerworld.world import WorldModel

SURE = 0.99
"""The share of errors that `Readout.reach` covers."""


class Reading(Protocol):
    """Named quantities of a model's beliefs."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the k quantities."""
        ...

    def __call__(self, model: WorldModel, states: State) -> Tensor:
        """Beliefs, each `b ...` → `b k`."""
        ...


@dataclass(frozen=True, eq=False)
class Readout:
    """A linear map from `model.features` to named quantities, and how far off it is."""

    weights: Tensor  # d k
    intercept: Tensor  # k
    names: tuple[str, ...]  # k
    error: Tensor  # k    root mean squared error on rows that it was not fitted to, in the quantities' own units
    reach: Tensor  # k    99 % of its errors there are no larger: a margin for a guardrail

    def __call__(self, model: WorldModel, states: State) -> Tensor:
        return self.of(model.features(states))

    def of(self, features: Tensor) -> Tensor:
        """Features `b d` → `b k`. Raises `UserError` for features of another size."""
        if features.shape[-1] != len(self.weights):
            raise UserError(
                f"the readout reads {len(self.weights)} features, the model has {features.shape[-1]}: fit one to it"
            )
        return features @ self.weights.to(features) + self.intercept.to(features)

    @classmethod
    def fit(
        cls,
        features: Tensor,
        values: Tensor,
        names: Sequence[str],
        penalty: float = 1e-3,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> Readout:
        """Fit `values` `n k` to `features` `n d` by ridge regression; a share of the rows is held out for its errors.

        To choose a margin, give features of imagined beliefs: what a plan is judged by is off by the model's error,
        too. Raises `UserError` for shapes that do not fit, too few rows and values that are not finite.
        """
        _check(features, values, names, held_out)
        x, y = features.detach().cpu().double(), values.detach().cpu().double()
        order = torch.randperm(len(x), generator=Generator().manual_seed(seed))
        aside = max(1, round(held_out * len(x)))
        test, train = order[:aside], order[aside:]
        weights, intercept = fit_linear(x[train], y[train], penalty)
        off = (x[test] @ weights + intercept - y[test]).abs()  # n k
        error, reach = off.square().mean(0).sqrt(), off.quantile(SURE, dim=0)
        return cls(weights.float(), intercept.float(), tuple(names), error.float(), reach.float())

    def save(self, file: Path) -> None:
        """Write it as one safetensors file. Raises `UserError` when the disk refuses."""
        tensors = {name: value.contiguous() for name, value in self._tensors().items()}
        write_atomic(file, [save(tensors, {"names": json.dumps(self.names)})])

    @classmethod
    def load(cls, file: Path) -> Readout:
        """Raises `UserError` for a file that is not there or is no readout."""
        if not file.is_file():
            raise UserError(f"no readout at {file}: write one with Readout.save")
        try:
            with safe_open(file, framework="pt") as found:
                names = json.loads((found.metadata() or {})["names"])
                weights, intercept, error, reach = (
                    found.get_tensor(name) for name in ("weights", "intercept", "error", "reach")
                )
        except (SafetensorError, KeyError, json.JSONDecodeError) as broken:
            raise UserError(f"{file} is no readout ({broken}): write one with Readout.save") from broken
        return cls(weights, intercept, tuple(names), error, reach)

    def _tensors(self) -> dict[str, Tensor]:
        return {"weights": self.weights, "intercept": self.intercept, "error": self.error, "reach": self.reach}


@dataclass(frozen=True)
class Decoded:
    """Quantities that a model which draws says itself: numbers of one of its sensors."""

    sensor: str
    names: tuple[str, ...]  # of its first numbers

    def __call__(self, model: WorldModel, states: State) -> Tensor:
        told = model.decode(states)
        if self.sensor not in told or told[self.sensor].ndim != 2 or told[self.sensor].shape[1] < len(self.names):
            raise UserError(
                f"{model.card.name} does not tell {len(self.names)} numbers of {self.sensor!r}: fit a Readout instead"
            )
        return told[self.sensor][:, : len(self.names)]


@dataclass(frozen=True)
class MembersReadout:
    """One reading for each of several models, as an ensemble's members need it: features of two are never alike."""

    models: tuple[WorldModel, ...]
    readings: tuple[Reading, ...]

    def __post_init__(self) -> None:
        if len(self.models) != len(self.readings) or not self.models:
            raise UserError(f"{len(self.models)} models and {len(self.readings)} readouts: give one for each")
        if len({reading.names for reading in self.readings}) > 1:
            raise UserError("the members' readouts name different quantities: fit them to the same")

    @property
    def names(self) -> tuple[str, ...]:
        return self.readings[0].names

    def __call__(self, model: WorldModel, states: State) -> Tensor:
        for known, reading in zip(self.models, self.readings, strict=True):
            if known is model:
                return reading(model, states)
        raise UserError(f"no readout for this {model.card.name}: it is none of the {len(self.models)} models given")


def columns(reading: Reading, wanted: Sequence[str]) -> list[int]:
    """Where the `wanted` quantities are among those of a reading. Raises `UserError` for one that it lacks."""
    for name in wanted:
        if name not in reading.names:
            known = list(reading.names)
            raise UserError(f"the readout has no {name!r}.{nearest(name, known)} It reads: {', '.join(known)}")
    return [reading.names.index(name) for name in wanted]


def _check(features: Tensor, values: Tensor, names: Sequence[str], held_out: float) -> None:
    if features.ndim != 2 or values.ndim != 2 or len(features) != len(values):
        shapes = f"{tuple(features.shape)} and {tuple(values.shape)}"
        raise UserError(f"readout: features and values have shapes {shapes}, expected (n, d) and (n, k)")
    if values.shape[1] != len(names) or len(set(names)) != len(names):
        raise UserError(f"readout: {values.shape[1]} quantities, but the names are {', '.join(names)}: one for each")
    if not 0 < held_out < 1:
        raise UserError(f"readout: held_out is {held_out}: a share between 0 and 1")
    if len(features) < 5:
        raise UserError(f"readout: {len(features)} rows are too few: give at least 5, better thousands")
    if not (features.isfinite().all() and values.isfinite().all()):
        raise UserError("readout: features or values hold numbers that are not finite")
