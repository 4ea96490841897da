"""An actor's own eyes: what they remember is the same awake and in dreams, they learn, and the world does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models import MODELS, Dreamer
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.policy.actor_critic import ActorCritic, ActorCriticConfig
from innerworld.policy.sight import MEMORY, Sight, SightConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel, at, flatten

SPEC = Spec({"pixels": (4, 8, 1), "x": (3,)}, 2, discrete=True)
EYES = {"channels": (4, 8), "hidden": 8}


class Lamp(WorldModel):
    """A lamp is lit left or right when it is looked at first, never later; each step that way is rewarded.

    Its own features tell nothing of it.
    """

    card = Card(name="Lamp", predicts="pixels", decodes=True, backbone="none", paper="none")
    restarts = True

    class Config(Config):
        """Nothing to set."""

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        left = obs["pixels"].flatten(1).float().mean(1, keepdim=True) < 128  # whatever was seen, one of two
        lamp = torch.where(left, -1.0, 1.0)
        if state is None or action is None:
            return {"lamp": lamp, "move": torch.zeros_like(lamp), "lit": torch.ones_like(lamp)}
        return self.predict(state | {"lamp": lamp}, action)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        move = action[:, 1:] - action[:, :1]
        return {"lamp": state["lamp"], "move": move, "lit": torch.zeros_like(move)}

    def decode(self, state: State) -> dict[str, Tensor]:
        halves = torch.cat([state["lamp"] < 0, state["lamp"] > 0], dim=1) * state["lit"]  # b 2
        picture = halves.repeat_interleave(4, dim=1)[:, None, :, None].expand(-1, 4, -1, -1)
        return {"pixels": picture, "reward": (state["lamp"] * state["move"]).squeeze(1)}

    def features(self, state: State) -> Tensor:
        return state["lit"]

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["lamp"] - goal["lamp"]).abs().sum(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {}


@pytest.fixture
def dreamer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MODELS, "lamp", Lamp)

    def made(family: str = "lamp", spec: Spec = SPEC, **acting: Any) -> Dreamer:
        torch.manual_seed(0)
        small = {"units": 16, "layers": 1}
        its = {"actor": small, "critic": small, "sight": EYES, "horizon": 3, "discount": 0.8} | acting
        return Dreamer(DreamerConfig.model_validate({"family": family, "world": {}, "actor_critic": its}), spec)

    return made


def test_what_is_remembered_along_a_clip_is_what_one_look_after_another_leaves(dreamer) -> None:
    model, clip = dreamer().eval(), random_clip(SPEC, 3, 5)
    first = torch.zeros(3, 6, dtype=torch.bool)
    first[1, 2] = True
    for given in (clip, replace(clip, first=first)):
        along, one_by_one = model.watch(given), WorldModel.watch(model, given)
        for name in MEMORY:
            torch.testing.assert_close(along[name], one_by_one[name])
    assert not along["sight_h"][1, 2].any() and bool(along["sight_h"][1, 3].any())


def test_imagining_remembers_as_predicting_does(dreamer) -> None:
    model, clip = dreamer().eval(), random_clip(SPEC, 2, 3)
    state = at(model.watch(clip), 2)
    actions = torch.nn.functional.one_hot(torch.randint(2, (2, 1, 3)), 2).float()
    imagined = model.imagine(state, actions)
    for t in range(3):
        state = model.predict(state, actions[:, 0, t])
        then = {name: value[:, 0, t] for name, value in imagined.items()}
        assert bool(state["sight_h"].any())
        torch.testing.assert_close(then["sight_h"], state["sight_h"])
        torch.testing.assert_close(model.features(then), model.features(state))


def test_what_learns_saw_what_acted(dreamer) -> None:
    """The dream is dreamt without gradients and looked at once more with them: features and choices are the same."""
    model, clip = dreamer(starts=2), random_clip(SPEC, 3, 4)
    beliefs = {name: value[:, 3:] for name, value in model.watch(clip).items()}
    start = flatten(model.bare(beliefs), 2)
    trail = model.actor_critic.imagine(model, beliefs, model.features(start), Generator().manual_seed(1))
    roll = model.roll(beliefs, 3)
    torch.testing.assert_close(trail.features[0], model.features(start))
    for t in range(3):
        assert trail.features[t].requires_grad
        torch.testing.assert_close(trail.features[t + 1], model.features(roll(trail.actions[t], None)))
        chances = model.actor_critic.actor(trail.features[t]).latent.expected()
        torch.testing.assert_close(trail.choices[t].latent.expected(), chances)


def test_eyes_learn_and_the_world_does_not(dreamer) -> None:
    model = dreamer("diffusion", Spec({"pixels": (32, 32, 3)}, 2, discrete=True), horizon=2, starts=1)
    clip = random_clip(model.spec, 2, 3)
    beliefs = model.watch(clip)
    loss, parts = model.actor_critic.loss(model, beliefs, clip)
    (loss + model.actor_critic.critic(model.features(at(beliefs, 0))).mean().sum()).backward()
    assert bool(loss.isfinite()) and {"actor", "critic"} <= parts.keys()
    sight = model.sight
    assert sight is not None and all(bool(value.grad.any()) for value in sight.parameters() if value.grad is not None)
    assert all(value.grad is None for value in model.world.parameters())


@pytest.mark.slow
def test_a_mind_with_eyes_learns_what_the_worlds_features_hide(dreamer) -> None:
    """The lamp is seen once, and remembered while going its way; without eyes nobody knows which that is."""
    clip = random_clip(SPEC, 16, 1)
    clip.obs["pixels"][::2] = 20
    clip.obs["pixels"][1::2] = 200

    def learnt(**acting: Any) -> float:
        model = dreamer(**acting)
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        beliefs = {name: value[:, :1] for name, value in model.watch(clip).items()}
        for _ in range(80):
            optimiser.zero_grad()
            model.actor_critic.loss(model if model.sight else model.world, beliefs, clip)[0].backward()
            optimiser.step()
            model.actor_critic.follow()
        state, rewards = at(beliefs, 0), []
        for _ in range(3):
            state = model.predict(state, model.policy(state))
            rewards.append(model.prospects(state)[0])
        return float(torch.stack(rewards).mean())

    assert learnt() > 0.9
    assert abs(learnt(sight={})) < 0.1


@pytest.mark.parametrize(
    ("spec", "acting", "sentence"),
    [
        (Spec({"x": (3,)}, 2), {}, "there are none"),
        (Spec({"a": (8, 8, 1), "b": (4, 8, 1)}, 2), {}, "a, b are of different sizes: set actor_critic.sight.size"),
        (SPEC, {"sight": {"channels": (4, 4, 4)}}, "4×8 cannot be halved 3 times"),
        (SPEC, {"gradients": "dynamics"}, "gradients=dynamics: what is drawn has none"),
    ],
)
def test_mistakes(spec: Spec, acting: dict, sentence: str) -> None:
    its = ActorCriticConfig.model_validate({"sight": EYES} | acting)
    with pytest.raises(UserError, match=sentence):
        ActorCritic(its, 1, spec)


def test_a_world_that_draws_nothing_is_named() -> None:
    sight = Sight(SightConfig(channels=(4,)), SPEC)
    with pytest.raises(UserError, match="it does not draw pixels"):
        sight.pictures({"reward": torch.zeros(2)})
