"""Imagined against observed: 0 is a perfect model, 1 is one that believes nothing will change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.evaluate.prediction import position_error, prediction
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

SPEC = Spec({"state": (2,), "pixels": (4, 4, 1)}, 2)


class DriftConfig(Config):
    follows: float = 1.0  # share of each action that it foresees


class Drift(WorldModel):
    """The state is where the actions add up to; the picture is as bright as the first coordinate."""

    Config = DriftConfig
    card = Card(name="drift", predicts="pixels", decodes=True, backbone="a sum", paper="-")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"z": state["z"] + self.config.follows * action}  # pyright: ignore

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"pixels": state["z"][:, :1, None, None].expand(-1, 4, 4, 1) / 255, "state": state["z"]}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


class Blind(Drift):
    card = Card(name="blind", predicts="latents", decodes=False, backbone="a sum", paper="-")


def drift(follows: float = 1.0, kind: type[Drift] = Drift) -> Drift:
    return kind(DriftConfig(follows=follows), SPEC)


def walk(b: int = 20, t: int = 8, seed: int = 0) -> Clip:
    """Whole steps upwards, so that brightness keeps them exactly."""
    action = torch.randint(1, 6, (b, t, 2), generator=Generator().manual_seed(seed)).float()
    state = torch.cat([torch.zeros(b, 1, 2), action.cumsum(dim=1)], dim=1)
    pixels = state[..., :1, None, None].to(torch.uint8).expand(b, t + 1, 4, 4, 1)
    return Clip({"state": state, "pixels": pixels}, action, torch.zeros(b, t), torch.zeros(b, t, dtype=torch.bool))


@pytest.mark.parametrize(("follows", "expected"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.25), (2.0, 1.0), (3.0, 4.0)])
def test_the_ratio_is_relative_to_standing_still(follows: float, expected: float) -> None:
    """Energy is squared: half of the way is a quarter of the error."""
    found = prediction(drift(follows), walk(), (1, 2, 8))
    for name in ("energy_ratio", "pixel_ratio", "vector_ratio"):
        for h in (1, 2, 8):
            assert found[f"{name}_{h}"] == pytest.approx(expected, abs=1e-5)


def test_clips_are_drawn_whole_so_that_pairs_stay_together() -> None:
    """Each clip's error is a quarter of its own way, whichever clips are drawn."""
    found = prediction(drift(0.5), walk(), (4,))
    assert found["energy_ratio_4_low"] == found["energy_ratio_4_high"] == pytest.approx(0.25)


def test_a_family_without_a_decoder_has_no_pixels() -> None:
    found = prediction(drift(kind=Blind), walk(), (1, 2))
    assert set(found) == {f"energy_ratio_{h}{end}" for h in (1, 2) for end in ("", "_low", "_high")}


def test_numbers_of_vectors_count_alike_and_those_that_never_change_not_at_all() -> None:
    """Whatever unit a number is in; half of the way is a quarter of the error."""
    clip, units = walk(), torch.tensor([1000.0, 0.0])
    scaled = Clip(clip.obs | {"state": clip.obs["state"] * units}, clip.action, clip.reward, clip.terminated)
    model = drift()
    model.predict = lambda state, action, rng=None: {"z": state["z"] + 0.5 * units * action}  # pyright: ignore
    assert prediction(model, scaled, (4,))["vector_ratio_4"] == pytest.approx(0.25, abs=1e-5)


def test_it_is_a_ratio_of_means_and_not_a_mean_of_ratios() -> None:
    clip = walk()
    model = drift()
    model.predict = lambda state, action, rng=None: {"z": state["z"] + 0.5 * action + 1}  # pyright: ignore
    off = (1 - 0.5 * clip.action[:, 0]).square().sum(-1).mean() / clip.action[:, 0].square().sum(-1).mean()
    assert prediction(model, clip, (1,))["energy_ratio_1"] == pytest.approx(off.item(), rel=1e-5)


def wobbly() -> Drift:
    model = drift()
    model.predict = lambda state, action, rng=None: {"z": state["z"] + 4 - action}  # pyright: ignore
    return model


def test_the_interval_holds_the_ratio_is_seeded_and_narrows() -> None:
    few, again = (prediction(wobbly(), walk(20), (1, 4), seed=1) for _ in range(2))
    many, other = prediction(wobbly(), walk(500), (1, 4), seed=1), prediction(wobbly(), walk(20), (1, 4), seed=2)
    assert few == again and few != other
    for h in (1, 4):
        low, middle, high = (few[f"energy_ratio_{h}{end}"] for end in ("_low", "", "_high"))
        assert low < middle < high
        assert many[f"energy_ratio_{h}_high"] - many[f"energy_ratio_{h}_low"] < 0.5 * (high - low)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    truth = prediction(wobbly(), walk(20_000), (1,))["energy_ratio_1"]
    found = [prediction(wobbly(), walk(40, 1, seed), (1,)) for seed in range(100)]
    covered = sum(one["energy_ratio_1_low"] <= truth <= one["energy_ratio_1_high"] for one in found)
    assert 85 <= covered <= 100


def test_context_is_where_imagining_begins() -> None:
    clip = walk()
    model = drift()
    after = clip.cut(3, 5)
    model.predict = lambda state, action, rng=None: {"z": state["z"] * 1.1}  # pyright: ignore
    assert prediction(model, clip, (1, 5), context=3) == prediction(model, after, (1, 5))


def test_position_error_is_in_the_units_of_the_state() -> None:
    clip = walk()
    perfect = position_error(drift(), clip, torch.eye(2).double(), torch.zeros(2).double(), (1, 8))
    assert perfect["position_error_1"] == perfect["position_error_8"] == 0
    moved = clip.obs["state"][:, 8].norm(dim=-1).mean().item()
    assert perfect["position_standing_still_8"] == pytest.approx(moved)
    still = position_error(drift(0.0), clip, torch.eye(2).double(), torch.zeros(2).double(), (1, 8))
    assert still["position_error_8"] == pytest.approx(moved)
    shifted = position_error(drift(), clip, torch.eye(2).double(), torch.tensor([3.0, 4.0]).double(), (1,))
    assert shifted["position_error_1"] == pytest.approx(5)


def test_a_world_that_stands_still_gives_no_ratio_and_no_crash() -> None:
    clip = walk()
    still = Clip(
        {name: value[:, :1].expand_as(value) for name, value in clip.obs.items()},
        torch.zeros_like(clip.action),
        clip.reward,
        clip.terminated,
    )
    assert math.isnan(prediction(drift(), still, (1,))["energy_ratio_1"])
