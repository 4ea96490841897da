"""Choices of what comes next: the least surprising is taken, ties are shared, chance is one over their number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.errors import UserError
from innerworld.evaluate.continuation import change, doubt_of, judge_choices
from innerworld.evaluate.surprise import still_clip, surprise
from innerworld.models import JEPA
from innerworld.models.jepa import JEPAConfig
from innerworld.types import Spec


def film(*light: int) -> np.ndarray:
    return np.stack([np.full((16, 16, 3), value, np.uint8) for value in light])


def test_the_least_surprising_is_chosen() -> None:
    questions = [
        ([film(10, 20, 90), film(10, 20, 21)], [1, 1], 1),
        ([film(10, 20, 90), film(10, 20, 21)], [1, 1], 0),
        ([film(0, 5, 5), film(0, 5, 5), film(0, 5, 6), film(0, 5, 9)], [1] * 4, 0),  # two are the same
    ]
    found = judge_choices(iter(questions), {"no change": change})["no change"]
    assert found["right"] == 1.5 / 3 and found["chance"] == pytest.approx((0.5 + 0.5 + 0.25) / 3)
    assert found["questions"] == 3 and found["low"] < 0.5 < found["high"]


def test_only_the_continuation_counts() -> None:
    assert change(film(0, 200, 201, 203), 2) == (1 + 4) / 2


def test_a_models_doubt_is_its_surprise_at_the_last_frames() -> None:
    torch.manual_seed(0)
    model = JEPA(JEPAConfig(image_size=16, slices=16), Spec({"pixels": (16, 16, 3)}, 2))
    shown = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    steps = surprise(model, still_clip({"pixels": shown[None]}, model.spec))[0]
    assert len(steps) == 4
    assert doubt_of(model)(shown, 2) == pytest.approx(steps[2:].double().mean().item(), rel=1e-6)


def test_who_knows_nothing_is_at_chance() -> None:
    """100 questions, of which each of four choices is right equally often, and nothing sets the choices apart."""
    questions = [([film(3, 7)] * 4, [1] * 4, i % 4) for i in range(100)]
    found = judge_choices(questions, {"same": change, "first": lambda film, frames: 1.0})
    assert found["same"]["right"] == found["first"]["right"] == found["same"]["chance"] == 0.25


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="no question"):
        judge_choices([], {"x": change})
    with pytest.raises(UserError, match="not finite"):
        judge_choices([([film(1, 2)] * 2, [1, 1], 0)], {"x": lambda film, frames: float("nan")})
