"""What tests of drawn pictures share: episodes of the paddle's world, and a model that is this world."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.config import Config
from innerworld.data import About, Store, Uniform, collect
from innerworld.envs.paddle import STAY, PaddleConfig, PaddleVector
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

PADDLE = PaddleConfig(size=16, steps=60)
Know = Callable[..., WorldModel]


class KnowerConfig(Config):
    heeds: bool = True  # does it do what it is told, or stay, whatever it is told?
    lost: float = 0.0  # share of the light that its pictures lack: a codec with an error
    blur: float = 0.0  # how much farther from the truth each imagined step is: drift


class Knower(WorldModel):
    """Its state is the world's; it draws what the world would show."""

    Config = KnowerConfig
    card = Card(name="knower", predicts="pixels", decodes=True, backbone="the world", paper="-")

    def __init__(self, config: KnowerConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.settings = config
        self.world = PaddleVector(1, PADDLE)
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": obs["state"], "age": torch.zeros(len(obs["state"]))}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        done = action if self.settings.heeds else torch.eye(3)[torch.full((len(action),), STAY)]
        return {"z": self.world.dynamics()({"state": state["z"]}, done)["state"], "age": state["age"] + 1}

    def decode(self, state: State) -> dict[str, Tensor]:
        shown = torch.from_numpy(self.world.look(state["z"].numpy(), ["pixels"])["pixels"]).float() / 255
        dark = self.settings.lost + self.settings.blur * state["age"]
        return {"pixels": shown * (1 - dark[:, None, None, None])}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        z = clip.obs["state"]
        ahead = [self.predict(self.encode({"state": z[:, t]}), clip.action[:, t])["z"] for t in range(clip.length)]
        loss = (torch.stack(ahead, dim=1) - z[:, 1:]).square().mean() + 1
        return loss, {"state": loss}


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Store:
    worlds = PaddleVector(24, PADDLE)
    spec = Spec({"pixels": (16, 16, 3), "state": (6,)}, 3, discrete=True)
    store = Store.create(tmp_path_factory.mktemp("films") / "data", spec, About(env="paddle", policy="uniform"))
    collect(worlds, Uniform(spec), 24, store)
    return store


@pytest.fixture(scope="session")
def know(films: Store) -> Know:
    """Makes such a model with these settings."""
    return lambda **settings: Knower(KnowerConfig.model_validate(settings), films.spec)
