"""Intervals by the bootstrap: whole clips are drawn again and again, so that what belongs together stays together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RESAMPLES = 1000  # draws over clips


def with_interval(name: str, values: Tensor, seed: int = 0) -> dict[str, float]:
    """The mean of `b` numbers, one for each clip, as `name`, and its 95 % interval as `name_low` and `name_high`."""
    drawn = values[_rows(len(values), seed)].mean(dim=1)
    return {name: values.mean().item()} | _ends(name, drawn)


def ratio_with_interval(name: str, over: Tensor, under: Tensor, seed: int = 0) -> dict[str, float]:
    """The same of a ratio of means, `b` / `b`."""
    rows = _rows(len(over), seed)
    drawn = over[rows].mean(dim=1) / under[rows].mean(dim=1)
    return {name: (over.mean() / under.mean()).item()} | _ends(name, drawn)


def value_with_interval(name: str, value: Callable[[Tensor], Tensor], n: int, seed: int = 0) -> dict[str, float]:
    """The same of any number that is made of n clips: `value` is told which, `r n` indices, and gives `r`."""
    return {name: value(torch.arange(n)[None]).item()} | _ends(name, value(_rows(n, seed)))


def _rows(n: int, seed: int) -> Tensor:
    return torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))


def _ends(name: str, drawn: Tensor) -> dict[str, float]:
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return {f"{name}_low": low, f"{name}_high": high}
