"""What follows from the five verbs: imagining, dreaming, watching; and the small change between their shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel, at, candidates, flatten, stack


class Sum(WorldModel):
    """Believes the sum of what it did, one step after another, and counts its steps."""

    class Config(Config):
        """Nothing to set."""

    card = Card(name="Sum", predicts="latents", decodes=False, backbone="sum", paper="-")

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        if state is None or action is None:
            return {"z": obs["x"], "steps": torch.zeros(len(obs["x"]), dtype=torch.long)}
        return {"z": obs["x"] + action, "steps": state["steps"] + 1}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        noise = 0 if rng is None else torch.randn(state["z"].shape, generator=rng)
        return {"z": state["z"] + action + noise, "steps": state["steps"] + 1}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).abs().sum(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {}


SPEC = Spec({"x": (2,)}, 2)
MODEL = Sum(Sum.Config(), SPEC)
CLIP = random_clip(SPEC, b=3, t=4)


def test_imagine_gives_each_candidate_its_own_future_of_one_past() -> None:
    actions = torch.randn(3, 5, 4, 2, generator=Generator().manual_seed(0))
    start = MODEL.encode(CLIP.at(0))
    imagined = MODEL.imagine(start, actions)
    assert imagined["z"].shape == (3, 5, 4, 2) and imagined["steps"].shape == (3, 5, 4)
    torch.testing.assert_close(imagined["z"], start["z"][:, None, None] + actions.cumsum(dim=2))
    assert imagined["steps"][1, 2].tolist() == [1, 2, 3, 4]


def test_watch_is_encode_after_encode() -> None:
    believed = MODEL.watch(CLIP)
    assert believed["steps"].tolist() == [[0, 1, 2, 3, 4]] * 3
    torch.testing.assert_close(believed["z"][:, 0], CLIP.obs["x"][:, 0])
    torch.testing.assert_close(believed["z"][:, 1:], CLIP.obs["x"][:, 1:] + CLIP.action)


def test_dream_follows_a_policy_that_sees_the_state() -> None:
    start = MODEL.encode(CLIP.at(0))
    states, actions = MODEL.dream(start, lambda state: -state["z"] / 2, 3)
    assert actions.shape == (3, 3, 2)
    torch.testing.assert_close(actions[:, 0], -start["z"] / 2)
    torch.testing.assert_close(states["z"][:, 2], start["z"] / 8)


def test_dream_draws_from_its_generator() -> None:
    start = MODEL.encode(CLIP.at(0))
    still = lambda state: torch.zeros(3, 2)
    one, again, other = (MODEL.dream(start, still, 3, Generator().manual_seed(seed))[0]["z"] for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_features_are_the_floats_of_the_state_and_decode_is_empty() -> None:
    state = {"a": torch.ones(2, 3, 4), "b": torch.zeros(2, 1), "count": torch.arange(2)}
    assert MODEL.features(state).shape == (2, 13)
    assert MODEL.decode(state) == {}


def test_axes_there_and_back() -> None:
    states = [{"z": torch.full((2, 3), float(t))} for t in range(4)]
    stacked = stack(states)
    assert stacked["z"].shape == (2, 4, 3)
    assert torch.equal(at(stacked, 2)["z"], states[2]["z"])
    assert flatten(stacked, 2)["z"].shape == (8, 3)
    assert candidates({"z": torch.tensor([1, 2])}, 3)["z"].tolist() == [1, 1, 1, 2, 2, 2]


def test_a_world_model_lacking_a_verb_cannot_be_made() -> None:
    class Mute(WorldModel):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Mute(Sum.Config(), SPEC)  # pyright: ignore


def test_belief_begins_anew_where_an_episode_begins() -> None:
    first = torch.zeros(3, 5, dtype=torch.bool)
    first[1, 2] = True
    believed = MODEL.watch(replace(CLIP, first=first))
    assert believed["steps"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 0, 1, 2], [0, 1, 2, 3, 4]]


def test_belief_goes_on_from_a_past() -> None:
    past = {"z": torch.full((3, 2), 7.0), "steps": torch.full((3,), 10)}
    believed = MODEL.watch(replace(CLIP, past=past))
    assert believed["steps"].tolist() == [[10, 11, 12, 13, 14]] * 3
    assert torch.equal(believed["z"][:, 0], past["z"])


def test_who_tells_no_reward_has_no_prospects() -> None:
    with pytest.raises(UserError, match="tells no reward"):
        MODEL.prospects(MODEL.encode(CLIP.at(0)))
