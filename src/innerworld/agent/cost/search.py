"""`Search`: what an actor searches with, the cost of candidates over all their futures, in every world or in some."""

from __future__ import annotations

from torch import Tensor

from innerworld.agent.cost.cost import judged
from innerworld.agent.modules import Foresight, Judge, Setting
from innerworld.plan import Cost
from innerworld.types import State, each


class Search:
    """The cost of candidates in every world, or in some."""

    def __init__(self, foresight: Foresight, judge: Judge, state: State, setting: Setting) -> None:
        self._asked = foresight, judge, state, setting
        self._cost: Cost = judged(foresight, judge, state, setting.goal, setting.weights)

    def __call__(self, actions: Tensor) -> Tensor:
        return self._cost(actions)

    def among(self, rows: Tensor) -> Search:
        """Of some worlds only (indices)."""
        foresight, judge, state, setting = self._asked
        return Search(foresight, judge, each(lambda value: value[rows], state), setting.rows(rows))
