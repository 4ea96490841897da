"""The inverse model: it reads actions off frames that it never saw, choices and continuous ones."""

from __future__ import annotations

import numpy as np
import torch

from innerworld.data import Clips, Store
from innerworld.evaluate.controllability import read_back
from innerworld.evaluate.inverse import InverseConfig, InverseModel, fit_inverse
from innerworld.types import Clip, Spec

QUICK = InverseConfig(transitions=1024, steps=120, channels=8, features=16)


def test_choices_are_read(films: Store) -> None:
    state = torch.get_rng_state()
    net = fit_inverse(films, np.arange(20), "pixels", True, config=QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    clip = Clips(films, np.arange(20, 24), 30, 16, 1).batch(0)
    told, features = net.read(clip.obs["pixels"])
    assert told.shape == (16, 30, 3) and features.shape == (16, 30, 16)
    assert read_back(net, clip.obs["pixels"], clip.action).metrics("x")["x"] > 0.85
    again = fit_inverse(films, np.arange(20), "pixels", True, config=QUICK)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_continuous_actions_are_read(tmp_path) -> None:
    """The picture grows lighter by the action."""
    spec = Spec({"pixels": (8, 8, 1)}, 1)
    store = Store.create(tmp_path / "data", spec)
    for seed in range(12):
        action = torch.rand(1, 30, 1, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        light = 128 + 3 * torch.cat([torch.zeros(1, 1, 1), action.cumsum(dim=1)], dim=1)
        pixels = light[..., None, None].round().to(torch.uint8).expand(1, 31, 8, 8, 1)
        store.add(Clip({"pixels": pixels}, action, torch.zeros(1, 30), torch.zeros(1, 30, dtype=torch.bool)))
    net = fit_inverse(store, np.arange(10), "pixels", False, config=QUICK)
    clip = Clips(store, np.arange(10, 12), 30, 2).batch(0)
    found = read_back(net, clip.obs["pixels"], clip.action).metrics("x")
    assert 0.8 < found["x_r2_low"] <= found["x_r2"] <= found["x_r2_high"] <= 1
    assert read_back(net, clip.obs["pixels"], clip.action.flip(1)).metrics("x")["x_r2"] < 0


def test_every_shape_of_picture_has_a_net() -> None:
    for c, y, x in ((1, 8, 8), (3, 30, 40), (4, 47, 9)):
        net = InverseModel((c, y, x), 2, False, QUICK)
        assert net(torch.zeros(2, c, y, x), torch.zeros(2, c, y, x)).shape == (2, 2)
