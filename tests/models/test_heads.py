"""Reward and the chance to go on: what is told, what is learnt, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from innerworld.errors import UserError
from innerworld.models.heads import Heads
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

CLIP = random_clip(Spec({"speed": (3,)}, 2), b=4, t=5)


def test_nothing_is_expected_at_first() -> None:
    told = Heads(6, 8, 41, 1.0, 1.0).told(torch.randn(4, 6))
    assert told["reward"].shape == told["continue"].shape == (4,)
    torch.testing.assert_close(told["reward"], torch.zeros(4), rtol=0, atol=1e-5)  # its last layer starts at zero
    assert ((told["continue"] > 0) & (told["continue"] < 1)).all()


def test_both_are_learnt() -> None:
    torch.manual_seed(0)
    heads, features = Heads(6, 32, 41, 1.0, 1.0), torch.randn(4, 5, 6)
    ended = torch.rand(4, 5) < 0.5
    clip = replace(CLIP, reward=features[..., 0], terminated=ended)
    features[..., 1] = ended.float()
    optimiser = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        torch.as_tensor(heads.weighed(heads.losses(features, clip))).backward()
        optimiser.step()
    reward, going = heads.prospects(features.flatten(0, 1))
    assert (reward - clip.reward.flatten()).abs().mean() < 0.25 * clip.reward.abs().mean()
    assert ((going < 0.5) == ended.flatten()).all()


def test_of_several_tellings_the_mean_counts_and_weights_are_given() -> None:
    torch.manual_seed(0)
    heads = Heads(6, 8, 41, 0.5, 2.0)
    one, two = torch.randn(2, 4, 5, 6).unbind(0)
    both = heads.losses(torch.stack([one, two]), CLIP)
    for name, part in both.items():
        torch.testing.assert_close(part, (heads.losses(one, CLIP)[name] + heads.losses(two, CLIP)[name]) / 2)
    torch.testing.assert_close(heads.weighed(both), 0.5 * both["reward"] + 2 * both["continue"])


def test_where_an_episode_begins_nothing_is_learnt() -> None:
    heads, features = Heads(6, 8, 41, 1.0, 1.0), torch.randn(4, 5, 6)
    first = torch.zeros(4, 6, dtype=torch.bool)
    first[:, 3] = True
    clip, strange = replace(CLIP, first=first), CLIP.reward.clone()
    strange[:, 2] = 1e4
    assert torch.equal(
        heads.losses(features, clip)["reward"], heads.losses(features, replace(clip, reward=strange))["reward"]
    )


def test_a_weight_of_zero_leaves_a_head_out() -> None:
    features = torch.randn(2, 6)
    reward, going = Heads(6, 8, 41, 1.0, 0.0).prospects(features)
    assert reward.shape == (2,) and torch.equal(going, torch.ones(2))
    none = Heads(6, 8, 41, 0.0, 0.0)
    assert not none.some and none.told(features) == {} and none.losses(features[:, None], CLIP) == {}
    with pytest.raises(UserError, match="reward=0 left the reward's head out"):
        none.prospects(features)
