"""A user's own encoder passes; each mistake in it is named."""

from __future__ import annotations

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.perception import Encoder
from innerworld.testing import check_encoder
from innerworld.types import Clip, Obs, Spec

SPEC = Spec({"pixels": (8, 8, 3)}, 2)


class PatchesConfig(Config):
    dim: int = Field(default=8, description="width of a token")


class Patches(Encoder):
    """Learns to guess each patch's token from that of the frame before."""

    Config = PatchesConfig

    def __init__(self, config: PatchesConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.patch = nn.Conv2d(3, config.dim, 4, stride=4)
        self.guess = nn.Linear(config.dim, 48)

    def encode(self, obs: Obs) -> Tensor:
        return self.patch(self.picture(obs["pixels"])).flatten(2).mT

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        frames = clip.obs["pixels"].flatten(0, 1)
        target = F.unfold(self.picture(frames), 4, stride=4).mT
        error = F.mse_loss(self.guess(self.encode({"pixels": frames})), target)
        return error, {"patch": error.detach()}

    def picture(self, frames: Tensor) -> Tensor:
        return frames.permute(0, 3, 1, 2) / 255


def test_a_users_own_encoder_passes() -> None:
    check_encoder(lambda spec: Patches(PatchesConfig(), spec), SPEC)


class ForgetsTheTokens(Patches):
    def encode(self, obs: Obs) -> Tensor:
        return super().encode(obs).mean(dim=1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {"patch": torch.zeros(())}


class Leaks(Patches):
    def encode(self, obs: Obs) -> Tensor:
        tokens = super().encode(obs)
        return tokens - tokens.mean(dim=0)


class LeaksThroughBatchNorm(Patches):
    def encode(self, obs: Obs) -> Tensor:
        return F.batch_norm(super().encode(obs)[:, :1, :].squeeze(1), None, None, training=True)[:, None]

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {"patch": torch.zeros(())}


class PaintsOver(Patches):
    def encode(self, obs: Obs) -> Tensor:
        tokens = super().encode(obs)
        obs["pixels"].zero_()
        return tokens


class RollsDice(Patches):
    calls = 0

    def encode(self, obs: Obs) -> Tensor:
        RollsDice.calls += 1
        return super().encode(obs) + 1e-6 * RollsDice.calls


class KeepsTheGraph(Patches):
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        error, _ = super().loss(clip)
        return error, {"patch": error}


class Idle(Patches):
    def __init__(self, config: PatchesConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.idle = nn.Parameter(torch.zeros(3))


class LearnsNothing(Patches):
    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        error, parts = super().loss(clip)
        return 2 * error.detach() - error, parts


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (ForgetsTheTokens, r"encode gives shape \(3, 8\), expected \(b, s, d\)"),
        (Leaks, "a row of encode depends on other rows"),
        (LeaksThroughBatchNorm, "a row of encode depends on other rows"),
        (PaintsOver, "encode changed what it was shown"),
        (RollsDice, "encode differs under the same seed"),
        (KeepsTheGraph, "parts of the loss must be detached"),
        (Idle, "no gradient reaches 1 parameters, the first is idle"),
        (LearnsNothing, "one clip is not learnt"),
    ],
)
def test_a_mistake_is_named(wrong: type[Patches], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_encoder(lambda spec: wrong(PatchesConfig(), spec), SPEC)
