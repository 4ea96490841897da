"""IMPALA's encoder: stages of convolution, maximum and residual blocks (Espeholt et al. 2018, arXiv 1802.01561)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class ImpalaEncoder(nn.Module):
    """Pictures float in [0, 1] `b c y x` → `b d`, d = `width`. Each stage halves the sides, rounding up."""

    def __init__(
        self, channels: int, size: tuple[int, int], stages: Sequence[int] = (16, 32, 32), blocks: int = 2
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_Stage(before, after, blocks) for before, after in pairwise([channels, *stages])))
        self.width = stages[-1] * math.prod(-(-side // 2 ** len(stages)) for side in size)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.stages(x - 0.5)).flatten(1)


class _Stage(nn.Sequential):
    def __init__(self, before: int, after: int, blocks: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(_Residual(after) for _ in range(blocks)),
        )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))
