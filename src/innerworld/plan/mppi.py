"""Model predictive path integral control (Williams et al. 2017), with elites as in TD-MPC2 (arXiv 2310.16828)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Generator, Tensor

from innerworld.plan.cem import check_shares
from innerworld.plan.constraints import Constraint, free
from innerworld.plan.law import begin, elite
from innerworld.plan.noise import coloured
from innerworld.plan.plan import Cost, Plan, Planner, check_start
from innerworld.plan.trials import Trials, held, knots


class MPPI(Planner):
    """Path integral: sample around a mean, weigh every elite by exp(-cost / temperature), move to the weighted mean.

    The temperature divides the cost. With `unit="spread"` it counts in standard deviations of the elites' costs, so it
    means the same for every cost; with `unit="cost"` it counts in the cost's own unit, as in the papers (some of which
    multiply instead: TD-MPC2's 0.5 is 2 here). `elites = samples` and `fixed_std` are Williams et al.'s original.
    """

    samples: int = Field(default=256, ge=2, description="candidates in a round")
    rounds: int = Field(default=8, ge=1, description="rounds of sampling and weighing")
    elites: int = Field(default=64, ge=1, description="cheapest candidates that are weighed")
    temperature: float = Field(default=0.5, gt=0, description="cost at which a weight falls to 1/e, in the unit below")
    unit: Literal["spread", "cost"] = Field(default="spread", description="what the temperature counts in")
    init_std: float = Field(default=1.0, gt=0, description="standard deviation in the first round, in action units")
    min_std: float = Field(default=0.05, ge=0, description="floor of the standard deviation, in action units")
    fixed_std: bool = Field(default=False, description="keep the first standard deviation in all rounds")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="share of the old mean and std kept in each round")
    noise_beta: float = Field(
        default=0.0, ge=0, description="exponent of the noise's spectrum: 0 white, 2 smooth in time"
    )
    hold: int = Field(default=1, ge=1, description="steps for which each searched action is held")
    explore: float = Field(default=0.05, gt=0, le=1, description="least share of uniform choice, discrete actions only")
    answer: Literal["best", "mean"] = Field(
        default="best", description="return the cheapest candidate, or the final mean"
    )

    @model_validator(mode="after")
    def _samples_contain_elites(self) -> Self:
        check_shares(self.samples, self.elites, populations=1)
        return self

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
        law = begin(around, discrete, self.init_std, self.min_std, self.explore, constrain)
        trials = Trials(cost)
        for _ in range(self.rounds):
            noise = coloured(rng, self.samples, around, self.noise_beta)
            candidates = law.sample(rearrange(noise, "b n k a -> b 1 n k a"))
            candidates[:, :, 0] = law.centre()  # a warm start is never lost
            costs = trials(held(candidates, self.hold, self.horizon))[:, None]  # b 1 n
            elites, costs = elite(candidates, costs, self.elites)
            law = law.refit(elites, self._weight(costs), self.momentum, self.fixed_std)
        if self.answer == "mean":
            return trials.plan_of(held(law.centre()[:, :, None], self.hold, self.horizon))
        return trials.plan()

    def _weight(self, cost: Tensor) -> Tensor:
        """Of elites that cost `b p k`, cheapest first; zero for infinity."""
        above = cost - cost[..., :1]
        if self.unit == "cost":
            return (-above / self.temperature).exp()
        finite = cost.isfinite()
        count = finite.sum(dim=-1, keepdim=True)
        known = torch.where(finite, above, 0)
        mean = known.sum(dim=-1, keepdim=True) / count
        spread = (torch.where(finite, known - mean, 0).square().sum(dim=-1, keepdim=True) / count).sqrt()
        return (-above / (self.temperature * spread).clamp(min=torch.finfo(cost.dtype).tiny)).exp()


def _summed(horizon: int, samples: int, temperature: float, variance: float, unit: float) -> MPPI:
    """A paper's setting whose cost is a sum over the steps (here: a mean), whose noise is given by its variance, and
    whose actions reach from -`unit` to `unit`. One round, all samples weighed, the spread kept."""
    return MPPI(
        horizon=horizon, samples=samples, elites=samples, rounds=1, temperature=temperature / horizon, unit="cost",
        init_std=variance**0.5 / unit, min_std=0.0, fixed_std=True, answer="mean",
    )  # fmt: skip


MPPI.presets = {
    # Without the 24 candidates of their policy: pass the policy's actions as `start`. They execute a random elite.
    "tdmpc2": MPPI(
        horizon=3, samples=512, rounds=6, elites=64, temperature=2.0, unit="cost", init_std=2.0, answer="mean"
    ),
    # Their code multiplies the cost by 0.005, so that all elites weigh nearly the same.
    "eb_jepa": MPPI(
        horizon=90, samples=200, rounds=20, elites=20, temperature=200.0, unit="cost", init_std=2.0, answer="mean"
    ),
    # PLDM's Wall (arXiv 2502.14819) and HWM's maze (arXiv 2604.03208), with agent.power=1: "sigma" is the variance in
    # their code, and their largest step is 2.45, 1, and 2.5 for a macro-action. Without MPPI's cost of the noise.
    "pldm": _summed(horizon=96, samples=2000, temperature=0.005, variance=12, unit=2.45),
    "hwm_low": _summed(horizon=50, samples=500, temperature=0.0025, variance=5, unit=1),
    "hwm_high": _summed(horizon=18, samples=2000, temperature=0.0025, variance=10, unit=2.5),
}
"""The papers' settings; standard deviations beyond 1 are theirs, and clipped with the actions."""
