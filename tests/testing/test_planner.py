from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.plan import PLANNERS, Constraint, Cost, Plan, Planner, free
from innerworld.plan.plan import check_start
from innerworld.plan.trials import Trials
from innerworld.testing.planner import check_planner

TOLERANCE = {"random": 0.45}  # uniform shooting in six dimensions comes no closer


@pytest.mark.parametrize("name", PLANNERS)
def test_every_planner_keeps_the_contract(name: str) -> None:
    check_planner(lambda: PLANNERS[name](horizon=3), TOLERANCE.get(name, 0.1))


class HillClimb(Planner):
    """A user's own planner: step at random from the best so far."""

    horizon: int = Field(default=3, description="length of a plan, in steps")
    step: float = Field(default=0.3, description="size of a step, in action units")
    shared_noise: bool = Field(default=False, description="a mistake: rows share a generator")
    forgets: bool = Field(default=False, description="a mistake: the start is not tried")
    breaks_bounds: bool = Field(default=False, description="a mistake: no clipping")
    mutates: bool = Field(default=False, description="a mistake: the start is changed")
    unlimited: bool = Field(default=False, description="a mistake: the constraint is not applied")

    @torch.no_grad()
    def __call__(
        self,
        cost: Cost,
        start: Tensor,
        rng: Sequence[Generator],
        discrete: bool = False,
        constrain: Constraint = free,
    ) -> Plan:
        check_start(self.horizon, start, rng, discrete, constrain)
        if self.mutates:
            start += 0.01
        trials, best = Trials(cost), start
        for r in range(40):
            rows = [rng[0 if self.shared_noise else row] for row in range(len(rng))]
            noise = torch.stack([torch.randn(32, *start.shape[1:], generator=row) for row in rows])
            around = best[:, None] + self.step * 0.93**r * noise
            if not self.breaks_bounds:
                around = around.clamp(-1, 1)
            if not self.forgets:
                around[:, 0] = best
            trials(around if self.unlimited else constrain(around))
            best = trials.plan().actions
        return trials.plan()


def test_a_users_own_planner_passes() -> None:
    check_planner(HillClimb, discrete=False)


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ({"shared_noise": True}, "alone"),
        ({"forgets": True}, "no better after one round"),
        ({"breaks_bounds": True}, "outside"),
        ({"mutates": True}, "changed its `start`"),
        ({"unlimited": True}, "a candidate breaks the constraint"),
        ({"step": 0.001}, "from the best one"),
    ],
)
def test_a_faulty_planner_is_named(mistake: dict, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_planner(lambda: HillClimb(**mistake), discrete=False)
