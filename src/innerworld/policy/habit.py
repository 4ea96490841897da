"""`Habit`: what to do toward a goal, in one forward pass, and how sure it is: heads that learnt apart (Mode-1).

The heads are an ensemble (Lakshminarayanan et al. 2017, arXiv 1612.01474). Beside each stands a random net that never
learns (Osband et al. 2018, arXiv 1806.03335): where they were taught all have learnt to make up for theirs and agree,
elsewhere each goes its own way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld import saved
from innerworld.config import Config, build
from innerworld.errors import UserError
from innerworld.nn.mlp import ACTIVATIONS, MLP, init_, norm_layer
from innerworld.policy.actor import Actor, ActorConfig, Choice
from innerworld.types import Spec

NAME = "habit"  # of its files
PRIOR_UNITS = 64
ROUND = 0.1  # errors below this are squared where the loss is absolute, action units
FLAT = 1e-3  # a feature whose deviation is below this share of the mean one counts as constant


class HabitConfig(Config):
    actor: ActorConfig = Field(
        default=ActorConfig(layers=2, units=128, norm="layer", outscale=1.0), description="each of the heads"
    )
    heads: int = Field(default=4, description="heads that learn apart; where they differ nobody taught them", ge=1)
    prior: float = Field(default=1.0, description="weight of the random net beside each head; 0: none", ge=0)
    goal: bool = Field(default=True, description="whether it is told a goal; else it knows one task only")
    difference: bool = Field(default=True, description="whether it also reads goal minus belief")
    loss: Literal["nll", "squared", "absolute"] = Field(
        default="nll",
        description="negative log-likelihood, or error of the mode: squared learns the labels' mean, absolute their "
        "median, so that the majority decides; of choices always the first",
    )


class Habit(nn.Module):
    """A policy of the features of a belief and of a goal, `WorldModel.features`, `b d` each, `width` = d.

    `fit` sets the statistics that both are standardised by. With `config.goal` false it takes no goal.
    """

    Config = HabitConfig
    centre: Tensor  # d
    scale: Tensor  # d
    fitted: Tensor  # bool

    def __init__(self, config: HabitConfig, width: int, spec: Spec) -> None:
        super().__init__()
        self.config, self.width, self.spec = config, width, spec
        parts = 1 + config.goal + (config.goal and config.difference)
        self.actor = Actor(config.actor, parts * width, spec)
        self.actor.net = cast(MLP, Heads(config, parts * width, spec.action if spec.discrete else 2 * spec.action))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Standardise by the mean and the deviation of these features, `n d`."""
        deviation = features.std(dim=0, correction=0)
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(torch.where(deviation > FLAT * deviation.mean(), deviation, deviation.mean()).clamp(min=1e-8))
        self.fitted.fill_(True)

    def forward(self, features: Tensor, goal: Tensor | None = None) -> Choice:
        """What each head would do, `e b a`. Raises `UserError` for features or a goal that do not fit."""
        return self.actor(self._read(features, goal))

    def loss(self, features: Tensor, goal: Tensor | None, action: Tensor) -> Tensor:
        """How far is that from the actions `b a` that it is to take? Soft labels may stand for choices."""
        choice, wanted = self(features, goal), action.expand(self.config.heads, -1, -1)
        if self.config.loss == "nll" or self.spec.discrete:
            return -choice.log_prob(wanted).mean()
        if self.config.loss == "squared":
            return F.mse_loss(choice.mode(), wanted)
        return F.smooth_l1_loss(choice.mode(), wanted, beta=ROUND)

    def act(self, features: Tensor, goal: Tensor | None = None) -> Tensor:
        """The heads' most likely action together, `b a`: the mean of theirs, or what most of them choose."""
        return self.advise(features, goal)[0]

    @torch.no_grad()
    def advise(self, features: Tensor, goal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The action `b a`, and how uncertain it is, `b`: the heads' deviation from their mean, in action units.

        Of choices it is 0 where all heads agree, and below 1.
        """
        modes = self(features, goal).mode()  # e b a
        mean = modes.mean(dim=0)
        apart = (modes - mean).square().sum(dim=-1).mean(dim=0).sqrt()
        if not self.spec.discrete:
            return mean.clamp(-1, 1), apart
        return F.one_hot(mean.argmax(dim=-1), mean.shape[-1]).to(mean.dtype), apart

    # ------------------------------------------------------------------ on the disk

    def save(self, folder: Path | str) -> None:
        """Write it, atomically, as `habit.json` and safetensors. Raises `UserError` when the disk refuses."""
        told = {
            "config": self.config.model_dump(mode="json"),
            "width": self.width,
            "action": self.spec.action,
            "discrete": self.spec.discrete,
        }
        saved.write(folder, NAME, self.state_dict(), told)

    @classmethod
    def load(cls, folder: Path | str, spec: Spec) -> Habit:
        """Read one that `save` wrote, for a world of `spec`; in eval mode. Raises `UserError`."""
        index = Path(folder) / f"{NAME}.json"
        if not index.exists():
            raise UserError(f"{folder} holds no habit: there is no {index.name} in it")
        tensors, told = saved.read(folder, NAME)
        try:
            config, width = build(HabitConfig, told["config"], str(index)), int(told["width"])
            action, discrete = int(told["action"]), bool(told["discrete"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{index} does not tell what the habit is like: distil it anew") from None
        if (action, discrete) != (spec.action, spec.discrete):
            own, wanted = _kind(action, discrete), _kind(spec.action, spec.discrete)
            raise UserError(f"the habit in {folder} acts by {own}, the model by {wanted}: distil one for it")
        with torch.random.fork_rng(devices=[]):  # drawing weights that are overwritten must not disturb the caller
            habit = cls(config, width, spec)
        try:
            habit.load_state_dict(tensors)
        except RuntimeError as error:
            raise UserError(f"the weights in {folder} do not fit {index.name}: {str(error).splitlines()[0]}") from None
        return habit.eval()

    # ------------------------------------------------------------------ below

    def _read(self, features: Tensor, goal: Tensor | None) -> Tensor:
        """What the heads are shown, `b i`."""
        if features.shape[-1] != self.width:
            raise UserError(f"the habit reads {self.width} features, these are {features.shape[-1]}: of another model?")
        here = (features - self.centre) / self.scale
        if not self.config.goal:
            if goal is not None:
                raise UserError("this habit was taught one task and takes no goal (config.goal=false)")
            return here
        if goal is None:
            raise UserError("this habit pursues goals, and the task has none: give it a goal, or another policy")
        there = (goal - self.centre) / self.scale
        return torch.cat([here, there, there - here] if self.config.difference else [here, there], dim=-1)


class Heads(nn.Module):
    """An ensemble of nets side by side, and beside each a random one that stays as it is: `b i` → `e b o`.

    They share the norms' gains and nothing else. All heads are one product for each layer: a forward pass of one row
    costs little more than that of a single net.
    """

    def __init__(self, config: HabitConfig, width: int, out: int) -> None:
        super().__init__()
        actor, self.heads, self.weight = config.actor, config.heads, config.prior
        layers: list[nn.Module] = []
        for i in range(actor.layers):
            layers += [
                _Linears(self.heads, actor.units if i else width, actor.units),
                norm_layer(actor.norm, actor.units),
            ]
            layers.append(ACTIVATIONS[actor.activation]())
        self.nets = nn.Sequential(*layers, _Linears(self.heads, actor.units, out, actor.outscale))
        prior = (_Linears(self.heads, width, PRIOR_UNITS), nn.SiLU(), _Linears(self.heads, PRIOR_UNITS, out))
        self.prior = nn.Sequential(*(prior if config.prior else ())).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(self.heads, -1, -1)
        return self.nets(x) + self.weight * self.prior(x) if self.weight else self.nets(x)


class _Linears(nn.Module):
    """e linear maps side by side: `e b i` → `e b o`."""

    def __init__(self, heads: int, i: int, o: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, i, o))
        self.bias = nn.Parameter(torch.zeros(heads, 1, o))
        init_(self.weight, i, scale)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


def _kind(action: int, discrete: bool) -> str:
    return f"{action} {'choices' if discrete else 'numbers'}"
