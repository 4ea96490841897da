"""Guardrails: hard bounds that no plan may cross, and the barrier by which a search keeps away from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.agent.cost.strangeness import Disagreement
from innerworld.agent.cost.terms import Term
from innerworld.agent.modules import Imagined
from innerworld.errors import UserError

BARRIER = 1e12
"""What a plan costs at least that crosses a bound, and more than any other may: its square is still a float32."""

DEEPEST = 1e5
"""By so much a breach raises the barrier at most, in its own unit."""


@dataclass(frozen=True)
class Guardrail:
    """No step of a plan may cost more of `term` than `bound`, in the term's unit.

    `share` of the plausible futures may be so bad all the same: with 0.1 and 20 futures two of them. The term's own
    weight, shape and discount do not matter here.
    """

    term: Term
    bound: float
    share: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.bound):
            raise UserError(f"the guardrail on {self.term.name!r} has the bound {self.bound}: it must be finite")
        if not 0 <= self.share < 1:
            raise UserError(f"the guardrail on {self.term.name!r} has share={self.share}: at least 0, below 1")

    def breach(self, futures: Sequence[Imagined]) -> Tensor:
        """By how much the bound is crossed at the worst step, `b n`; 0 where it holds, infinite where that is unknown
        because a prediction is not finite."""
        if isinstance(self.term, Disagreement):
            return self._excess(self.term.among(futures))
        worst = torch.stack([self._excess(self.term(future)) for future in futures])  # f b n
        forgiven = int(self.share * len(futures) + 1e-9)
        return worst.amax(dim=0) if not forgiven else worst.sort(dim=0, descending=True).values[forgiven]

    def _excess(self, steps: Tensor) -> Tensor:
        """Steps `b n h` → `b n`."""
        above = (steps - self.bound).clamp(min=0)
        return torch.where(above.isnan(), torch.inf, above).amax(dim=2)


def barrier(cost: Tensor, breach: Tensor) -> Tensor:
    """Raise the cost `b n` of candidates that cross a bound above that of all which do not, by more the farther.

    It stays finite, so that a search which begins on the wrong side finds back: its gradient there is that of the
    breach alone. Infinite where the cost is not finite, or how far a bound is crossed is unknown.
    """
    deep = breach.clamp(max=DEEPEST)
    raised = (BARRIER * (1 + deep)).detach() + (deep - deep.detach())  # the second is zero but for its gradient
    allowed = torch.where(cost.isfinite(), cost.clamp(max=BARRIER / 2), torch.inf)
    lost = breach.isinf() | ~cost.isfinite()
    return torch.where(breach > 0, torch.where(lost, torch.inf, raised), allowed)
