"""The cross-entropy method (Rubinstein 1999; as in PlaNet, arXiv 1811.04551, and LeWorldModel, arXiv 2603.19312)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.plan.constraints import Constraint, free
from innerworld.plan.law import Law, begin, elite, populate
from innerworld.plan.noise import coloured
from innerworld.plan.plan import Cost, Plan, Planner, check_start
from innerworld.plan.trials import Trials, held, knots


class CEM(Planner):
    """Cross-entropy method: sample around a mean, keep the elites, narrow to them, repeat.

    The mean is always the first candidate of a round, as in DINO-WM, so that a warm start is never lost. Several
    `populations` search apart, the first from the start, the others from random draws around it, and the cheapest wins:
    for problems with several ways round. The budget (`samples`) is shared by them.
    """

    samples: int = Field(default=256, ge=2, description="candidates in a round, over all populations")
    rounds: int = Field(default=10, ge=1, description="rounds of sampling and narrowing")
    elites: int = Field(
        default=32, ge=1, description="cheapest candidates that shape the next round, over all populations"
    )
    init_std: float = Field(default=1.0, gt=0, description="standard deviation in the first round, in action units")
    min_std: float = Field(default=0.02, ge=0, description="floor of the standard deviation, in action units")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="share of the old mean and std kept in each round")
    noise_beta: float = Field(
        default=0.0, ge=0, description="exponent of the noise's spectrum: 0 white, 2 smooth in time"
    )
    populations: int = Field(default=1, ge=1, description="independent searches side by side")
    hold: int = Field(default=1, ge=1, description="steps for which each searched action is held")
    explore: float = Field(default=0.05, gt=0, le=1, description="least share of uniform choice, discrete actions only")
    answer: Literal["best", "mean"] = Field(
        default="best", description="return the cheapest candidate, or the final mean"
    )

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
        for _ in range(self.rounds):
            law = self._round(trials, law, coloured(rng, self.samples, around, self.noise_beta))
        if self.answer == "mean":
            return trials.plan_of(held(law.centre()[:, :, None], self.hold, self.horizon))
        return trials.plan()

    def _round(self, trials: Trials, law: Law, noise: Tensor) -> Law:
        candidates = law.sample(rearrange(noise, "b (p n) k a -> b p n k a", p=self.populations))
        candidates[:, :, 0] = law.centre()
        flat = trials(held(candidates, self.hold, self.horizon))  # b (p n)
        elites, costs = elite(candidates, flat.unflatten(1, (self.populations, -1)), self.elites // self.populations)
        return law.refit(elites, costs.isfinite().to(noise.dtype), self.momentum)


def check_shares(samples: int, elites: int, populations: int) -> None:
    """Raise `UserError` unless the candidates can be shared by the populations and contain the elites."""
    if elites > samples:
        raise UserError(f"elites ({elites}) cannot exceed samples ({samples}): lower elites or raise samples")
    if samples % populations or elites % populations:
        raise UserError(f"samples ({samples}) and elites ({elites}) must be multiples of populations ({populations})")


CEM.presets = {
    # Horizons are in blocks of 5 actions (Lesson.frame_skip) that are executed whole (agent.execute=5). LeWorldModel
    # takes 30 rounds on Push-T and 10 elsewhere, DINO-WM 10 on Wall.
    "lewm": CEM(horizon=5, samples=300, rounds=30, elites=30, init_std=1.0, min_std=0.0, answer="mean"),
    "dino_wm": CEM(horizon=5, samples=300, rounds=30, elites=30, init_std=1.0, min_std=0.0, answer="mean"),
    # 30 rounds in two-dimensional worlds; horizon 3 on DROID and for part of Meta-World.
    "jepa_wms": CEM(horizon=6, samples=300, rounds=15, elites=10, init_std=1.0, min_std=0.0, answer="mean"),
    # With Limits.presets["vjepa2_ac"]: an action unit is their largest way (0.075 m), and 1 for the gripper, so that
    # their first standard deviations are all 1. The paper's settings, then the defaults of the released code.
    "vjepa2_ac": CEM(horizon=1, samples=800, rounds=10, elites=10, momentum=0.15, min_std=0.0, answer="mean"),
    "vjepa2_ac_code": CEM(horizon=2, samples=400, rounds=10, elites=10, momentum=0.15, min_std=0.0, answer="mean"),
    # Two Rooms, with agent.power=1: 1 stands for their longest step, 2.45 pixels; they keep to that circle (l2_ball).
    "eb_jepa": CEM(horizon=90, samples=200, rounds=20, elites=20, init_std=1.5 / 2.45, min_std=0.0, answer="mean"),
    "planet": CEM(horizon=12, samples=1000, rounds=10, elites=100, init_std=1.0, min_std=0.0, answer="mean"),
}
"""The papers' settings; what they call frames skipped or action blocks is part of the action here."""
