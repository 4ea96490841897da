"""Is it surprised by what cannot be? Violation of expectation, on matched films of possible and impossible things.

The protocol of IntPhys (arXiv 1803.07616) and of V-JEPA's study of intuitive physics (2502.11831): a model watches both
films of a pair, and of the two the impossible one should surprise it more. Chance is 50 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.data.matched import Matched
from innerworld.errors import UserError
from innerworld.evaluate.control import wilson
from innerworld.nn.sensors import image_in
from innerworld.types import Clip, Spec, State, each
from innerworld.world import WorldModel, flatten

Score = Callable[[dict[str, NDArray[Any]]], Tensor]
"""Films, each sensor `b t ...` → how surprising each is: `b`."""

TIE = 1e-6
"""Scores that differ by no more than this share count as equal."""


class SurpriseConfig(Config):
    by: Literal["energy", "pixels"] = Field(
        default="energy",
        description="how far what was expected is from what was seen: the model's energy, or squared error of pixels",
    )
    over: Literal["mean", "max"] = Field(default="mean", description="what a film's surprise is, of all its steps")
    horizon: int = Field(default=1, description="steps ahead for which something is expected", ge=1)
    settle: int = Field(default=2, description="first steps that do not count: belief is forming", ge=0)
    batch: int = Field(default=8, description="quadruplets watched together", ge=1)


@torch.no_grad()
def surprise(model: WorldModel, clip: Clip, horizon: int = 1, by: Literal["energy", "pixels"] = "energy") -> Tensor:
    """How far what was expected `horizon` steps ago is from what is believed after looking: `b t`, t from `horizon` on.

    By pixels: the mean squared error of the decoded pictures. Raises `UserError` for a film that is too short, and for
    pixels of a family that does not decode.
    """
    k = clip.length + 1 - horizon  # times from which something is expected
    if k < 1:
        raise UserError(
            f"surprise: films of {clip.length + 1} frames tell nothing {horizon} steps ahead: lower horizon"
        )
    model.eval()
    believed = model.watch(clip)
    roll = model.roll(each(lambda value: value[:, :k], believed), horizon)
    expected: State = {}
    for h in range(horizon):
        expected = roll(clip.action[:, h : h + k].flatten(0, 1), None)
    if by == "pixels":
        return _by_pixels(model, expected, clip, horizon).unflatten(0, (-1, k))
    seen = flatten(each(lambda value: value[:, horizon:], believed), 2)
    return model.energy(expected, seen).unflatten(0, (-1, k))


def score_of(model: WorldModel, config: SurpriseConfig = SurpriseConfig(), frame_skip: int = 1) -> Score:
    """How surprised a model is by films: nobody acts, so that its actions are empty, zeros or, of choices, the first.

    With a `frame_skip` it sees every so many of their frames. Raises `UserError` for films without its sensors.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

    def score(films: dict[str, NDArray[Any]]) -> Tensor:
        clip = still_clip(films, model.spec, frame_skip).to(device)
        return _over_time(surprise(model, clip, config.horizon, config.by), config).cpu()

    return score


def last_frame_score(sensor: str = "pixels", config: SurpriseConfig = SurpriseConfig()) -> Score:
    """A control that expects each picture to be the one before: squared error of pixels."""

    def score(films: dict[str, NDArray[Any]]) -> Tensor:
        pixels = torch.from_numpy(films[sensor]).double()  # b t y x c
        return _over_time((pixels[:, 1:] - pixels[:, :-1]).square().mean(dim=(2, 3, 4)), config)

    return score


def pairwise(
    matched: Matched,
    scores: Mapping[str, Score],
    config: SurpriseConfig = SurpriseConfig(),
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, float]]:
    """How often each judge has the higher score for the impossible: of pairs, and of quadruplets.

    For a principle: of pairs that begin alike `NAME`, its 95 % Wilson interval `NAME_low` and `NAME_high`, and how many
    there were, `NAME_pairs`; of the sums over both films of a kind, IntPhys's relative measure, `NAME_sum`, … and
    `NAME_quadruplets`. `all` are those of all principles together. A tie is half a hit. `progress` is told the
    quadruplets that were watched.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in scores}
    every: dict[str, list[Tensor]] = {name: [] for name in scores}
    done = 0
    for principle, count in matched.counts().items():
        here: dict[str, list[Tensor]] = {name: [] for name in scores}
        for first in range(0, count, config.batch):
            rows = range(first, min(first + config.batch, count))
            films = {
                name: value.reshape(-1, *value.shape[2:]) for name, value in matched.films(principle, rows).items()
            }
            for name, score in scores.items():
                here[name].append(score(films).unflatten(0, (-1, 4)))  # q 4
            progress(done := done + len(rows))
        for name, some in here.items():
            found[name] |= _shares(principle, torch.cat(some))
            every[name] += some
    for name, some in every.items():
        found[name] |= _shares("all", torch.cat(some))
    return found


def still_clip(films: dict[str, NDArray[Any]], spec: Spec, frame_skip: int = 1) -> Clip:
    """Films in which nobody acts, each sensor `b t ...`, as a clip. Raises `UserError` for films of other sensors."""
    for name, shape in spec.obs.items():
        if name not in films:
            raise UserError(
                f"the films have the sensors {', '.join(films)}, the model sees {name!r}: give another model"
            )
        if films[name].shape[2:] != shape:
            raise UserError(f"the films' {name!r} has shape {films[name].shape[2:]}, the model sees {shape}")
    obs = {name: torch.from_numpy(np.ascontiguousarray(films[name][:, ::frame_skip])) for name in spec.obs}
    b, t = next(iter(obs.values())).shape[:2]
    nothing, still = torch.zeros(b, t - 1), torch.zeros(b, t - 1, spec.action)
    if spec.discrete:
        still[..., 0] = 1  # no choice at all is none that a model has seen; keys take the first for nothing, too
    return Clip(obs, still, nothing, nothing.bool())


def _by_pixels(model: WorldModel, expected: State, clip: Clip, horizon: int) -> Tensor:
    """Mean squared error of the decoded pictures: `(b k)`."""
    images = model.spec.images()
    if not model.card.decodes or not images:
        raise UserError(f"{model.card.name} paints no pictures: measure surprise by=energy")
    drawn = model.decode(expected)
    errors = [
        (image_in(drawn[name]) - image_in(clip.obs[name][:, horizon:])).square().flatten(1).mean(dim=1)
        for name in images
    ]
    return torch.stack(errors).mean(dim=0)


def _over_time(steps: Tensor, config: SurpriseConfig) -> Tensor:
    """Surprise of each step, `b t` → of each film, `b`."""
    counted = steps[:, min(config.settle, steps.shape[1] - 1) :].double()
    return counted.mean(dim=1) if config.over == "mean" else counted.amax(dim=1)


def _shares(name: str, scores: Tensor) -> dict[str, float]:
    """What is told of the scores of quadruplets, `q 4`."""
    if not torch.isfinite(scores).all():
        raise UserError("surprise is not finite: was the model trained?")
    possible, impossible = scores[:, :2], scores[:, 2:]
    pairs = _share(name, _right(possible, impossible))
    sums = _share(f"{name}_sum", _right(possible.sum(dim=1), impossible.sum(dim=1)))
    return {**pairs, f"{name}_pairs": 2.0 * len(scores), **sums, f"{name}_quadruplets": float(len(scores))}


def _right(possible: Tensor, impossible: Tensor) -> Tensor:
    """1 where the impossible has the higher score, a half for a tie: the same shape."""
    margin = TIE * torch.maximum(possible.abs(), impossible.abs())
    return (impossible > possible + margin).double() + 0.5 * ((impossible - possible).abs() <= margin).double()


def _share(name: str, right: Tensor) -> dict[str, float]:
    hits, n = right.sum().item(), right.numel()
    low, high = wilson(hits, n)  # halves are taken as they come
    return {name: hits / n, f"{name}_low": low, f"{name}_high": high}
