"""What acting brings: λ-returns, the weight of each imagined step, and the range by which advantages are divided."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innerworld.team import mean_of_all
from innerworld.types import Clip

LOW, HIGH = 0.05, 0.95  # quantiles of the returns between which they are said to range
RATE = 0.01  # at which that range follows


def lambda_returns(reward: Tensor, going: Tensor, value: Tensor, lam: float, cut: Tensor | None = None) -> Tensor:
    """The return from each of t steps, `... t`: reward, then λ of the next return and 1 - λ of the value there.

    `reward`, `going` and `value` are those of the state that the step leads to: what it brings, the discount from there
    on (0 where the world ends) and what is expected from there. Where `cut`, and after the last step, the value alone
    counts: time ran out, so the next step is no continuation (DreamerV3, arXiv 2301.04104, eq. 7).
    """
    share = torch.full_like(value, lam)  # of the next return
    if cut is not None:
        share = share.masked_fill(cut, 0)
    own, onward = reward + going * (1 - share) * value, going * share
    found = [value[..., -1]]
    for base, part in zip(reversed(own.unbind(-1)), reversed(onward.unbind(-1)), strict=True):
        found.append(base + part * found[-1])
    return torch.stack(found[:0:-1], dim=-1)


def lived_returns(clip: Clip, value: Tensor, discount: float, lam: float) -> tuple[Tensor, Tensor]:
    """The returns of the last k - 1 steps of a clip, and which of these steps were lived: `b k-1` each.

    `value` `b k` is what is expected from the last k beliefs, for λ < 1 and where the clip or an episode is cut off. A
    step into the next episode was not lived: its return means nothing.
    """
    steps = value.shape[1] - 1
    reward, terminated = clip.reward[:, -steps:].float(), clip.terminated[:, -steps:]
    going = discount * (~terminated).float()
    if clip.first is None:
        return lambda_returns(reward, going, value[:, 1:], lam), torch.ones_like(terminated)
    into_next = clip.first[:, -steps:]
    last = torch.cat([into_next[:, 1:], torch.zeros_like(into_next[:, :1])], dim=1)  # the one before
    return lambda_returns(reward, going, value[:, 1:], lam, last), ~into_next


def weights(going: Tensor, factor: float = 1.0) -> Tensor:
    """How much each of the states `... t` counts: the chance that the world has not ended there, discounted: `... t`.

    The first state's own continuation is in it: what is imagined after an end never happens (a known trap).
    """
    return (going * factor).cumprod(dim=-1) / factor


class ReturnScale(nn.Module):
    """The range of returns, 5th to 95th percentile, followed slowly from 0; never below 1 (DreamerV3, eq. 8).

    Sparse rewards are not blown up: small returns keep their size, large ones are divided. All of it is in buffers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self) -> Tensor:
        """What to divide by, a scalar."""
        return (self.high - self.low).clamp(min=1)

    @torch.no_grad()
    def follow(self, returns: Tensor) -> None:
        """Move towards the range of these `returns`; over several processes, the mean of their ranges."""
        share = torch.tensor((LOW, HIGH), device=returns.device)
        now = mean_of_all(torch.quantile(returns.detach().float().flatten(), share))
        for bound, value in zip((self.low, self.high), now, strict=True):
            bound.lerp_(value, RATE)
