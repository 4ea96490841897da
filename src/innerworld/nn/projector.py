"""A projector between two spaces, as LeWorldModel has it behind its encoder and its predictor."""

from __future__ import annotations

from torch import Tensor, nn

from innerworld.nn.linear import Linear


class Projector(nn.Module):
    """Linear, BatchNorm over every leading axis, GELU, linear: `... d` → `... out`.

    BatchNorm, because the LayerNorm that ends a ViT would stand in SIGReg's way (arXiv 2603.19312).
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Linear(width, hidden), nn.BatchNorm1d(hidden), nn.GELU(), Linear(hidden, out))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
