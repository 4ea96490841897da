"""`Careful`: a cost by which neither a bad prediction nor a slow model can stop an agent from having an answer.

A planner refuses a row without any finite cost, as it should; an agent in the world must act all the same.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from innerworld.plan import Cost, Plan

HOPELESS = 1e30
"""Stands for the costs of a row in which none is finite: finite, so that the search goes on for the other rows."""


class Late(Exception):
    """There is no time for another look at the model before the deadline."""


class Careful:
    """Wrap a `cost`; raise `Late` rather than begin what would end after `deadline` (time.perf_counter(), seconds).

    `longest_s` is how long the slowest evaluation took: hand it from plan to plan, for the first one is not known.
    """

    def __init__(self, cost: Cost, deadline: float | None, longest_s: float = 0.0) -> None:
        self._cost, self._deadline, self.longest_s = cost, deadline, longest_s
        self._best: tuple[Tensor, Tensor] | None = None  # cost b, actions b h a: of the finite candidates so far

    def __call__(self, actions: Tensor) -> Tensor:
        began = time.perf_counter()
        if self._deadline is not None and began + self.longest_s > self._deadline:
            raise Late
        value = self._cost(actions)  # b n
        if value.shape == actions.shape[:2]:  # else the planner says what is wrong
            value = self._finite(value, actions)
        self.longest_s = max(self.longest_s, time.perf_counter() - began)
        return value

    def lost(self, plan: Plan) -> tuple[Tensor, Tensor]:
        """Of a plan made with this cost: its actions `b h a`, and which rows `b` never had a finite cost."""
        if self._best is None:
            return plan.actions, torch.zeros_like(plan.cost, dtype=torch.bool)
        hopeless = plan.cost >= HOPELESS
        cost, actions = self._best
        return torch.where(hopeless[:, None, None], actions, plan.actions), hopeless & ~cost.isfinite()

    def best(self) -> Tensor | None:
        """The cheapest of all candidates that were tried, `b h a`; none were: none. NaN in rows of which no candidate
        has a finite cost: there is nothing to choose by, and the agent does the safe action.

        Where hard bounds were raised as a barrier (`guardrail.barrier`) one that crosses costs more than any that does
        not: if there was one that holds, this is one.
        """
        if self._best is None:
            return None
        cost, actions = self._best
        return torch.where(cost.isfinite()[:, None, None], actions, torch.nan)

    def _finite(self, value: Tensor, actions: Tensor) -> Tensor:
        known = torch.where(value.isfinite(), value, torch.inf)
        cost, index = known.detach().min(dim=1)
        best = actions.detach()[torch.arange(len(index), device=index.device), index]
        if self._best is not None:
            better = cost < self._best[0]
            cost, best = (
                torch.where(better, cost, self._best[0]),
                torch.where(better[:, None, None], best, self._best[1]),
            )
        self._best = cost, best
        hopeless = known.isinf().all(dim=1, keepdim=True)
        # Times zero, so that a planner by gradient finds one; it takes what is not finite in it for none.
        return torch.where(hopeless, HOPELESS + 0 * torch.nan_to_num(value), known)
