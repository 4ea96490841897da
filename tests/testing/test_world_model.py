"""A user's own model, written outside the package, passes; each mistake in it is named."""

from __future__ import annotations

import pytest
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.testing import check_world_model
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

SPEC = Spec({"speed": (3,)}, 2)


class MineConfig(Config):
    dim: int = Field(default=8, description="size of the latent")


class Mine(WorldModel):
    """A recurrent belief with noise, as a user might write it."""

    Config = MineConfig
    card = Card(name="mine", predicts="latents", decodes=False, backbone="linear", paper="-")

    def __init__(self, config: MineConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.eyes = nn.Linear(spec.obs["speed"][0], config.dim)
        self.move = nn.Linear(config.dim + spec.action, config.dim)
        self.read = nn.Linear(config.dim, spec.obs["speed"][0])

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        z = self.eyes(obs["speed"])
        return {"z": z if state is None or action is None else z + 0.5 * self.predict(state, action)["z"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        z = torch.tanh(self.move(torch.cat([state["z"], action], dim=-1)))
        return {"z": z if rng is None else z + 0.1 * torch.randn(z.shape, generator=rng)}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        seen = self.read(self.watch(clip)["z"])
        error = F.mse_loss(seen, clip.obs["speed"])
        return error, {"read": error.detach()}


def test_a_users_own_model_passes() -> None:
    check_world_model(lambda spec: Mine(MineConfig(), spec), SPEC)


class LeaksThroughBatchNorm(Mine):
    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": F.batch_norm(super().encode(obs, state, action)["z"], None, None, training=True)}


class LeaksThroughAMean(Mine):
    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        z = super().predict(state, action, rng)["z"]
        return {"z": z - z.mean(dim=0, keepdim=True)}


class NeedsABatch(Mine):
    def energy(self, state: State, goal: State) -> Tensor:
        return super().energy(state, goal).mean()


class ForgetsAnEntry(Mine):
    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        found = super().encode(obs, state, action)
        return found if state is not None else found | {"first": found["z"]}


class MutatesItsState(Mine):
    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        after = super().predict(state, action, rng)
        state["z"].mul_(0.5)
        return after


class PaintsOver(Mine):
    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        found = super().encode(obs, state, action)
        obs["speed"].zero_()
        return found


class WatchesOtherwise(Mine):
    def watch(self, clip: Clip) -> State:
        return {"z": self.eyes(clip.obs["speed"])}


class ImaginesOtherwise(Mine):
    def imagine(self, state: State, actions: Tensor) -> State:
        return super().imagine(state, actions.roll(1, dims=2))


class DreamsOtherwise(Mine):
    def dream(self, state, policy, horizon, rng=None):
        states, actions = super().dream(state, policy, horizon, rng)
        return {"z": states["z"].flip(1)}, actions


class IgnoresItsPolicy(Mine):
    def dream(self, state, policy, horizon, rng=None):
        return super().dream(state, lambda state: policy(state) * 0, horizon, rng)


class IsNegative(Mine):
    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).mean(dim=-1)


class NeverArrives(Mine):
    def energy(self, state: State, goal: State) -> Tensor:
        return super().energy(state, goal) + 1


class SeesNoDifference(Mine):
    def energy(self, state: State, goal: State) -> Tensor:
        return super().energy(state, goal) * 0


class IgnoresItsGenerator(Mine):
    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        z = super().predict(state, action)["z"]
        return {"z": z if rng is None else z + torch.randn_like(z)}


class IsNeverSure(Mine):
    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        z = super().predict(state, action)["z"]
        return {"z": z + 1e-6 * torch.randn_like(z)}


class HasALossOfItsOwnMind(Mine):
    calls = 0

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        HasALossOfItsOwnMind.calls += 1
        error, parts = super().loss(clip)
        return error + 0.01 * HasALossOfItsOwnMind.calls, parts


class DecodesInSecret(Mine):
    def decode(self, state: State) -> dict[str, Tensor]:
        return {"speed": self.read(state["z"])}


class DecodesTheWrongShape(Mine):
    card = Card(name="mine", predicts="latents", decodes=True, backbone="linear", paper="-")

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"speed": state["z"]}


class PromisesToDecode(Mine):
    card = DecodesTheWrongShape.card


class HasAnIdlePart(Mine):
    def __init__(self, config: MineConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.idle = nn.Linear(2, 2)


class KeepsTheGraph(Mine):
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        error, _ = super().loss(clip)
        return error, {"read": error}


class NamesNoPart(Mine):
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return super().loss(clip)[0], {}


class LossPerRow(Mine):
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        error = (self.read(self.watch(clip)["z"]) - clip.obs["speed"]).square().mean(dim=(1, 2))
        return error, {"read": error.mean().detach()}


class LearnsUphill(Mine):
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        error, parts = super().loss(clip)
        return 2 * error.detach() - error, parts  # the right number, the wrong gradient


class HidesSomething(Mine):
    """What is not in `state_dict` is lost on disk."""

    def __init__(self, config: MineConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.offset = torch.randn(config.dim)

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": super().encode(obs, state, action)["z"] + self.offset}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (LeaksThroughBatchNorm, "a row of watch depends on other rows"),
        (LeaksThroughAMean, "a row of (watch|imagine) depends on other rows"),
        (NeedsABatch, r"energy has shape \(\), expected \(3,\)"),
        (ForgetsAnEntry, "encode with a past returns"),
        (MutatesItsState, "changed the state's z"),
        (PaintsOver, "encode changed what it was shown"),
        (WatchesOtherwise, "watch differs from encode step by step"),
        (ImaginesOtherwise, "imagine differs from a loop over predict"),
        (DreamsOtherwise, "dream differs from imagine"),
        (IgnoresItsPolicy, "dream did not take its policy's actions"),
        (IsNegative, "energy is negative somewhere"),
        (NeverArrives, "energy of a goal with itself is 1, not zero"),
        (SeesNoDifference, "a goal is not its own best match"),
        (IgnoresItsGenerator, "predict ignores its generator"),
        (IsNeverSure, "predict without a generator varies"),
        (HasALossOfItsOwnMind, "loss differs under the same seed"),
        (DecodesInSecret, "the card says decodes=False"),
        (DecodesTheWrongShape, r"decode: speed has shape \(3, 8\), expected \(3, 3\)"),
        (PromisesToDecode, "the card says decodes=True"),
        (HasAnIdlePart, "no gradient reaches 2 parameters, the first is idle.weight"),
        (KeepsTheGraph, "parts of the loss must be detached"),
        (NamesNoPart, "loss needs named scalar parts"),
        (LossPerRow, "expected a finite scalar"),
        (LearnsUphill, "one clip is not learnt"),
        (HidesSomething, "a loaded model thinks otherwise"),
    ],
)
def test_a_mistake_is_named(wrong: type[Mine], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_world_model(lambda spec: wrong(MineConfig(), spec), SPEC)


def test_a_random_clip_fits_its_spec() -> None:
    spec = Spec({"pixels": (8, 6, 3), "speed": (2,)}, 4, discrete=True)
    clip = random_clip(spec, b=2, t=3)
    assert clip.obs["pixels"].shape == (2, 4, 8, 6, 3) and clip.obs["pixels"].dtype == torch.uint8
    assert clip.action.sum(dim=-1).unique().tolist() == [1] and clip.action.unique().tolist() == [0, 1]
    assert bool((random_clip(SPEC, 4, 50).action.abs() <= 1).all())
    assert torch.equal(clip.action, random_clip(spec, 2, 3).action)
    assert not torch.equal(clip.action, random_clip(spec, 2, 3, seed=1).action)
    with pytest.raises(UserError):
        clip.cut(2, 2)
