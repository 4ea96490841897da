"""`innerworld play --keys`: keys drive the dream, open its eyes, begin again and end."""

from __future__ import annotations

import torch

from innerworld.cli.play import steer
from innerworld.models.world_models import WorldModels
from innerworld.recipes.steering import Drive
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (32, 32, 3)}, 2)
TINY = WorldModels.Config(z=4, hidden=8, mixtures=2, image="strided", depth=2, stages=2, units=8, bins=9)


def drive() -> Drive:
    torch.manual_seed(0)
    return Drive(WorldModels(TINY, SPEC), None, random_clip(SPEC, 1, 1).at(0))


def test_keys_drive_and_q_ends():
    dream, lines = drive(), []
    steer(dream, iter(["right", "x", "up", "q", "right"]), lambda picture, line: lines.append(line), 100)
    assert dream.steps == 2
    assert len(lines) == 4 and lines[-1].startswith("step 2, eyes shut for 2")
    assert "left right up down act" in lines[0] and "open the eyes" not in lines[0]  # there is no world beside it


def test_begin_again_and_the_end_of_the_steps():
    dream = drive()
    steer(dream, iter(["right", "r", "left"]), lambda picture, line: None, 100)
    assert dream.steps == 1
    steer(dream, iter(["right"] * 10), lambda picture, line: None, 3)
    assert dream.steps == 4
