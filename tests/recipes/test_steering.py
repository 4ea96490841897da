"""Steered dreams: each action held is imagined as told, keys move the world and the dream alike, eyes open again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from innerworld.data.lives import Lives
from innerworld.envs import make, spec_of
from innerworld.errors import UserError
from innerworld.models.world_models import WorldModels
from innerworld.recipes.steering import Drive, actions_of, held, keys_of
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec
from innerworld.world import WorldModel

SPEC = Spec({"pixels": (32, 32, 3)}, 2)
CHOICES = Spec({"pixels": (32, 32, 3)}, 3, discrete=True)
TINY = WorldModels.Config(z=4, hidden=8, mixtures=2, image="strided", depth=2, stages=2, units=8, bins=9)


def tiny(spec: Spec) -> WorldModel:
    torch.manual_seed(0)
    return WorldModels(TINY, spec).eval()


def beside_the_world(steps: int = 50) -> Drive:
    worlds = make("two_rooms", 1, 32, max_steps=steps)
    shown = spec_of(worlds.single_observation_space, worlds.single_action_space)
    return Drive(tiny(SPEC), Lives(worlds, shown, 0))


@pytest.mark.parametrize("spec", [SPEC, CHOICES])
def test_an_action_held_is_imagined_again_and_again(spec: Spec):
    model = tiny(spec)
    belief = model.encode(random_clip(spec, 1, 1).at(0))
    every = held(model, belief, horizon=3)
    assert len(every) == (3 if spec.discrete else 5)
    named = dict(actions_of(spec))
    for one in every:
        state = belief
        for t in range(3):
            state = model.predict(state, named[one.name][None])
            torch.testing.assert_close(one.told["pixels"][t], model.decode(state)["pixels"][0], atol=1e-5, rtol=1e-4)


def test_who_does_not_act_cannot_be_steered():
    nobody = Spec({"pixels": (32, 32, 3)}, 0)
    assert actions_of(nobody) == []
    with pytest.raises(UserError, match="nobody acts"):
        keys_of(nobody)


def test_keys():
    def told(spec: Spec) -> dict[str, list[float]]:
        return {key: action.tolist() for key, action in keys_of(spec).items()}

    assert told(CHOICES) == {"space": [1, 0, 0], "0": [1, 0, 0], "1": [0, 1, 0], "2": [0, 0, 1]}
    assert told(SPEC) == {"space": [0, 0], "left": [-1, 0], "right": [1, 0], "up": [0, -1], "down": [0, 1]}


def test_the_world_and_the_dream_do_the_same():
    drive = beside_the_world()
    first, model = drive.dreamt, drive.model
    plan = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0])]
    for action in plan:
        drive.press(action)
    state = first
    for action in plan:
        state = model.predict(state, action[None])
    for name, value in state.items():
        torch.testing.assert_close(drive.dreamt[name], value)
    world = make("two_rooms", 1, 32)
    shown = spec_of(world.single_observation_space, world.single_action_space)
    lives = Lives(world, shown, 0)
    for action in plan:
        lives.step(action[None].numpy())
    np.testing.assert_array_equal(drive.picture()[:, :32], lives.obs["pixels"][0])


def test_opened_eyes_see_where_the_world_is():
    drive = beside_the_world()
    for _ in range(3):
        drive.press(torch.tensor([1.0, 1.0]))

    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return all(torch.equal(a[name], b[name]) for name in a)

    assert not same(drive.dreamt, drive.believed) and drive.blind == 3
    drive.look()
    assert same(drive.dreamt, drive.believed) and (drive.blind, drive.steps) == (0, 3)


def test_when_the_worlds_episode_ends_the_next_begins():
    drive = beside_the_world(steps=2)
    began = drive.picture()[:, :32]
    for _ in range(2):
        drive.press(torch.tensor([1.0, 0.0]))
    assert drive.over
    drive.press(torch.tensor([1.0, 0.0]))
    assert not drive.over and drive.steps == 0
    assert not np.array_equal(drive.picture()[:, :32], began)


def test_a_dream_alone_begins_again_with_its_first_picture():
    drive = Drive(tiny(SPEC), None, random_clip(SPEC, 1, 1).at(0))
    before = drive.picture()
    drive.press(torch.tensor([1.0, 0.0]))
    assert not np.array_equal(drive.picture(), before)
    drive.restart()
    np.testing.assert_array_equal(drive.picture(), before)
    assert before.shape == (32, 32, 3)


def test_a_drawn_dream_is_another():
    first = random_clip(SPEC, 1, 1).at(0)
    likely, drawn = (Drive(tiny(SPEC), None, first, rng) for rng in (None, torch.Generator().manual_seed(0)))
    for drive in (likely, drawn):
        drive.press(torch.tensor([1.0, 0.0]))
    assert not np.array_equal(likely.picture(), drawn.picture())


def test_what_cannot_be_driven_is_refused():
    with pytest.raises(UserError, match="needs a picture to begin with"):
        Drive(tiny(SPEC), None)
    with pytest.raises(UserError, match="has seen no pictures"):
        Drive(tiny(Spec({"speed": (3,)}, 2)), None, random_clip(Spec({"speed": (3,)}, 2), 1, 1).at(0))
