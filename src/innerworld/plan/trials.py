"""Try candidates: one call of the cost for all rows, its answer checked, the best of each row remembered."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor

from innerworld.errors import UserError
from innerworld.plan.plan import Cost, Plan


class Trials:
    """The record of one search: call it once a round, then ask for the `plan`."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._actions: Tensor | None = None  # b h a
        self._best: list[Tensor] = []  # each b
        self._evaluations = 0

    def __call__(self, actions: Tensor) -> Tensor:
        """Cost of the candidates `b n h a` → `b n`, with infinity for NaN; remembers the best. Raises `UserError`."""
        cost = score(self._cost, actions)  # b n
        values, best = _best(actions.detach(), cost.detach())
        if self._actions is not None:
            better = values < self._best[-1]  # b
            best = torch.where(better[:, None, None], best, self._actions)
            values = torch.where(better, values, self._best[-1])
        self._actions = best
        self._best.append(values)
        self._evaluations += actions.shape[1]
        return cost

    def plan(self) -> Plan:
        """The best candidate tried."""
        if self._actions is None:
            raise RuntimeError("no candidates were tried")
        return Plan(self._actions, self._best[-1], torch.stack(self._best, dim=1), self._evaluations)

    def plan_of(self, actions: Tensor) -> Plan:
        """The best of these `b n h a`, whatever was tried before; one more call of the cost.

        A row in which none of them has a finite cost keeps the best candidate tried.
        """
        tried = self.plan()
        cost, best = _best(actions, _answer(self._cost, actions))
        lost = cost.isinf()  # b
        best = torch.where(lost[:, None, None], tried.actions, best)
        cost = torch.where(lost, tried.cost, cost)
        return Plan(best, cost, tried.history, tried.evaluations + actions.shape[1])


def score(cost: Cost, actions: Tensor) -> Tensor:
    """Cost of candidates `b n h a` → `b n`, with infinity for what is not finite.

    Raises `UserError` when the shape is wrong or a row has no finite cost.
    """
    value = _answer(cost, actions)
    lost = value.isinf().all(dim=1).nonzero()[:, 0].tolist()
    if lost:
        raise UserError(f"every candidate of row {lost[0]} costs NaN or infinity: check the model's predictions there")
    return value


def knots(start: Tensor, hold: int) -> Tensor:
    """Actions `b h a` → one knot for every `hold` steps, their mean; the last stretch may be shorter."""
    return torch.stack([stretch.mean(dim=1) for stretch in start.split(hold, dim=1)], dim=1)  # b k a


def held(knots: Tensor, hold: int, horizon: int) -> Tensor:
    """Hold each knot for `hold` steps and lay the populations side by side: `b p n k a` → `b (p n) h a`."""
    flat = rearrange(knots, "b p n k a -> b (p n) k a")
    return flat if hold == 1 else repeat(flat, "b n k a -> b n (k hold) a", hold=hold)[:, :, :horizon]


def _answer(cost: Cost, actions: Tensor) -> Tensor:
    value = cost(actions)
    if value.shape != actions.shape[:2]:
        raise UserError(
            f"the cost returned shape {tuple(value.shape)}, expected {tuple(actions.shape[:2])}: "
            "one number for each candidate (b, n)"
        )
    return torch.where(value.isfinite(), value.float(), torch.inf)


def _best(actions: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    value, index = cost.min(dim=1)
    row = torch.arange(len(index), device=index.device)
    return value, actions[row, index]  # b, b h a
