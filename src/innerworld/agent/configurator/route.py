"""`Route`: the goals of every world, one after another, and how near it came to the one it pursues."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.types import State, each
from innerworld.world import WorldModel, stack

NEVER = 2**62  # steps


class Route:
    """Goals on the way and the last one, each `b ...`; row i moves on by itself.

    It does so when it has spent the `steps` of a goal, or came to an energy below `near`, one for all goals on the way
    or one for each; a goal may lack either. No steps at all: only what is near counts.
    """

    def __init__(
        self,
        goals: Sequence[State],
        steps: Sequence[int | None] = (),
        near: float | Sequence[float | None] | None = None,
    ) -> None:
        on_the_way = len(goals) - 1
        check_via(on_the_way, steps, near)
        first = next(iter(goals[0].values()))
        b, device = len(first), first.device
        nears = [near] * on_the_way if near is None or isinstance(near, float | int) else list(near)
        self._goals = stack(list(goals))  # b m ...
        self.last = on_the_way  # number of the last goal
        self._near = torch.tensor([-torch.inf if n is None else n for n in nears], device=device)
        self._steps = torch.tensor([NEVER if n is None else n for n in steps], dtype=torch.long, device=device)
        self.at = torch.zeros(b, dtype=torch.long, device=device)  # which goal each row pursues
        self._spent = torch.zeros(b, dtype=torch.long, device=device)  # steps, on that goal
        self.first = torch.full((b,), torch.nan, device=device)  # energies to it
        self.least = torch.full((b,), torch.nan, device=device)
        self.energy = self.first
        self._done = torch.zeros(b, dtype=torch.bool, device=device)  # with its goal, whatever the energy is

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
        return torch.where(self.first > 0, self.least / self.first, 0 * self.first)

    def look(self, model: WorldModel, state: State) -> None:
        """Note how far each row's belief is from its goal."""
        self.energy = model.energy(state, self.goal)
        self.first = torch.where(self.first.isnan(), self.energy, self.first)
        self.least = torch.fmin(self.least, self.energy)

    def spend(self, steps: int) -> None:
        self._spent = self._spent + steps

    def leave(self, rows: Tensor) -> None:
        """Let these rows (`b` bool) be done with their goal on the way at the next `move_on`."""
        self._done = self._done | rows

    def finished(self, steps: int | None, near: float | None) -> Tensor:
        """Which rows have spent so many steps on the last goal, or are so near to it: `b` bool; `look` came before."""
        there = self._spent >= (NEVER if steps is None else steps)
        if near is not None:
            there = there | (self.least < near)
        return there & (self.at == self.last)

    def move_on(self, model: WorldModel, state: State) -> None:
        """Let the rows that are due pursue their next goal; `look` came before."""
        due = self._done
        if self.last:
            at = self.at.clamp(max=self.last - 1)
            due = due | (self.energy < self._near[at])
            if len(self._steps):
                due = due | (self._spent >= self._steps[at])
        due = due & (self.at < self.last)
        self._done = torch.zeros_like(due)
        if not bool(due.any()):
            return
        self.at = self.at + due
        self._spent = torch.where(due, 0, self._spent)
        self.first = self.first.masked_fill(due, torch.nan)
        self.least = self.least.masked_fill(due, torch.nan)
        self.look(model, state)

    def refresh(self, goals: Sequence[State], model: WorldModel, state: State) -> None:
        """The model's weights have changed: its beliefs of the goals now, and what it believes of the present.

        Energies of before are told in the unit of now, by what each row's present energy was and is: how near it came,
        relative to where it began, stays.
        """
        self._goals = stack(list(goals))
        energy = model.energy(state, self.goal)
        ratio = energy / self.energy
        ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
        self.first, self.least, self.energy = self.first * ratio, self.least * ratio, energy

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only (indices)."""
        self._goals = each(lambda goals: goals[rows], self._goals)
        self.at, self._spent, self.energy = self.at[rows], self._spent[rows], self.energy[rows]
        self.first, self.least, self._done = self.first[rows], self.least[rows], self._done[rows]


def check_via(on_the_way: int, steps: Sequence[int | None], near: float | Sequence[float | None] | None) -> None:
    """Raise `UserError` unless so many goals on the way can be told when to go on."""
    if on_the_way and not steps and near is None:
        raise UserError("goals on the way need agent.via_steps, or agent.via_energy: when to go on to the next")
    if steps and len(steps) != on_the_way:
        raise UserError(f"agent.via_steps gives steps for {len(steps)} goals on the way, there are {on_the_way}")
