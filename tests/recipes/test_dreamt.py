"""What was learnt in a world is judged by what it draws of fresh episodes there; vectors are not drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from innerworld.config import build
from innerworld.envs import make, spec_of
from innerworld.evaluate import generation
from innerworld.evaluate.inverse import InverseConfig
from innerworld.models import MODELS
from innerworld.recipes import dreamt
from innerworld.recipes.acting import Acting
from innerworld.recipes.dreamt import Living, draw_practice
from innerworld.recipes.practice import Online, Practice
from innerworld.world import WorldModel

RSSM = {"image_size": 16, "deter": 16, "hidden": 16, "stoch": 4, "classes": 4, "depth": 2, "units": 16, "layers": 1}
HASTY = InverseConfig(transitions=256, steps=2, channels=4)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CLIPS", (4,))
    monkeypatch.setattr(dreamt, "LONGEST", 15)


def mind(*sensors: str, **online: Any) -> tuple[WorldModel, Practice]:
    torch.manual_seed(0)
    told = {"env": "paddle", "size": 16, "sensors": sensors, "length": 4} | online
    practice = Practice(online=build(Online, told))
    worlds = practice.online.make(1)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space).only(*sensors)
    config = build(MODELS["dreamer"].Config, {"world": RSSM, "actor_critic": {"horizon": 3}})
    return MODELS["dreamer"](config, spec).eval(), practice


def test_fresh_episodes_are_judged() -> None:
    found = draw_practice(*mind("pixels"), reader=HASTY)
    assert found is not None
    named = {"psnr_1", "psnr_10", "delta_psnr_4", "readback", "shuffled_loss_ratio", "return_error", "frames_per_s"}
    assert named <= found.metrics.keys() and not found.untried
    assert found.drift.psnr.shape == (4, 11)  # of 15 steps, the first 4 are seen


def test_a_repeated_action_is_not_undone() -> None:
    found = draw_practice(*mind("pixels", action_repeat=2), reader=HASTY)
    assert found is not None and "names no world" in found.untried["return_error"] and "psnr_1" in found.metrics


def test_who_sees_no_pictures_draws_none() -> None:
    assert draw_practice(*mind("state")) is None


def test_a_policy_forgets_where_an_episode_begins() -> None:
    model, _ = mind("pixels")
    worlds = make("paddle", 2, size=16)
    obs, _ = worlds.reset(seed=0)
    living, rng = Living(Acting(model, False)), np.random.default_rng(0)
    living.begin(np.array([True, True]), rng)
    fresh = living(obs, rng)
    assert fresh.shape == (2, 3) and (fresh.sum(1) == 1).all()
    began = {name: value.clone() for name, value in living.acting.belief.items()}
    living(obs, rng)
    assert not torch.equal(living.acting.belief["deter"], began["deter"])
    living.begin(np.array([False, True]), rng)
    living(obs, rng)
    after = living.acting.belief["deter"]
    assert torch.equal(after[1], began["deter"][1]) and not torch.equal(after[0], began["deter"][0])
