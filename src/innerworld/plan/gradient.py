"""Planning by gradient: descend the cost through the model from several starts (as in JEPA-WMs, arXiv 2512.24497)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Generator, Tensor

from innerworld.energy.descend import descend
from innerworld.energy.scalar import anywhere
from innerworld.plan.constraints import Constraint, free
from innerworld.plan.noise import coloured
from innerworld.plan.plan import Cost, Plan, Planner, check_start, one_hot
from innerworld.plan.trials import Trials


class Gradient(Planner):
    """Gradient descent on the actions from several starts at once; needs a cost that is differentiable.

    Continuous actions are clipped to [-1, 1] and constrained after every step. Discrete ones are logits whose likeliest
    choice is tried and whose gradient is the softmax's (straight-through, arXiv 1308.3432). The first restart begins at
    `start` itself.
    """

    samples: int = Field(default=16, ge=1, description="restarts side by side")
    rounds: int = Field(default=60, ge=1, description="gradient steps")
    optimiser: Literal["adam", "sgd"] = Field(default="adam", description="rule of the gradient step")
    lr: float = Field(default=0.1, gt=0, description="step size: action units for adam, per unit of gradient for sgd")
    init_std: float = Field(default=0.5, ge=0, description="spread of the restarts, in action units (or logits)")
    noise_beta: float = Field(
        default=0.0, ge=0, description="exponent of the restarts' spectrum: 0 white, 2 smooth in time"
    )
    noise_std: float = Field(default=0.0, ge=0, description="noise added after every step, in action units (or logits)")

    def __call__(
        self,
        cost: Cost,
        start: Tensor,
        rng: Sequence[Generator],
        discrete: bool = False,
        constrain: Constraint = free,
    ) -> Plan:
        check_start(self.horizon, start, rng, discrete, constrain)
        trials = Trials(cost)

        def perturb(x: Tensor) -> Tensor:
            if self.noise_std == 0:
                return x
            noise = self.noise_std * coloured(rng, self.samples, start)
            noise[:, 0] = 0
            return x + noise

        descend(
            lambda x: trials(_straight_through(x) if discrete else x),
            self._restarts(start.detach(), rng, discrete),
            self.rounds - 1,  # the restarts themselves are tried in the first round
            self.lr,
            self.optimiser,
            project=anywhere if discrete else lambda x: constrain(x.clamp(-1, 1)),
            perturb=perturb,
            tolerance=None,  # all rounds, as other planners do
        )
        return trials.plan()

    def _restarts(self, start: Tensor, rng: Sequence[Generator], discrete: bool) -> Tensor:
        noise = self.init_std * coloured(rng, self.samples, start, self.noise_beta)  # b n h a
        noise[:, 0] = 0
        return (start[:, None].clamp(min=1e-3).log() if discrete else start[:, None]) + noise


def _straight_through(logits: Tensor) -> Tensor:
    soft = logits.softmax(dim=-1)
    hard = one_hot(logits.argmax(dim=-1), logits.shape[-1], like=logits)
    return hard + (soft - soft.detach())  # exactly one-hot in value


Gradient.presets = {
    "jepa_wms": Gradient(horizon=6, samples=1, rounds=500, lr=1.0, noise_std=0.003),
    "dino_wm": Gradient(horizon=5, samples=1, rounds=1000, optimiser="sgd", lr=1.0),
}
"""The papers' settings, which use one restart."""
