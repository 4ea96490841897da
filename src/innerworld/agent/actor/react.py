"""`Reactor`: an agent that does not search: it looks, believes, and does what its policy says (Mode-1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel, choose_rows


class BeliefPolicy(Protocol):
    """A belief `b ...` → an action `b a`; with `rng` a draw, without it the most likely one."""

    def __call__(self, state: State, rng: Generator | None = None) -> Tensor: ...


class Reactor:
    """Perceives with the model, keeps the belief, acts with the policy; row i stands for world i.

    `state` is what is believed now, `b ...`, and `action` what was done last: what a replay keeps. With `sample`
    beliefs and actions are drawn, as those are that a policy learns on; without, both are the most likely ones.
    Nothing here tracks gradients, and a model that is being taught stays in its training mode.
    """

    state: State
    action: Tensor

    def __init__(self, model: WorldModel, policy: BeliefPolicy, sample: bool = True, seed: int = 0) -> None:
        self.model, self.policy, self.sample, self.seed = model, policy, sample, seed
        self._rng: Generator | None = None
        self._fresh: Tensor | None = None  # b   rows that have looked since they last acted

    def begin(self, obs: Obs) -> None:
        """A new episode in every world: what is seen first, each `b ...`."""
        first = next(iter(obs.values()))
        if self._rng is None:
            self._rng = Generator(device=first.device).manual_seed(self.seed)
        with torch.no_grad(), looking(self.model):
            self.state = self.model.encode(obs)
        self._fresh = torch.ones(len(first), dtype=torch.bool, device=first.device)

    def begin_rows(self, rows: Tensor, obs: Obs) -> None:
        """A new episode in some of the worlds: their numbers `r`, and what is seen first in these, each `r ...`."""
        fresh = self._begun()
        if not len(rows):
            return
        with torch.no_grad(), looking(self.model):
            anew = self.model.encode(obs)
        self.state = {name: value.index_copy(0, rows, anew[name]) for name, value in self.state.items()}
        self._fresh = fresh.index_fill(0, rows, True)

    def act(self, obs: Obs) -> Tensor:
        """The next action of every world, `b a`; `obs` is what is seen now, each `b ...` (at first: as begun with)."""
        fresh = self._begun()
        with torch.no_grad(), looking(self.model):
            if not bool(fresh.all()):
                self.state = self._believe(obs, fresh)
            rng = self._rng if self.sample else None
            if rng is not None:
                self.state = self.model.drawn(self.state, rng)
            self.action = self.policy(self.state, rng)
        self._fresh = torch.zeros_like(fresh)
        return self.action

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (`rows`: indices)."""
        self._fresh = self._begun()[rows]
        self.state = each(lambda value: value[rows], self.state)
        if not bool(self._fresh.all()):
            self.action = self.action[rows]

    def _believe(self, obs: Obs, fresh: Tensor) -> State:
        """After looking; a row that has begun anew has looked already."""
        state = self.model.encode(obs, self.state, self.action)
        return choose_rows(fresh, self.state, state) if bool(fresh.any()) else state

    def _begun(self) -> Tensor:
        if self._fresh is None:
            raise UserError("an agent must begin before it can act: call begin with what is seen first")
        return self._fresh


@contextmanager
def looking(model: WorldModel) -> Iterator[None]:
    """Within, the model is as it is when it is used; afterwards it goes on learning if it was."""
    learning = model.training
    if learning:
        model.eval()
    try:
        yield
    finally:
        if learning:
            model.train()
