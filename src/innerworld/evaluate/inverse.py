"""An inverse model: a small net that reads the action off two successive frames, taught on real transitions alone."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from innerworld.config import Config
from innerworld.data import Clips, Store
from innerworld.evaluate.frechet import shrunk
from innerworld.evaluate.untouched import same_random
from innerworld.nn.linear import Linear
from innerworld.nn.schedules import warmup_cosine
from innerworld.nn.sensors import to_uint8

PART = 256  # transitions that are read from a store, or looked at, together


class InverseConfig(Config):
    transitions: int = Field(default=4096, description="real transitions that it learns from", ge=2)
    steps: int = Field(default=300, description="steps of its training", ge=1)
    batch: int = Field(default=64, description="transitions in a step", ge=1)
    lr: float = Field(default=2e-3, description="highest learning rate", gt=0)
    channels: int = Field(default=16, description="of its first layer; doubled at each that follows", ge=1)
    features: int = Field(default=64, description="numbers that the action is read off", ge=1)
    seed: int = Field(default=0, description="of its first weights and its batches", ge=0)


class InverseModel(nn.Module):
    """Two frames → the action between them: logits where actions are choices, else the action itself."""

    def __init__(self, shape: tuple[int, ...], action: int, discrete: bool, config: InverseConfig) -> None:
        super().__init__()
        c, k = shape[0], config.channels
        self.discrete = discrete
        layers: list[nn.Module] = []
        for before, after in ((3 * c, k), (k, 2 * k), (2 * k, 2 * k)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(1, after), nn.SiLU()]
        places = -(-shape[1] // 8) * -(-shape[2] // 8)
        self.layers = nn.Sequential(*layers, nn.Flatten(), Linear(2 * k * places, config.features), nn.SiLU())
        self.head = Linear(config.features, action)

    def features(self, before: Tensor, after: Tensor) -> Tensor:
        """Frames `n c y x` in [0, 1] → `n d`."""
        return self.layers(torch.cat([before - 0.5, after - 0.5, 4 * (after - before)], dim=1))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        return self.head(self.features(before, after))

    @torch.no_grad()
    def read(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Films `b t+1 y x c` uint8 → what is read of each step, `b t a`, and the features, `b t d`."""
        b, t = frames.shape[0], frames.shape[1] - 1
        pairs = zip(*(_flat(film).split(PART) for film in (frames[:, :-1], frames[:, 1:])), strict=True)
        found = torch.cat([self.features(shrunk(before), shrunk(after)) for before, after in pairs])
        return self.head(found).unflatten(0, (b, t)), found.unflatten(0, (b, t))


def fit_inverse(
    store: Store,
    episodes: np.ndarray,
    sensor: str,
    discrete: bool,
    frame_skip: int = 1,
    config: InverseConfig = InverseConfig(),
) -> InverseModel:
    """Teach one on transitions of these episodes. Leaves torch's random state as it was.

    Raises `UserError` for episodes without a transition.
    """
    clips = Clips(store, episodes, 1, PART, config.seed, frame_skip, [sensor])
    shown, done = [], []
    for i in range(-(-config.transitions // PART)):  # each part is shrunk at once: whole pictures may not fit together
        part = clips.batch(i)
        shown.append(to_uint8(shrunk(_flat(part.obs[sensor]))))
        done.append(part.action[:, 0].clone())
    frames, action = torch.cat(shown).unflatten(0, (-1, 2)), torch.cat(done)
    with torch.enable_grad(), same_random(torch.device("cpu")):
        torch.manual_seed(config.seed)
        net = InverseModel(tuple(frames.shape[2:]), action.shape[1], discrete, config)
        optimiser = AdamW(net.parameters(), lr=config.lr)
        for step in range(config.steps):
            rows = torch.randint(len(frames), (config.batch,))
            optimiser.param_groups[0]["lr"] = warmup_cosine(step, config.steps, config.lr, config.steps // 20)
            optimiser.zero_grad()
            before, after = (frames[rows].float() / 255).unbind(dim=1)
            guess = net(before, after)
            loss = F.cross_entropy(guess, action[rows]) if discrete else F.mse_loss(guess, action[rows])
            loss.backward()
            optimiser.step()
    return net.eval()


def _flat(film: Tensor) -> Tensor:
    return film.reshape(-1, *film.shape[2:])
