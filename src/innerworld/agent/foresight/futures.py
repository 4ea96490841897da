"""Foresight: the world model as a source of plausible futures: the likeliest one, several draws, or several models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from innerworld.agent.foresight.ensemble import Ensemble
from innerworld.agent.foresight.luck import SameLuck
from innerworld.agent.modules import Foresight, Imagined
from innerworld.errors import UserError
from innerworld.types import State, each
from innerworld.world import WorldModel, stack

logger = logging.getLogger(__name__)


class OneFuture:
    """The likeliest future of every candidate."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        return [Imagined(self.model, state, self.model.imagine(state, actions), actions, goal)]


class Sampled:
    """`k` futures drawn from the model, each under its own luck, which is the same for all candidates and worlds.

    So candidates are compared by what they do and not by what befell them, and a plan that is judged again, alone, has
    the same futures. That holds for all that a model draws row by row as most do (see `SameLuck`). A model whose
    futures do not vary is said so, once.
    """

    def __init__(self, model: WorldModel, k: int = 8, seed: int = 0) -> None:
        if k < 1:
            raise UserError(f"k={k} futures are none: give at least 1")
        self.model, self.copies = model, k
        self._seeds = torch.randint(2**62, (k,), generator=Generator().manual_seed(seed)).tolist()
        self._told = k == 1

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        futures = [Imagined(self.model, state, self._draw(state, actions, s), actions, goal) for s in self._seeds]
        if not self._told:
            self._told = True
            first, second = futures[0].states, futures[1].states
            if all(torch.equal(value, second[name]) for name, value in first.items()):
                logger.warning(
                    "%s draws the same future every time: of %d samples one is enough",
                    self.model.card.name,
                    self.copies,
                )
        return futures

    def _draw(self, state: State, actions: Tensor, seed: int) -> State:
        """One future of every candidate, each `b n h ...`."""
        b, n, h, _ = actions.shape
        roll = self.model.roll(each(lambda value: value[:, None].expand(-1, n, *value.shape[1:]), state), h)
        rng = Generator(actions.device).manual_seed(seed)
        flat = actions.flatten(0, 1)
        with SameLuck(rng, b * n):
            states = stack([roll(flat[:, t], rng) for t in range(h)])
        return each(lambda value: value.unflatten(0, (b, n)), states)


class Members:
    """One future from each member of an ensemble: they agree where they have learnt, and less where they have not."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        goals = [None] * len(self.ensemble.members) if goal is None else self.ensemble.parts(goal)
        return [
            Imagined(model, own, model.imagine(own, actions), actions, wanted)
            for model, own, wanted in zip(self.ensemble.members, self.ensemble.parts(state), goals, strict=True)
        ]


@runtime_checkable
class Several(Protocol):
    """A foresight that says how many times the belief it imagines for each candidate."""

    copies: int


def copies(foresight: Foresight) -> int:
    """As many beliefs of the state's size a step of a candidate needs; those that do not say so: one."""
    return foresight.copies if isinstance(foresight, Several) else 1
