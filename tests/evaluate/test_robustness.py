"""Robustness: pictures change as they say, what is seen decides what it costs, and the world's own factors too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.data import POLICIES, Clips, Store, collect
from innerworld.envs import make
from innerworld.envs.two_rooms import TwoRoomsConfig, TwoRoomsVector
from innerworld.envs.unseen import UNSEEN, unseen
from innerworld.evaluate.judge import fit_probe
from innerworld.evaluate.robustness import PICTURES, changed, hue, noise, patch, robustness
from innerworld.models import JEPA, Oracle
from innerworld.models.jepa import JEPAConfig
from innerworld.models.oracle import OracleConfig
from innerworld.types import Clip, Obs, Spec, State

SPEC = Spec({"pixels": (32, 32, 3), "state": (2,), "layout": (4,)}, 2)
SMALL = TwoRoomsConfig.of_size(32)


class Dazzled(Oracle):
    """Knows where it is unless the picture is brighter than those it knows: then it is off by its excess."""

    usual = 0.0

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        excess = obs["pixels"].float().mean((1, 2, 3)) - self.usual
        return {"state": obs["state"] + excess.clamp_min(0)[:, None], "layout": obs["layout"]}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("rooms") / "data", SPEC)
    collect(TwoRoomsVector(12, SMALL), POLICIES["smooth"](SPEC), 12, store, 0)
    return store


@pytest.fixture(scope="module")
def clip(rooms: Store) -> Clip:
    return Clips(rooms, np.arange(8, 12), 8, 16, 0).batch(0)


def films() -> Tensor:
    return torch.randint(0, 256, (3, 4, 16, 16, 3), generator=Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_change_by_their_seed_and_nothing_else_does(clip: Clip, name: str) -> None:
    one, again = (changed(clip, ["pixels"], PICTURES[name], seed=3) for _ in range(2))
    assert torch.equal(one.obs["pixels"], again.obs["pixels"])
    assert one.obs["pixels"].dtype == torch.uint8 and one.obs["pixels"].shape == clip.obs["pixels"].shape
    assert not torch.equal(one.obs["pixels"], clip.obs["pixels"])
    assert torch.equal(one.obs["state"], clip.obs["state"]) and torch.equal(one.action, clip.action)


def test_hue_turns_colours_and_leaves_grey_alone() -> None:
    red = torch.tensor([200, 20, 20], dtype=torch.uint8).expand(1, 1, 2, 2, 3)
    turned = hue(red, Generator())[0, 0, 0, 0].int()
    assert turned.argmax() != 0
    grey = torch.full((1, 1, 2, 2, 3), 90, dtype=torch.uint8)
    assert (hue(grey, Generator()).int() - 90).abs().max() <= 1
    assert torch.equal(hue(films()[..., :1], Generator()), films()[..., :1])


def test_a_patch_stays_where_it_is_and_noise_does_not() -> None:
    covered = (patch(films(), Generator().manual_seed(0)) != films()).any(dim=-1)
    assert covered.any(dim=1).sum(dim=(1, 2)).tolist() == [16] * 3, "4 x 4 of 16 x 16 pixels, in all frames the same"
    still = torch.full((1, 2, 16, 16, 1), 100, dtype=torch.uint8)
    grain = noise(still, Generator().manual_seed(0)).float() - 100
    assert not torch.equal(grain[:, 0], grain[:, 1]) and grain.std().item() == pytest.approx(12.75, rel=0.1)


def test_who_does_not_look_at_pictures_is_untouched(rooms: Store, clip: Clip) -> None:
    oracle = Oracle(OracleConfig(), SPEC.only("state", "layout"), TwoRoomsVector(1, SMALL).dynamics())
    probe = fit_probe(oracle, rooms, np.arange(8), np.arange(8, 12))
    found = robustness(oracle, {"hue": (clip, changed(clip, ["pixels"], hue))}, probe, (1, 2, 4))
    assert found["state_worse_hue"] == found["probe_worse"] == pytest.approx(1)
    assert found["probe_r2_hue"] > 0.99 and found["state_ratio_hue"] < 0.05


def test_who_is_dazzled_is_told_from_who_is_not(rooms: Store, clip: Clip) -> None:
    model = Dazzled(OracleConfig(), SPEC, TwoRoomsVector(1, SMALL).dynamics())
    model.usual = clip.obs["pixels"].float().mean((2, 3, 4)).max().item()
    probe = fit_probe(model, rooms, np.arange(8), np.arange(8, 12))
    pairs = {name: (clip, changed(clip, ["pixels"], PICTURES[name])) for name in ("brighter", "darker")}
    found = robustness(model, pairs, probe, (1, 2))
    assert found["probe_worse_brighter"] > 5 and found["state_worse_brighter"] > 5 > 1.5 > found["probe_worse_darker"]
    assert found["probe_r2_brighter"] < found["probe_r2_darker"]
    assert found["state_worse"] == (found["state_worse_brighter"] + found["state_worse_darker"]) / 2
    assert found["state_worse_brighter_low"] < found["state_worse_brighter"] < found["state_worse_brighter_high"]


def test_without_a_state_energies_are_asked(clip: Clip) -> None:
    torch.manual_seed(0)
    model = JEPA(JEPAConfig(image_size=16, channels=2, latent=8, hidden=16), SPEC.only("pixels"))
    found = robustness(model, {"same": (clip, clip), "patch": (clip, changed(clip, ["pixels"], patch))}, None, (1, 2))
    assert found["energy_worse_same"] == 1 and found["energy_ratio"] > 0
    assert all(np.isfinite(value) for value in found.values()) and not any("state" in name for name in found)


@pytest.mark.parametrize("env", UNSEEN)
def test_worlds_of_one_unseen_factor_differ_from_the_plain_one_in_what_is_seen_alone(env: str) -> None:
    plain = make(env, 2, 32)
    seen, _ = plain.reset(seed=4)
    assert unseen("nowhere") == {}
    for name, maker in unseen(env, 32).items():
        worlds = maker(2)
        other, _ = worlds.reset(seed=4)
        assert worlds.single_observation_space["pixels"] == plain.single_observation_space["pixels"], name  # pyright: ignore
        assert worlds.single_action_space == plain.single_action_space
        assert not np.array_equal(other["pixels"], seen["pixels"]), name
