"""Families learn from a video, in which nobody acts; planners say why they cannot plan with them."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.models import JEPA, RSSM
from innerworld.plan import PLANNERS
from innerworld.plan.plan import cold, generators
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (32, 32, 3)}, 0)


def build(name: str) -> WorldModel:
    torch.manual_seed(0)
    if name == "rssm":
        return RSSM(RSSM.presets["small"], SPEC)
    small = JEPA.presets["small"]
    return JEPA(small if name == "jepa" else small.model_copy(update={"predictor": "transformer", "rollout": 0}), SPEC)


def film() -> Clip:
    rng = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (4, 7, 32, 32, 3), dtype=torch.uint8, generator=rng)
    return Clip({"pixels": frames}, torch.zeros(4, 6, 0), torch.zeros(4, 6), torch.zeros(4, 6, dtype=torch.bool))


@pytest.mark.parametrize("name", ["jepa", "transformer", "rssm"])
def test_a_film_is_learnt_from(name: str) -> None:
    model, clip = build(name), film()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss, _ = model.loss(clip)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    state = model.imagine(model.encode(clip.at(0)), torch.zeros(4, 2, 3, 0))
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


def test_choices_need_at_least_one() -> None:
    with pytest.raises(UserError, match="at least 1"):
        Spec({"pixels": (32, 32, 3)}, 0, discrete=True)


@pytest.mark.parametrize("name", sorted(PLANNERS))
def test_nothing_can_be_planned(name: str) -> None:
    planner = PLANNERS[name]()
    with pytest.raises(UserError, match="no actions to plan"):
        planner(lambda actions: actions.sum((2, 3)), cold(2, planner.horizon, 0), generators(0, 2))
