"""`Route`: the goals of every world, one after another, and how near it came to the one it pursues."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.types import State, each
from innerworld.world import WorldModel, stack


class Route:
    """Goals on the way and the last one, each `b ...`; row i moves on by itself.

    It does so when it has spent the `steps` of a goal, or came to an energy below `near`. There are as many steps as
    goals on the way; none of them: only what is near counts.
    """

    def __init__(self, goals: Sequence[State], steps: Sequence[int] = (), near: float | None = None) -> None:
        on_the_way = len(goals) - 1
        if on_the_way and not steps and near is None:
            raise UserError("goals on the way need agent.via_steps, or agent.via_energy: when to go on to the next")
        if steps and len(steps) != on_the_way:
            raise UserError(f"agent.via_steps gives steps for {len(steps)} goals on the way, there are {on_the_way}")
        first = next(iter(goals[0].values()))
        b, device = len(first), first.device
        self._goals = stack(list(goals))  # b m ...
        self._last, self._near = on_the_way, near
        self._steps = torch.tensor(list(steps), device=device)
        self.at = torch.zeros(b, dtype=torch.long, device=device)  # which goal each row pursues
        self._spent = torch.zeros(b, dtype=torch.long, device=device)  # steps, on that goal
        self._first = torch.full((b,), torch.nan, device=device)  # energies to it
        self._least = torch.full((b,), torch.nan, device=device)
        self._energy = self._first

    @property
    def goal(self) -> State:
        """What each row pursues now: `b ...`."""
        row = torch.arange(len(self.at), device=self.at.device)
        return each(lambda goals: goals[row, self.at], self._goals)

    @property
    def closest(self) -> Tensor:
        """The least energy to its goal that each row came to, relative to where it began: `b`.

        1 means that it never came nearer, as when the goal cannot be reached; NaN that nothing was seen yet.
        """
        return torch.where(self._first > 0, self._least / self._first, 0 * self._first)

    def look(self, model: WorldModel, state: State) -> None:
        """Note how far each row's belief is from its goal."""
        self._energy = model.energy(state, self.goal)
        self._first = torch.where(self._first.isnan(), self._energy, self._first)
        self._least = torch.fmin(self._least, self._energy)

    def spend(self, steps: int) -> None:
        self._spent = self._spent + steps

    def move_on(self, model: WorldModel, state: State) -> None:
        """Let the rows that are due pursue their next goal; `look` came before."""
        due = torch.zeros_like(self.at, dtype=torch.bool)
        if len(self._steps):
            due = self._spent >= self._steps[self.at.clamp(max=self._last - 1)]
        if self._near is not None:
            due = due | (self._energy < self._near)
        due = due & (self.at < self._last)
        if not bool(due.any()):
            return
        self.at = self.at + due
        self._spent = torch.where(due, 0, self._spent)
        self._first = self._first.masked_fill(due, torch.nan)
        self._least = self._least.masked_fill(due, torch.nan)
        self.look(model, state)

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only (indices)."""
        self._goals = each(lambda goals: goals[rows], self._goals)
        self.at, self._spent, self._energy = self.at[rows], self._spent[rows], self._energy[rows]
        self._first, self._least = self._first[rows], self._least[rows]
