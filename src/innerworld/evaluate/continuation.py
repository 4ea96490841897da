"""What comes next? Of several continuations of what was shown, a model chooses the one that surprises it least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from innerworld.errors import UserError
from innerworld.evaluate.control import wilson
from innerworld.evaluate.surprise import still_clip, surprise
from innerworld.world import WorldModel

Doubt = Callable[[np.ndarray, int], float]
"""A film `t y x c` and how many of its last frames are the continuation → how surprising that is."""
Question = tuple[list[np.ndarray], list[int], int]
"""For each choice the film that ends with it, how many frames are the choice's, and which is right."""


def doubt_of(model: WorldModel) -> Doubt:
    """Mean energy, over the frames of the continuation, between what was expected one step before and what came."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    sensor = model.spec.images()[0]

    @torch.no_grad()
    def doubt(film: np.ndarray, frames: int) -> float:
        clip = still_clip({sensor: film[None]}, model.spec).to(device)
        return float(surprise(model, clip)[0, -frames:].double().mean())

    return doubt


def change(film: np.ndarray, frames: int) -> float:
    """A control that expects no change: squared error of pixels to the frame before."""
    pixels = film[-frames - 1 :].astype(np.float64)
    return float(np.square(pixels[1:] - pixels[:-1]).mean())


def judge_choices(questions: Iterable[Question], doubts: Mapping[str, Doubt]) -> dict[str, dict[str, float]]:
    """How often each judge chooses what is right: `right`, its 95 % Wilson interval `low` and `high`, and `chance`.

    `chance` is the mean of one over the number of choices; `questions` is how many there were. A tie of several least
    surprising choices is shared among them. Raises `UserError` where there is no question, and for surprise that is
    not finite.
    """
    hits: dict[str, list[float]] = {name: [] for name in doubts}
    chances = []
    for films, frames, answer in questions:
        chances.append(1 / len(films))
        for name, doubt in doubts.items():
            told = np.array([doubt(film, count) for film, count in zip(films, frames, strict=True)])
            if not np.isfinite(told).all():
                raise UserError("surprise is not finite: was the model trained?")
            least = told <= told.min() * (1 + 1e-6)
            hits[name].append(float(least[answer] / least.sum()))
    if not chances:
        raise UserError("there is no question to be asked")
    found = {}
    for name, right in hits.items():
        low, high = wilson(sum(right), len(right))
        found[name] = {
            "right": float(np.mean(right)),
            "low": low,
            "high": high,
            "chance": float(np.mean(chances)),
            "questions": float(len(right)),
        }
    return found
