"""Random shooting: the baseline that every planner must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.plan.constraints import Constraint, free
from innerworld.plan.law import begin
from innerworld.plan.noise import coloured
from innerworld.plan.plan import Cost, Plan, Planner, check_start
from innerworld.plan.trials import Trials, held, knots


class RandomShooting(Planner):
    """Try random plans once and keep the cheapest.

    Continuous actions are uniform in [-1, 1] at every step, discrete choices follow the probabilities in `start`. The
    start itself is the first candidate.
    """

    samples: int = Field(default=1024, ge=1, description="candidates")
    noise_beta: float = Field(
        default=0.0, ge=0, description="exponent of the noise's spectrum: 0 white, 2 smooth in time"
    )
    hold: int = Field(default=1, ge=1, description="steps for which each random action is held")

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
        around = knots(start, self.hold)  # b k a
        law = begin(around, discrete, init_std=1.0, min_std=0.0, explore=0.0, constrain=constrain)
        noise = coloured(rng, self.samples, around, self.noise_beta)  # b n k a
        if discrete:
            candidates = law.sample(noise[:, None])
        else:
            uniform = 2 * torch.special.ndtr(noise[:, None]) - 1  # by rank, and as smooth as the noise
            candidates = constrain(uniform)
        candidates[:, :, 0] = law.centre()
        trials = Trials(cost)
        trials(held(candidates, self.hold, self.horizon))
        return trials.plan()
