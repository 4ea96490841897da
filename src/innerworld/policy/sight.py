"""`Sight`: eyes and a memory of the actor's and the critic's own, taught by how they do (DIAMOND, arXiv 2405.12399)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.lstm import cell
from innerworld.nn.sensors import image_in
from innerworld.nn.unet import EPS, groups_of
from innerworld.types import Spec, State

MEMORY = ("sight_h", "sight_c")
"""What of a belief is a sight's: its memory before the picture that is seen there."""


class SightConfig(Config):
    channels: tuple[int, ...] = Field(
        default=(),
        description="channels of a convolution net of the actor's and critic's own, each at half the side of the one "
        "before; none: there is none, they read the world model's features",
    )
    hidden: int = Field(default=128, description="size of the memory behind it, an LSTM", ge=1)
    size: int | None = Field(default=None, description="side of the pictures it sees, pixels; null: as they are", ge=1)
    rate: float = Field(default=1.0, description="factor of the learning rate", gt=0)


class Sight(nn.Module):
    """Pictures, one after another, and a memory: `sight_h` and `sight_c`, `n d` each. Features are the next `sight_h`.

    It sees what the world model draws of a belief, so that it is in dreams what it is awake. Raises `UserError` for a
    world without pictures, pictures of different sizes, and those that cannot be halved so often.
    """

    def __init__(self, config: SightConfig, spec: Spec) -> None:
        super().__init__()
        self.size, self.hidden, self.names = config.size, config.hidden, spec.images()
        shapes = [spec.obs[name] for name in self.names]
        sizes = {shape[:2] if config.size is None else (config.size, config.size) for shape in shapes}
        if len(sizes) != 1:
            told = "are of different sizes: set actor_critic.sight.size" if sizes else "there are none"
            raise UserError(f"actor_critic.sight sees pictures, {', '.join(self.names)}{' ' if sizes else ''}{told}")
        ((y, x),) = sizes
        if min(y, x) >> len(config.channels) < 1:
            raise UserError(f"pictures of {y}×{x} cannot be halved {len(config.channels)} times: see sight.channels")
        self.shape = (sum(shape[2] for shape in shapes), y, x)
        layers: list[nn.Module] = [nn.Conv2d(self.shape[0], config.channels[0], 3, padding=1)]
        for before, after in zip(config.channels[:1] + config.channels, config.channels, strict=False):
            layers += [_Block(before, after), nn.MaxPool2d(2)]
            y, x = y // 2, x // 2
        self.net = nn.Sequential(*layers)
        self.memory = cell(config.channels[-1] * y * x, config.hidden)

    def pictures(self, told: Mapping[str, Tensor]) -> Tensor:
        """Of what is drawn, each image `n y x c` in [0, 1]: `n c y x` in [-1, 1], side by side in channels.

        Raises `UserError` for a world model that draws none of them.
        """
        if missing := [name for name in self.names if name not in told]:
            raise UserError(f"actor_critic.sight sees what the world model draws, and it does not draw {missing[0]}")
        return torch.cat([image_in(told[name], self.size) for name in self.names], dim=1) * 2 - 1

    def blank(self, n: int) -> State:
        """The memory of n that have seen nothing."""
        none = self.memory.weight_hh.new_zeros(n, self.hidden)
        return dict.fromkeys(MEMORY, none)

    def see(self, pictures: Tensor, memory: Mapping[str, Tensor]) -> State:
        """The memory after pictures `n c y x`."""
        return self._remember(self._look(pictures), memory)

    def features(self, pictures: Tensor, memory: Mapping[str, Tensor]) -> list[Tensor]:
        """After each of t pictures in a row, `t n c y x`: t of `n d`."""
        found = []
        for seen in self._look(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2]):
            memory = self._remember(seen, memory)
            found.append(memory["sight_h"])
        return found

    def along(self, pictures: Tensor, begun: State, first: Tensor | None) -> State:
        """The memory before each of the pictures of clips, `b t c y x`: `b t d`. Before the first of them it is
        `begun`, and it is blank where an episode begins (`first`, `b t`)."""
        b, t = pictures.shape[:2]
        seen = self._look(pictures.flatten(0, 1)).unflatten(0, (b, t))
        steps = [begun]
        for i in range(t - 1):
            after = self._remember(seen[:, i], steps[-1])
            lives = 1.0 if first is None else ~first[:, i + 1, None]
            steps.append({name: value * lives for name, value in after.items()})
        return {name: torch.stack([step[name] for step in steps], dim=1) for name in MEMORY}

    def _look(self, pictures: Tensor) -> Tensor:
        return self.net(pictures).flatten(1)

    def _remember(self, seen: Tensor, memory: Mapping[str, Tensor]) -> State:
        return dict(zip(MEMORY, self.memory(seen, tuple(memory[name] for name in MEMORY)), strict=True))


def memory_in(state: State) -> State:
    """What of a belief is a sight's; nothing where there is none."""
    return {name: state[name] for name in MEMORY if name in state}


class _Block(nn.Module):
    """Norm, activation and convolution, beside a way past them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(before), before, eps=EPS)
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.past = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.past(x) + self.conv(F.silu(self.norm(x)))
