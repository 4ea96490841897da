"""The checks of an agent's modules find what is wrong with one; ours pass them in tests/agent/test_modules.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from innerworld.agent import Cost, Director, Effort, GoalEnergy, Guardrail, OneFuture, Searcher, Senses, ShortTermMemory
from innerworld.agent.modules import Decision, Imagined, Situation
from innerworld.plan import RandomShooting
from innerworld.testing.agent import (
    check_actor,
    check_configurator,
    check_foresight,
    check_judge,
    check_memory,
    check_perception,
)
from innerworld.types import Obs, State
from innerworld.world import WorldModel


class Stares(Senses):
    """Never says that it saw nothing."""

    def look(self, obs: Obs, action: Tensor) -> None:
        super().look(obs, action)
        self.blind = torch.zeros_like(self.blind)


class Mixes(Senses):
    """Believes of one world what it sees of others."""

    def look(self, obs: Obs, action: Tensor) -> None:
        super().look(obs, action)
        self.state = {name: value - value.mean(dim=0) for name, value in self.state.items()}


class Hoards(ShortTermMemory):
    """Does not let worlds go."""

    def keep(self, rows: Tensor, ended: bool = True) -> None: ...


class Backward(ShortTermMemory):
    """Newest first."""

    def recall(self, last: int) -> list:
        return list(reversed(super().recall(last)))


class Wavers(OneFuture):
    """Another future each time."""

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        return super().__call__(state, actions + 0.1 * torch.randn(()), goal)


class Flattens(OneFuture):
    """Tells the last step only."""

    def __call__(self, state: State, actions: Tensor, goal: State | None) -> Sequence[Imagined]:
        (future,) = super().__call__(state, actions, goal)
        return [replace(future, states={name: value[:, :, -1] for name, value in future.states.items()})]


@dataclass(frozen=True)
class Denies(Cost):
    """Has bounds, and says that it has none."""

    @property
    def bounded(self) -> bool:
        return False


@dataclass(frozen=True)
class Hides(Cost):
    """Does not tell all of its parts."""

    def parts(self, futures: Sequence[Imagined], weights: Mapping[str, float]) -> dict[str, Tensor]:
        return dict(list(super().parts(futures, weights).items())[:1])


class Clings(Searcher):
    """Goes on to decide for worlds that have left."""

    def keep(self, rows: Tensor) -> None: ...


class Exaggerates(Searcher):
    """Does more than is allowed."""

    def decide(self, situation: Situation, rows: Tensor | None = None, start: Tensor | None = None) -> Decision:
        found = super().decide(situation, rows, start)
        return replace(found, actions=found.actions + 2)


class Lingers(Director):
    """Goes on to want something for worlds that have left."""

    def keep(self, rows: Tensor) -> None: ...


def searcher(kind: type[Searcher]) -> Callable[[WorldModel], Searcher]:
    return lambda model: kind(RandomShooting(horizon=3, samples=8), model.spec)


WRONG: list[tuple[Callable[[], None], str]] = [
    (lambda: check_perception(Stares), "does not say where a sensor was not finite"),
    (lambda: check_perception(Mixes), "changed what is believed of the worlds that stay"),
    (lambda: check_memory(Backward), "oldest first"),
    (lambda: check_memory(Hoards), "the worlds that have left"),
    (lambda: check_foresight(Wavers), "actions or goal are not those asked"),
    (lambda: check_foresight(Flattens), r"has shape \(3, 5, 2\), expected \(3, 5, 4, ...\)"),
    (
        lambda: check_judge(lambda model: Denies((GoalEnergy(),), (Guardrail(Effort(), 0.01),))),
        "says that there are no",
    ),
    (lambda: check_judge(lambda model: Hides((GoalEnergy(), Effort()))), "do not add up"),
    (lambda: check_actor(searcher(Exaggerates)), r"not in \[-1, 1\]"),
    (lambda: check_configurator(Lingers), "`closest` has shape"),
]


@pytest.mark.parametrize(("check", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_is_said(check: Callable[[], None], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check()


def test_an_actor_that_does_not_let_worlds_go() -> None:
    with pytest.raises(Exception, match=r"generators|size|shape"):
        check_actor(searcher(Clings))
