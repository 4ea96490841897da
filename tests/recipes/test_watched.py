"""What is watched: whole beliefs only where eyes are shut, moments within the episode, blocks of actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innerworld.envs import make
from innerworld.models.sequence import SequenceModel
from innerworld.recipes.watched import Seen, by_chance, moments, watch
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec
from innerworld.world import at

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
TINY = SequenceModel.Config.model_validate(
    {"stoch": 2, "units": 8, "posterior_units": 8, "prior_units": 8, "depth": 2, "mults": (1, 2), "image": "strided"}
    | {"image_size": 8, "backbone": {"dim": 16, "heads": 2, "mlp": 16, "window": 4}}
)


@pytest.mark.parametrize(("length", "expected"), [(1, [0]), (4, [2]), (12, [5, 6]), (400, [5, 200])])
def test_eyes_are_shut_where_enough_is_left(length: int, expected: list[int]):
    assert moments(length, 45) == expected


def test_beliefs_are_those_of_watching_and_whole_where_they_are_needed():
    torch.manual_seed(0)
    model = SequenceModel(TINY, SPEC).eval()
    clip = random_clip(SPEC, 1, 12)
    episode = watch(model, Seen(clip, None, False, "recorded"), horizon=4)
    assert sorted(episode.starts) == moments(12, 4) == [5, 6]
    whole = at(model.watch(clip), 5)
    for name, value in model.bare(whole).items():
        torch.testing.assert_close(episode.belief(5)[name], value, atol=1e-5, rtol=1e-4)
    assert set(episode.belief(5)) > set(episode.beliefs)  # memory is kept where it is gone on from, and only there
    assert all(len(value) == 13 for value in episode.beliefs.values())


def test_chance_acts_in_blocks():
    plain = by_chance(make("two_rooms", 1, 32, max_steps=9), ["pixels", "state"], "smooth", 9, seed=3)
    joined = by_chance(make("two_rooms", 1, 32, max_steps=9), ["pixels", "state"], "smooth", 3, seed=3, frame_skip=2)
    assert plain.clip.length == 9 and plain.truncated
    assert joined.clip.length == 3 and joined.clip.action.shape == (1, 3, 4)
    assert torch.equal(joined.clip.obs["state"], plain.clip.obs["state"][:, 0:7:2])
    assert torch.equal(joined.clip.action[0, 1], plain.clip.action[0, 2:4].flatten())
    assert joined.pictures is not None and plain.pictures is not None
    np.testing.assert_array_equal(joined.pictures, plain.pictures[0:7:2])


def test_blocks_leave_out_what_no_whole_block_holds():
    odd = by_chance(make("two_rooms", 1, 32, max_steps=7), ["pixels"], "uniform", 5, seed=3, frame_skip=2)
    assert odd.clip.length == 3 and odd.pictures is not None and len(odd.pictures) == 4
