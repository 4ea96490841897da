"""What a critic is made of: the network, and the returns that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from innerworld.nn.mlp import MLP
from innerworld.policy.returns import lambda_returns

REACH = 10.0  # deviations of an input beyond which it counts no more: imagined beliefs may lie far from any lived one
CHUNK = 65_536  # beliefs valued at once


class ValueNet(nn.Module):
    """Inputs `... i` → values `...`, both learnt at mean 0 and deviation 1, whatever their size."""

    def __init__(self, width: int, units: int, layers: int) -> None:
        super().__init__()
        self.width = width
        self.net = MLP(width, units, layers, out_dim=1, outscale=0.0)  # at first it says 0
        self.mean: Tensor
        self.deviation: Tensor
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, seen: Tensor) -> Tensor:
        return self.standard(seen) * self.scale + self.centre

    def standard(self, seen: Tensor) -> Tensor:
        """Values in deviations of the returns from their mean."""
        return self.net(((seen - self.mean) / self.deviation).clamp(-REACH, REACH)).squeeze(-1)

    @torch.no_grad()
    def look(self, seen: Tensor) -> None:
        """What the inputs `n i` are like. One that never changes says nothing, and stays as it is."""
        deviation, mean = torch.std_mean(seen, dim=0, correction=0)
        self.mean = mean
        self.deviation = torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0)

    @torch.no_grad()
    def follow(self, returns: Tensor) -> None:
        """Take on the mean and the deviation of the returns.

        That moves all values with them at once, which is wanted: a cost that is nearly the same everywhere adds up to a
        mean of many deviations, and to get there by gradient takes as many times longer.
        """
        deviation, self.centre = torch.std_mean(returns, correction=0)
        self.scale = torch.where(deviation > 1e-6 * (1 + self.centre.abs()), deviation, 1.0)


@dataclass(frozen=True)
class Piece:
    """A stretch of an episode in which everything is finite."""

    number: int  # of the episode
    seen: Tensor  # t i
    cost: Tensor  # t
    ended: bool  # no cost comes after its last moment; else it was cut off

    def __len__(self) -> int:
        return len(self.cost)


class Returns:
    """What came, discounted, after each moment of p pieces from which something can be learnt."""

    def __init__(self, pieces: Sequence[Piece], discount: float) -> None:
        self.discount = discount
        self._all = torch.cat([piece.seen for piece in pieces])  # m i   moments one after another
        self._cost = pad_sequence([piece.cost for piece in pieces], batch_first=True)  # p t
        device = self._cost.device
        length = torch.tensor([len(piece) for piece in pieces], device=device)[:, None]
        ended = torch.tensor([piece.ended for piece in pieces], device=device)[:, None]
        time = torch.arange(self._cost.shape[1], device=device)
        self._lived = time < length  # p t
        self._last = time == length - 1
        self._ends = self._last & ended
        taught = (time < length - 1) | self._ends  # of the last one before a cut nothing is known
        self._taught = taught
        left = (length - 1 - time).clamp(min=0)
        self.guess = torch.where(ended, 0.0, discount**left)[taught]  # n   share of the return that is the critic's
        self.seen = self._all[taught[self._lived]]  # n i

    @torch.no_grad()
    def __call__(self, net: ValueNet, lam: float) -> Tensor:
        """The λ-returns of `seen`, `n`, as far as they were lived, then what `net` expects."""
        values = torch.zeros_like(self._cost)
        values[self._lived] = torch.cat([net(some) for some in self._all.split(CHUNK)])
        going = self.discount * (~self._ends[:, 1:]).float()
        found = torch.zeros_like(values)  # after an end comes nothing
        if values.shape[1] > 1:
            found[:, :-1] = lambda_returns(self._cost[:, 1:], going, values[:, 1:], lam, self._last[:, 1:])
        return found.masked_fill(self._ends, 0.0)[self._taught]
