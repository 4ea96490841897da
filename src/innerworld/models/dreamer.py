"""Dreamer: a world model, and an actor and a critic that learn in its imagination (arXiv 1912.01603 to 2301.04104)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from torch import Generator, Tensor

from innerworld.config import Config, build
from innerworld.errors import UserError, choose
from innerworld.models.rssm import RSSM, RSSMConfig
from innerworld.policy.actor import ActorConfig
from innerworld.policy.actor_critic import ActorCritic, ActorCriticConfig
from innerworld.policy.critic import CriticConfig
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, Roll, WorldModel


class DreamerConfig(Config):
    family: str = Field(default="rssm", description="the world model's family; one that tells reward")
    world: SerializeAsAny[Config] = Field(default=RSSMConfig(), description="its settings", validate_default=True)
    actor_critic: ActorCriticConfig = Field(default=ActorCriticConfig(), description="who learns to act in it")

    @field_validator("world", mode="before")
    @classmethod
    def _of_its_family(cls, value: Any, info: ValidationInfo) -> Any:
        """Plain values become settings of `family`; those of rssm's defaults mean any other family's own defaults."""
        family = info.data.get("family", "rssm")  # missing where it was wrong itself
        if family == "rssm" and isinstance(value, RSSMConfig):
            return value
        kind = _kind(family)
        rssm = RSSMConfig()
        if family != "rssm" and value in (rssm, rssm.model_dump(), rssm.model_dump(mode="json")):
            return kind.Config()
        if isinstance(value, Mapping):
            return build(kind.Config, value, "world")
        if not isinstance(value, kind.Config):
            raise UserError(f"world: {type(value).__name__} is no settings of {family}, give it {kind.Config.__name__}")
        return value


def _v3(world: Config) -> DreamerConfig:
    """Dreamer v3 in an RSSM of some size: actor and critic are as wide as its other networks."""
    units = cast(RSSMConfig, world).units
    return DreamerConfig(
        world=world, actor_critic=ActorCriticConfig(actor=ActorConfig(units=units), critic=CriticConfig(units=units))
    )


_OLD = {"units": 400, "norm": "none", "activation": "elu", "outscale": 1.0}  # networks of v1 and v2
_V1 = DreamerConfig(
    # danijar/dreamer, `define_config`: learning rates 6e-4, of actor and critic 8e-5.
    world=RSSM.presets["v1"],
    actor_critic=ActorCriticConfig(
        actor=ActorConfig(**_OLD, layers=4, continuous="tanh_normal", noise=0.3, rate=8e-5 / 6e-4),
        critic=CriticConfig(**_OLD, kind="normal", slow_weight=0.0, rate=8e-5 / 6e-4),
        gradients="dynamics",
        discount=0.99,
        entropy=0.0,
        normalise=False,
        replay=0.0,
    ),
)
_V2 = DreamerConfig(
    # danijar/dreamerv2, `atari`: learning rates 2e-4, 4e-5 and 1e-4.
    world=RSSM.presets["v2"],
    actor_critic=ActorCriticConfig(
        actor=ActorConfig(**_OLD, layers=4, rate=4e-5 / 2e-4),
        critic=CriticConfig(
            **_OLD, layers=4, kind="normal", slow_weight=0.0, slow_target=True, slow_every=100, slow_rate=1.0, rate=0.5
        ),
        discount=0.999,
        entropy=1e-3,
        normalise=False,
        replay=0.0,
    ),
)
_V2_DMC = DreamerConfig(
    # `dmc_vision`: learning rates 3e-4 and twice 8e-5; continuous actions learn through the world model.
    world=RSSM.presets["v2-dmc"],
    actor_critic=_V2.actor_critic.model_copy(
        update={
            "actor": _V2.actor_critic.actor.model_copy(update={"rate": 8e-5 / 3e-4}),
            "critic": _V2.actor_critic.critic.model_copy(update={"rate": 8e-5 / 3e-4}),
            "gradients": "dynamics",
            "discount": 0.99,
            "entropy": 1e-4,
        }
    ),
)


class Dreamer(WorldModel):
    """A world model of any family that tells reward, and an actor and a critic that learn in its imagination.

    As a world model it is that world model. `policy` is what has been learnt; `beliefs` are those `b t+1 ...` on which
    the last loss was measured, for a replay to keep.
    """

    Config = DreamerConfig
    restarts = True
    card = Card(
        name="DreamerV3",
        predicts="latents",
        decodes=True,
        backbone="block GRU, or another family's",
        paper="arXiv 2301.04104",
    )
    presets: ClassVar[dict[str, Config]] = {
        "v1": _V1,
        "v2": _V2,
        "v2-dmc": _V2_DMC,
        "v3": _v3(RSSM.presets["1m"]),
        **{f"v3-{size}": _v3(RSSM.presets[size]) for size in ("1m", "12m", "25m", "50m", "100m", "200m", "400m")},
        "cpu": _v3(RSSM.presets["1m-strided"]),  # v3 with convolutions that a CPU can afford
    }

    def __init__(self, config: DreamerConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.world = _kind(config.family)(config.world, spec)
        width = _width(self.world, spec)
        self.actor_critic = ActorCritic(config.actor_critic, width, spec, self.world.discount())
        self.beliefs: State | None = None

    # ------------------------------------------------------------------ what has been learnt

    def policy(self, state: State, rng: Generator | None = None) -> Tensor:
        """What to do, `b a`: with `rng` a draw, as to explore; without it the most likely action."""
        return self.actor_critic.actor.act(self.world.features(state), rng)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts, _ = self.study(clip)
        return total, parts

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """The world model's loss, and the actor's and the critic's on what is imagined from the clip's beliefs."""
        if not self.world.restarts and (clip.first is not None or clip.past is not None):
            family = cast(DreamerConfig, self.config).family
            raise UserError(f"{family} cannot learn from a replay, whose clips go on in the middle: choose family=rssm")
        total, parts, beliefs = self.world.study(clip)
        acting, its = self.actor_critic.loss(self.world, beliefs, clip)
        self.beliefs = each(Tensor.detach, beliefs)
        return total + acting, parts | its, beliefs

    def after_step(self) -> None:
        self.world.after_step()
        self.actor_critic.follow()

    def rates(self) -> dict[str, float]:
        config = cast(DreamerConfig, self.config).actor_critic
        rates = {f"world.{name}": rate for name, rate in self.world.rates().items()}
        for name, rate in (("actor", config.actor.rate), ("critic", config.critic.rate)):
            if rate != 1:
                rates[f"actor_critic.{name}"] = rate
        return rates

    # ------------------------------------------------------------------ the world model's own

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return self.world.encode(obs, state, action)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self.world.predict(state, action, rng)

    def decode(self, state: State) -> dict[str, Tensor]:
        return self.world.decode(state)

    def energy(self, state: State, goal: State) -> Tensor:
        return self.world.energy(state, goal)

    def features(self, state: State) -> Tensor:
        return self.world.features(state)

    def imagine(self, state: State, actions: Tensor) -> State:
        return self.world.imagine(state, actions)

    def roll(self, starts: State, horizon: int) -> Roll:
        return self.world.roll(starts, horizon)

    def bare(self, state: State) -> State:
        return self.world.bare(state)

    def watch(self, clip: Clip) -> State:
        return self.world.watch(clip)

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        return self.world.prospects(state)

    def discount(self) -> float:
        return self.world.discount()

    def drawn(self, state: State, rng: Generator) -> State:
        return self.world.drawn(state, rng)

    def packed(self, state: State) -> State:
        return self.world.packed(state)

    def unpacked(self, state: State) -> State:
        return self.world.unpacked(state)

    def reads(self, stored: Spec) -> list[str]:
        return self.world.reads(stored)


def _kind(family: str) -> type[WorldModel]:
    from innerworld.models import MODELS  # late: it names this file's family, too

    kind = choose("family", family, MODELS)
    if kind is Dreamer:
        raise UserError("family=dreamer: Dreamer dreams of a world, not of itself: choose another family")
    return kind


@torch.no_grad()
def _width(world: WorldModel, spec: Spec) -> int:
    """How many features a belief has: those of nothing seen are counted."""
    world.eval()
    width = world.features(world.encode(spec.blank())).shape[-1]
    world.train()
    return width
