"""The settings of Dreamer, and those of the papers by name: v1 to v3, and the agents of sequence models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from innerworld.config import Config, build
from innerworld.errors import UserError, choose
from innerworld.models.diffusion_config import DIAMOND, DiffusionConfig
from innerworld.models.rssm_config import PRESETS as RSSMS
from innerworld.models.rssm_config import RSSMConfig
from innerworld.models.sequence_config import DRAMA, STORM, TRANSDREAMER, SequenceConfig
from innerworld.models.sequence_config import PRESETS as SEQUENCES
from innerworld.policy.actor import ActorConfig
from innerworld.policy.actor_critic import ActorCriticConfig
from innerworld.policy.critic import CriticConfig
from innerworld.policy.sight import SightConfig
from innerworld.world import WorldModel

# of the presets below
_WORLDS: dict[str, type[Config]] = {"diffusion": DiffusionConfig, "rssm": RSSMConfig, "sequence": SequenceConfig}


def world_kind(family: str) -> type[WorldModel]:
    """The world model of that name. Raises `UserError` for one that there is not, and for Dreamer itself."""
    from innerworld.models import MODELS  # late: it names this file's family, too

    kind = choose("family", family, MODELS)
    if kind.Config is DreamerConfig:
        raise UserError("family=dreamer: Dreamer dreams of a world, not of itself: choose another family")
    return kind


class DreamerConfig(Config):
    family: str = Field(default="rssm", description="the world model's family; one that tells reward")
    world: SerializeAsAny[Config] = Field(default=RSSMConfig(), description="its settings", validate_default=True)
    actor_critic: ActorCriticConfig = Field(default=ActorCriticConfig(), description="who learns to act in it")

    @field_validator("world", mode="before")
    @classmethod
    def _of_its_family(cls, value: Any, info: ValidationInfo) -> Any:
        """Plain values become settings of `family`; those of rssm's defaults mean any other family's own defaults."""
        family = info.data.get("family", "rssm")  # missing where it was wrong itself
        if isinstance(value, _WORLDS.get(family, ())):
            return value
        kind = world_kind(family)
        rssm = RSSMConfig()
        if family != "rssm" and value in (rssm, rssm.model_dump(), rssm.model_dump(mode="json")):
            return kind.Config()
        if isinstance(value, Mapping):
            _refuse_another(value, family)
            return build(kind.Config, value, "world")
        if not isinstance(value, kind.Config):
            raise UserError(f"world: {type(value).__name__} is no settings of {family}, give it {kind.Config.__name__}")
        return value


def _refuse_another(values: Mapping[str, Any], family: str) -> None:
    """Whole settings of another family are a preset's, whose family was changed: one line instead of one for a key."""
    for other, its in _WORLDS.items():
        if other != family and values.keys() == its.model_fields.keys():
            raise UserError(f"world has settings of {other}, not of {family}: set world={{}} for {family}'s defaults")


def _v3(world: Config) -> DreamerConfig:
    """Dreamer v3 in an RSSM of some size: actor and critic are as wide as its other networks."""
    units = cast(RSSMConfig, world).units
    return DreamerConfig(
        world=world, actor_critic=ActorCriticConfig(actor=ActorConfig(units=units), critic=CriticConfig(units=units))
    )


_OLD = {"units": 400, "norm": "none", "activation": "elu", "outscale": 1.0}  # networks of v1 and v2
_V1 = DreamerConfig(
    # danijar/dreamer, `define_config`: learning rates 6e-4, of actor and critic 8e-5.
    world=RSSMS["v1"],
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
    world=RSSMS["v2"],
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
    world=RSSMS["v2-dmc"],
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
_1M = _v3(RSSMS["1m"])
# For a hundredth of V3's updates: beside its KL what is seen is worth too little to be known well, so the KL weighs a
# tenth; fewer starts, higher rates of actor and critic.
_LIGHT = {"free_nats": 0.1, "dyn": 0.1, "rep": 0.02}


def _soon(config: DreamerConfig, **world: Any) -> DreamerConfig:
    """With the settings that learn in few updates, and others of the world's."""
    acting = config.actor_critic
    faster = {
        "starts": 8,
        "actor": acting.actor.model_copy(update={"rate": 0.15}),
        "critic": acting.critic.model_copy(update={"rate": 0.4}),
    }
    return config.model_copy(
        update={
            "world": config.world.model_copy(update=_LIGHT | world),
            "actor_critic": acting.model_copy(update=faster),
        }
    )


def _small(world: Config) -> DreamerConfig:
    """An agent for a laptop's processor in a sequence model of some substrate, all of about as many parameters."""
    units = cast(SequenceConfig, world).units
    acting = ActorCriticConfig(actor=ActorConfig(units=units), critic=CriticConfig(units=units))
    return _soon(DreamerConfig(family="sequence", world=world, actor_critic=acting))


# v3-1m for worlds of a few numbers. V3 sees them in symlog, which presses together what is far from 0 and leaves
# small numbers small: so they are standardised. Ends are rare once it can act, and all there is to fear: they weigh
# ten times.
_CONTROL = _soon(_1M, standardise=True, symlog=False, continues=10.0)
_STORM = DreamerConfig(
    # weipu-zhang/STORM, agents.py and config_files/STORM.yaml: learning rates 1e-4, of actor and critic 3e-5.
    family="sequence",
    world=STORM,
    actor_critic=ActorCriticConfig(
        actor=ActorConfig(layers=2, units=512, norm="layer", activation="relu", outscale=1.0, rate=0.3),
        critic=CriticConfig(layers=2, units=512, norm="layer", activation="relu", kind="symlog", rate=0.3),
        horizon=16,
        discount=0.985,
        replay=0.0,
    ),
)
_DRAMA = DreamerConfig(
    # realwenlongwang/drama, config_files/train.yaml: one learning rate, 4e-5.
    family="sequence",
    world=DRAMA,
    actor_critic=ActorCriticConfig(
        actor=ActorConfig(units=256, outscale=0.001),
        critic=CriticConfig(units=512, kind="symlog", outscale=0.001),
        horizon=16,
        discount=0.985,
        replay=0.0,
    ),
)
_TRANSDREAMER = DreamerConfig(
    # changchencc/TransDreamer, configs.py: learning rates 2e-4, 4e-5 and 1e-4, otherwise Dreamer v2's agent.
    family="sequence",
    world=TRANSDREAMER,
    actor_critic=_V2.actor_critic,
)
_DIAMOND = DreamerConfig(
    # eloialonso/diamond, config/trainer.yaml and config/agent/default.yaml: one learning rate, 1e-4. Its critic's loss
    # is the squared error, ours half of that.
    family="diffusion",
    world=DIAMOND,
    actor_critic=ActorCriticConfig(
        actor=ActorConfig(layers=0, outscale=0.0, noise=0.01),
        critic=CriticConfig(layers=0, kind="normal", slow_weight=0.0),
        critic_weight=2.0,
        sight=SightConfig(channels=(32, 32, 64, 64), hidden=512),
        horizon=15,
        starts=1,
        discount=0.985,
        entropy=1e-3,
        normalise=False,
        replay=0.0,
    ),
)

PRESETS: dict[str, Config] = {
    "v1": _V1,
    "v2": _V2,
    "v2-dmc": _V2_DMC,
    "v3": _1M,
    **{f"v3-{size}": _v3(RSSMS[size]) for size in ("1m", "12m", "25m", "50m", "100m", "200m", "400m")},
    "cpu": _v3(RSSMS["1m-strided"]),  # v3 with convolutions that a CPU can afford
    "control": _CONTROL,
    # None is called `small`: where no preset is named one begins with `v3`.
    "small-attention": _small(SEQUENCES["small"]),
    **{name: _small(world) for name, world in SEQUENCES.items() if name.startswith("small-")},
    "transdreamer": _TRANSDREAMER,
    "storm": _STORM,
    "drama": _DRAMA,
    "diamond": _DIAMOND,
}
