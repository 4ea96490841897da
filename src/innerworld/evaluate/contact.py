"""Will they touch? Object contact prediction of Physion, read off a model's beliefs by a linear readout.

The protocol of Physion (arXiv 2106.08261): the beginnings of films are watched, a logistic readout learns from the
beliefs of the readout set, and is judged on the films that people were asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.evaluate.control import wilson
from innerworld.evaluate.readout import Readout, area_under_curve, fit_readout
from innerworld.evaluate.surprise import still_clip
from innerworld.types import each
from innerworld.world import WorldModel, flatten

Describe = Callable[[np.ndarray], Tensor]
"""Films `b t y x c` uint8 → what is made of each: `b d`."""


class ContactConfig(Config):
    """The settings of Physion 1.5, whose readout learns from all scenarios; in the paper each has its own."""

    readout: Literal["all", "scenario"] = Field(
        default="all", description="one readout for all scenarios, or one for each"
    )
    imagine: int = Field(
        default=0, ge=0, description="steps imagined after the last frame, whose beliefs are read, too"
    )
    strengths: tuple[float, ...] = Field(
        default=(1e-6, 1e-5, 0.01, 0.1, 1.0, 5.0, 10.0, 20.0),
        min_length=1,
        description="of the data against the penalty ½ |w|², scikit-learn's C: tried in folds",
    )
    folds: int = Field(default=5, ge=2, description="parts that choose the strength")
    batch: int = Field(default=16, ge=1, description="films watched together")
    seed: int = Field(default=0, ge=0, description="of the folds")


def beliefs_of(model: WorldModel, config: ContactConfig = ContactConfig()) -> Describe:
    """The features of its beliefs along a film, side by side, and of what it imagines then; nobody acts."""
    sensor = model.spec.images()[0]
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def describe(films: np.ndarray) -> Tensor:
        model.eval()
        clip = still_clip({sensor: films}, model.spec).to(device)
        believed = model.watch(clip)
        features = [model.features(model.bare(flatten(believed, 2))).unflatten(0, films.shape[:2]).flatten(1)]
        if config.imagine:
            roll = model.roll(each(lambda value: value[:, -1:], believed), config.imagine)
            features += [model.features(model.bare(roll(clip.action[:, 0], None))) for _ in range(config.imagine)]
        return torch.cat(features, dim=1).cpu()

    return describe


def small_pixels(films: np.ndarray, side: int = 8) -> Tensor:
    """A control that believes nothing: the pictures themselves, at most `side` pixels wide: `b d`."""
    pixels = torch.from_numpy(films).double().permute(0, 1, 4, 2, 3).flatten(0, 1)  # (b t) c y x
    return (
        torch.nn.functional.adaptive_avg_pool2d(pixels, min(side, pixels.shape[-1]))
        .unflatten(0, films.shape[:2])
        .flatten(1)
    )


def judge_contact(
    learn: tuple[Tensor, np.ndarray, np.ndarray],
    test: tuple[Tensor, np.ndarray, np.ndarray],
    config: ContactConfig = ContactConfig(),
) -> dict[str, float]:
    """How often the readout is right on test films: `all`, of each scenario, and `mean` over scenarios, as published.

    Each half is features `n d`, labels `n` and scenarios `n`. Of each scenario and of all: the share right `NAME`, its
    95 % Wilson interval `NAME_low` and `NAME_high`, `NAME_auc` (how often a film of touching is thought likelier to be
    one), `NAME_common` (what always giving the commonest answer to learn from would be right in) and `NAME_films`.
    Raises `UserError` for a scenario to be judged on without films to learn from, and what `fit_readout` refuses.
    """
    x, y, kinds = learn
    asked = dict.fromkeys(test[2].tolist())
    for kind in asked:
        if not (kinds == kind).any():
            raise UserError(
                f"there are no films of {kind!r} to learn from, but {(test[2] == kind).sum()} to be judged on"
            )
    fit = {
        kind: _fit(x, y, kinds == kind if config.readout == "scenario" else np.ones(len(y), bool), config)
        for kind in (asked if config.readout == "scenario" else ["all"])
    }
    found: dict[str, float] = {}
    chances, common = torch.zeros(len(test[1]), dtype=torch.float64), np.zeros(len(test[1]), bool)
    for kind in asked:
        rows = test[2] == kind
        name = kind if config.readout == "scenario" else "all"
        chances[rows] = fit[name](test[0][rows])
        common[rows] = y[kinds == kind].mean() > 0.5
    for kind in (*asked, "all"):
        rows = np.ones(len(test[1]), bool) if kind == "all" else test[2] == kind
        found |= _share(kind, chances[rows], test[1][rows], common[rows])
    found["mean"] = float(np.mean([found[kind] for kind in asked]))
    found["mean_common"] = float(np.mean([found[f"{kind}_common"] for kind in asked]))
    return found


def _fit(x: Tensor, y: np.ndarray, rows: np.ndarray, config: ContactConfig) -> Readout:
    return fit_readout(x[rows], torch.from_numpy(y[rows]), config.strengths, config.folds, config.seed)


def _share(name: str, chance: Tensor, y: np.ndarray, common: np.ndarray) -> dict[str, float]:
    right = int(((chance > 0.5).numpy() == (y > 0)).sum())
    low, high = wilson(right, len(y))
    return {
        name: right / len(y),
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_auc": area_under_curve(chance, torch.from_numpy(y)),
        f"{name}_common": float((common == (y > 0)).mean()),
        f"{name}_films": float(len(y)),
    }
