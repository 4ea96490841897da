"""Dreamer: a world model, and an actor and a critic that learn in its imagination (arXiv 1912.01603 to 2301.04104)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.models.dreamer_config import PRESETS, DreamerConfig, world_kind
from innerworld.policy.actor_critic import ActorCritic
from innerworld.policy.sight import Sight, memory_in
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, Roll, WorldModel, flatten


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
    presets = PRESETS

    def __init__(self, config: DreamerConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.world = world_kind(config.family)(config.world, spec)
        width = _width(self.world, spec)
        self.actor_critic = ActorCritic(config.actor_critic, width, spec, self.world.discount())
        self.beliefs: State | None = None

    @classmethod
    def sampling_of(cls, config: DreamerConfig) -> tuple[str, ...]:
        """The world's own."""
        return tuple(f"world.{key}" for key in world_kind(config.family).sampling)

    # ------------------------------------------------------------------ what has been learnt

    def policy(self, state: State, rng: Generator | None = None) -> Tensor:
        """What to do, `b a`: with `rng` a draw, as to explore; without it the most likely action."""
        return self.actor_critic.actor.act(self.features(state), rng)

    def imagination(self, b: int, t: int) -> tuple[int, int, int]:
        """To learn to act from b clips of t actions: from how many beliefs it imagines, how many steps, and how many
        bytes the features of all of them and the world model's memory take; a graph of gradients is not counted."""
        config = cast(DreamerConfig, self.config).actor_critic
        k = min(config.starts or t + 1, t + 1)
        numbers = self.actor_critic.width + (0 if self.sight is None else math.prod(self.sight.shape))
        features = 4 * b * k * (config.horizon + 1) * numbers
        return b * k, config.horizon, features + self.world.roll_bytes(b, k, config.horizon)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts, _ = self.study(clip)
        return total, parts

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """The world model's loss, and the actor's and the critic's on what is imagined from the clip's beliefs."""
        if not self.world.restarts and (clip.first is not None or clip.past is not None):
            family = cast(DreamerConfig, self.config).family
            raise UserError(f"{family} cannot learn from a replay, whose clips go on in the middle: choose family=rssm")
        total, parts, beliefs = self.world.study(clip)
        beliefs = self._along(beliefs, clip)
        acting, its = self.actor_critic.loss(self.world if self.sight is None else self, beliefs, clip)
        self.beliefs = each(Tensor.detach, self.bare(beliefs))
        return total + acting, parts | its, beliefs

    def prepare(self, clip: Clip) -> None:
        self.world.prepare(clip)

    def waits(self) -> bool:
        return self.world.waits()

    def after_step(self) -> None:
        self.world.after_step()
        self.actor_critic.follow()

    def rates(self) -> dict[str, float]:
        config = cast(DreamerConfig, self.config).actor_critic
        rates = {f"world.{name}": rate for name, rate in self.world.rates().items()}
        for name, its in (("actor", config.actor), ("critic", config.critic), ("sight", config.sight)):
            if its.rate != 1 and getattr(self.actor_critic, name) is not None:
                rates[f"actor_critic.{name}"] = its.rate
        return rates

    # ------------------------------------------------------------------ the world model's own

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return self._remembering(self.world.encode(obs, state, action), state)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self._remembering(self.world.predict(state, action, rng), state)

    def decode(self, state: State) -> dict[str, Tensor]:
        return self.world.decode(state)

    def energy(self, state: State, goal: State) -> Tensor:
        return self.world.energy(state, goal)

    def features(self, state: State) -> Tensor:
        """The world's, or what the actor's own sight makes of the picture and of what it remembers."""
        if self.sight is None:
            return self.world.features(state)
        return self.sight.see(self.sight.pictures(self.world.decode(state)), state)["sight_h"]

    def imagine(self, state: State, actions: Tensor) -> State:
        return self.world.imagine(state, actions) if self.sight is None else super().imagine(state, actions)

    def roll(self, starts: State, horizon: int) -> Roll:
        going = self.world.roll(starts, horizon)
        if self.sight is None:
            return going
        state = flatten(self.bare(starts), 2)

        def step(action: Tensor, rng: Generator | None) -> State:
            nonlocal state
            state = self._remembering(going(action, rng), state)
            return state

        return step

    def roll_bytes(self, b: int, k: int, horizon: int, shared: bool = False) -> int:
        return self.world.roll_bytes(b, k, horizon, shared)

    def bare(self, state: State) -> State:
        return self.world.bare(state) | memory_in(state)

    def watch(self, clip: Clip) -> State:
        return self._along(self.world.watch(clip), clip)

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        return self.world.prospects(state)

    def discount(self) -> float:
        return self.world.discount()

    def drawn(self, state: State, rng: Generator) -> State:
        return self.world.drawn(state, rng)

    def packed(self, state: State) -> State:
        packed = self.world.packed(state)
        return packed | memory_in(state) if packed else packed

    def unpacked(self, state: State) -> State:
        return self.world.unpacked(state) | memory_in(state)

    def reads(self, stored: Spec) -> list[str]:
        return self.world.reads(stored)

    # ------------------------------------------------------------------ what the actor's own sight remembers

    @property
    def sight(self) -> Sight | None:
        """The actor's and the critic's own eyes, where they have any."""
        return self.actor_critic.sight

    def _remembering(self, state: State, before: State | None) -> State:
        """A belief with what is remembered of those before it: of the last one, and of what that remembered."""
        if self.sight is None:
            return state
        blank = self.sight.blank(len(next(iter(state.values()))))
        if before is None:
            return state | blank
        return state | self.sight.see(self.sight.pictures(self.world.decode(before)), blank | before)

    @torch.no_grad()
    def _along(self, beliefs: State, clip: Clip) -> State:
        """Beliefs `b t+1 ...` along a clip, with what is remembered at each."""
        if self.sight is None:
            return beliefs
        drawn = self.sight.pictures(self.world.decode(flatten(self.world.bare(beliefs), 2)))
        begun = memory_in(clip.past or {}) or self.sight.blank(len(clip.action))
        return beliefs | self.sight.along(drawn.unflatten(0, (-1, clip.length + 1)), begun, clip.first)


@torch.no_grad()
def _width(world: WorldModel, spec: Spec) -> int:
    """How many features a belief has: those of nothing seen are counted."""
    world.eval()
    width = world.features(world.encode(spec.blank())).shape[-1]
    world.train()
    return width
