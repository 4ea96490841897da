"""iCEM, the sample-efficient cross-entropy method (Pinneri et al. 2020, arXiv 2008.06389)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Generator, Tensor

from innerworld.plan.cem import check_shares
from innerworld.plan.constraints import Constraint, free
from innerworld.plan.law import Law, begin, elite, populate
from innerworld.plan.noise import coloured
from innerworld.plan.plan import Cost, Plan, Planner, check_start
from innerworld.plan.trials import Trials, held, knots


class ICEM(Planner):
    """Cross-entropy method with noise that is smooth in time, fewer samples each round, and elites that are kept.

    Deviations from the paper: elites are kept within a call but not from one call to the next, because a planner keeps
    no state (the shifted plan in `start` stands for them); the mean is tried in the first round too, not only in the
    last, so that a warm start is never lost; the cost of a kept elite is remembered, not measured again.
    """

    samples: int = Field(default=256, ge=2, description="candidates in the first round, over all populations")
    rounds: int = Field(default=8, ge=1, description="rounds of sampling and narrowing")
    elites: int = Field(
        default=24, ge=1, description="cheapest candidates that shape the next round, over all populations"
    )
    init_std: float = Field(default=1.0, gt=0, description="standard deviation in the first round, in action units")
    min_std: float = Field(default=0.02, ge=0, description="floor of the standard deviation, in action units")
    momentum: float = Field(default=0.1, ge=0, lt=1, description="share of the old mean and std kept in each round")
    noise_beta: float = Field(
        default=2.0, ge=0, description="exponent of the noise's spectrum: 0 white, 2 smooth in time"
    )
    decay: float = Field(default=1.25, ge=1, description="factor by which the candidates shrink in each round")
    keep: float = Field(default=0.3, ge=0, le=1, description="share of the elites that compete again in the next round")
    populations: int = Field(default=1, ge=1, description="independent searches side by side")
    hold: int = Field(default=1, ge=1, description="steps for which each searched action is held")
    explore: float = Field(default=0.05, gt=0, le=1, description="least share of uniform choice, discrete actions only")

    @model_validator(mode="after")
    def _populations_share_the_budget(self) -> Self:
        check_shares(self.samples, self.elites, self.populations)
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
        law = populate(law, self.populations, rng, around)
        trials = Trials(cost)
        kept = None
        for r in range(self.rounds):
            noise = coloured(rng, self.populations * self._fresh(r), around, self.noise_beta)
            candidates = law.sample(rearrange(noise, "b (p n) k a -> b p n k a", p=self.populations))
            if r in (0, self.rounds - 1):
                candidates[:, :, 0] = law.centre()
            law, kept = self._narrow(trials, law, candidates, kept)
        return trials.plan()

    def _fresh(self, r: int) -> int:
        """New candidates of each population in round r: they shrink, but to no less than twice the elites."""
        each = self.samples // self.populations
        return max(int(each * self.decay**-r), min(2 * self.elites // self.populations, each))

    def _narrow(
        self, trials: Trials, law: Law, candidates: Tensor, kept: tuple[Tensor, Tensor] | None
    ) -> tuple[Law, tuple[Tensor, Tensor]]:
        costs = trials(held(candidates, self.hold, self.horizon)).unflatten(1, (self.populations, -1))  # b p n
        if kept is not None:
            candidates = torch.cat([candidates, kept[0]], dim=2)
            costs = torch.cat([costs, kept[1]], dim=2)
        k = self.elites // self.populations
        elites, costs = elite(candidates, costs, k)
        law = law.refit(elites, costs.isfinite().to(elites.dtype), self.momentum)
        keep = int(self.keep * k)
        return law, (elites[:, :, :keep], costs[:, :, :keep])


ICEM.presets = {
    "pinneri": ICEM(horizon=30, samples=128, rounds=3, elites=10, init_std=0.5, min_std=0.0, noise_beta=2.5),
}
"""The settings that the paper shares by all tasks; its rounds and noise exponent are chosen for each task."""
