"""`Searcher`: the actor's Mode-2. It searches with a planner, from where the last search ended, and always answers."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from innerworld.agent.actor.careful import Careful, Late
from innerworld.agent.modules import Decision, Setting, Situation
from innerworld.errors import UserError
from innerworld.plan import Planner, cold, generators, shift
from innerworld.types import Spec


class Searcher:
    """Search for the plan of least cost, all candidates of all worlds as one batch.

    `again` is the planner for all plans but the first, which has a warm start and may search less; it must have the
    same horizon. A row without any finite prediction is `degraded`, and so is every row when the search cannot end
    before the deadline: their actions mean nothing then.
    """

    def __init__(self, planner: Planner, spec: Spec, again: Planner | None = None) -> None:
        self.planner, self.again, self.spec = planner, again or planner, spec
        if self.again.horizon != planner.horizon:
            raise UserError(f"the planners' horizons differ: {planner.horizon} and {self.again.horizon}")
        self.horizon = planner.horizon
        self._longest_s = 0.0  # of an evaluation of the cost

    def begin(self, b: int, seed: int, first: int, device: torch.device) -> None:
        """An episode begins in `b` worlds, the first of which is number `first` of all that share the seed."""
        self._start = self._cold(b, device)
        self._rng: list[Generator] = generators(seed, first + b)[first:]
        self._fresh = True

    def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
        """Plan for the situation's worlds, which are those `rows` of all (indices; none: all).

        With a `start` `r h a` the search begins there, warm, instead of at the rest of the last plan. A row that is to
        begin anew begins cold all the same.
        """
        careful = Careful(situation.cost, situation.deadline, self._longest_s)
        rng = self._rng if rows is None else [self._rng[int(i)] for i in rows]
        left = self._start if rows is None else self._start[rows]
        warm = start is not None or not self._fresh
        start = self._begin_at(left if start is None else start, situation.setting)
        planner = _as_set(self.again if warm else self.planner, situation.setting, start.shape[1])
        try:
            plan = planner(careful, start, rng, self.spec.discrete, situation.constrain)
        except Late:
            return self._none(start, careful.best())
        finally:
            self._longest_s = careful.longest_s
        actions, degraded = careful.lost(plan)
        self._fresh = False
        return Decision(actions, degraded, torch.full_like(plan.cost, 2), plan, careful.best())

    def done(self, steps: int, decided: Tensor) -> None:
        """Of `decided` `b h a` so many steps will be done before the next search, which begins with the rest of it."""
        self._start = shift(decided, steps, self.spec.discrete)

    def keep(self, rows: Tensor) -> None:
        self._start = self._start[rows]
        self._rng = [self._rng[int(i)] for i in rows]

    def _begin_at(self, start: Tensor, setting: Setting) -> Tensor:
        """`b h a`: nothing where the search begins anew, and as long as the plan shall be."""
        if setting.anew is not None:
            nothing = self._cold(len(start), start.device, start.shape[1])
            start = torch.where(setting.anew[:, None, None], nothing, start)
        missing = (setting.horizon or self.horizon) - start.shape[1]
        if missing > 0:
            start = torch.cat([start, self._cold(len(start), start.device, missing)], dim=1)
        return start[:, : setting.horizon or self.horizon]

    def _cold(self, b: int, device: torch.device, steps: int | None = None) -> Tensor:
        return cold(b, steps or self.horizon, self.spec.action, self.spec.discrete, device)

    def _none(self, start: Tensor, spare: Tensor | None) -> Decision:
        late = torch.ones(len(start), dtype=torch.bool, device=start.device)
        mode = torch.full(late.shape, 2.0, device=start.device)
        return Decision(torch.zeros_like(start), late, mode, spare=spare)


def _as_set(planner: Planner, setting: Setting, horizon: int) -> Planner:
    """The planner with the effort and the horizon that the configurator has set."""
    changed: dict[str, int] = {} if horizon == planner.horizon else {"horizon": horizon}
    effort = setting.effort
    if effort != 1.0 and "rounds" in type(planner).model_fields:
        changed["rounds"] = max(1, math.ceil(planner.model_dump()["rounds"] * effort))
    return planner.model_copy(update=changed) if changed else planner
