"""`Encoder`: eyes that learn alone, by predicting representations. Each family is a leaf of it in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from innerworld.config import Config
from innerworld.types import Clip, Obs, Spec


class Encoder(nn.Module, ABC):
    """Eyes with a face like a world model's: `encode` what is seen, `loss` to learn from. Subclass once."""

    Config: ClassVar[type[Config]]
    presets: ClassVar[dict[str, Config]] = {}

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec

    @abstractmethod
    def encode(self, obs: Obs) -> Tensor:
        """What is this? `obs` each `b ...` → tokens `b s d`."""

    @abstractmethod
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """How wrong was I? A scalar, and its named parts (detached scalars). The clip's actions are not looked at."""

    def after_step(self) -> None:
        """Called after every optimiser step: moving-average targets and the like."""
