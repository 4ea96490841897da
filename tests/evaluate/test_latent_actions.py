"""Latent against real actions: a model that knows them scores 1, one that guesses the chance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.evaluate.latent_actions import latent_actions
from innerworld.models.genie import Genie
from innerworld.models.genie_config import GenieConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec

BODY: dict[str, Any] = {"dim": 16, "depth": 1, "heads": 2, "mlp": 2.0, "window": 3}
TINY: dict[str, Any] = {
    "codec": {"width": 4},
    "actions": {"book": {"codes": 4}, "width": 4, "pixels": 8, "backbone": BODY | {"steering": "none"}},
    "dynamics": {"backbone": BODY | {"steering": "token"}},
    "labels": {"count": 20, "length": 4},
}
CHOICES = Spec({"pixels": (8, 8, 3)}, 3, discrete=True)
MOVES = Spec({"pixels": (8, 8, 3)}, 2)


def build(spec: Spec, monkeypatch: pytest.MonkeyPatch, told: bool = True, **words: Any) -> Genie:
    """Its codes are what the first pixel after a step says (`marked`), or always the same."""
    model = Genie(GenieConfig.model_validate(TINY | words), spec)

    def infer(obs: Obs, first: Tensor | None = None) -> Tensor:
        return obs["pixels"][:, 1:, 0, 0, 0].long() * told

    monkeypatch.setattr(model.actions, "infer", infer)
    return model


def marked(spec: Spec, b: int) -> Clip:
    """Clips whose first pixel tells the choice that led to a frame, or in which quarter its direction lies."""
    clip = random_clip(spec, b, 8)
    side = (clip.action > 0).long()
    code = clip.action.argmax(dim=-1) if spec.discrete else side[..., 0] * 2 + side[..., 1]
    clip.obs["pixels"][:, 1:, 0, 0, 0] = code.to(torch.uint8)
    return clip


def test_codes_that_are_the_choices_score_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = build(CHOICES, monkeypatch), marked(CHOICES, 12)
    model.prepare(clip)
    found = latent_actions(model, clip)
    assert found["latent_real_accuracy"] == found["latent_real_accuracy_low"] == 1
    assert found["labels"] == 20 and found["code_usage"] == 0.75
    assert abs(found["code_perplexity"] - 3) < 0.1


def test_one_code_for_all_scores_the_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = build(CHOICES, monkeypatch, told=False), marked(CHOICES, 12)
    clip.action[:] = F.one_hot((torch.rand(clip.action.shape[:2]) < 0.7).long(), 3)
    model.prepare(clip)
    found = latent_actions(model, clip)
    assert found["latent_real_accuracy"] == pytest.approx(found["latent_real_chance"])
    assert found["code_usage"] == 0.25 and found["code_perplexity"] == pytest.approx(1)


def test_of_directions_a_quarter_tells_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a number that is even from -1 to 1 its sign tells three quarters of the variance."""
    model, clip = build(MOVES, monkeypatch, labels={"count": 400, "length": 8}), marked(MOVES, 60)
    model.prepare(clip)
    found = latent_actions(model, clip)
    assert found["latent_real_r2"] == pytest.approx(0.75, abs=0.04)
    assert found["latent_real_r2_low"] <= found["latent_real_r2"] <= found["latent_real_r2_high"]


def test_of_a_video_only_codes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec({"pixels": (8, 8, 3)}, 0)
    clip = random_clip(spec, 4, 8)
    clip.obs["pixels"] %= 4
    found = latent_actions(build(spec, monkeypatch), clip)
    assert found.keys() == {"code_usage", "code_perplexity", "labels"}


def test_what_cannot_be_judged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(CHOICES, monkeypatch)
    with pytest.raises(UserError, match="actions of 2 numbers, the model of 3"):
        latent_actions(model, marked(MOVES, 2))
    with pytest.raises(UserError, match="real actions are unknown"):
        latent_actions(model.played_by_codes(), marked(CHOICES, 2))
