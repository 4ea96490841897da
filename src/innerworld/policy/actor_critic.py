"""`ActorCritic`: learning to act in imagination, on any world model that tells reward (Dreamer v1 to v3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.policy.actor import Actor, ActorConfig, Choice
from innerworld.policy.critic import Critic, CriticConfig, Verdict
from innerworld.policy.returns import ReturnScale, lambda_returns, lived_returns, weights
from innerworld.policy.sight import Sight, SightConfig
from innerworld.types import Clip, Spec, State, each
from innerworld.world import WorldModel, flatten


class ActorCriticConfig(Config):
    actor: ActorConfig = Field(default=ActorConfig(), description="who acts")
    critic: CriticConfig = Field(default=CriticConfig(), description="who tells what a belief is worth")
    sight: SightConfig = Field(default=SightConfig(), description="eyes and a memory of their own")
    gradients: Literal["reinforce", "dynamics", "mixed"] = Field(
        default="reinforce",
        description="how the actor learns: from how its choices turned out, through the world model, or both",
    )
    mix: float = Field(default=0.1, description="mixed: share of the gradient through the world model", ge=0, le=1)
    horizon: int = Field(default=15, description="imagined steps", ge=1)
    starts: int = Field(default=0, description="beliefs at the end of each clip to imagine from; 0: all of them", ge=0)
    discount: float = Field(default=1 - 1 / 333, description="of what comes one step later", gt=0, lt=1)
    lam: float = Field(default=0.95, description="share of the next return in a return, the rest is the value", ge=0)
    entropy: float = Field(default=3e-4, description="weight of the actor's entropy, nats", ge=0)
    normalise: bool = Field(default=True, description="divide advantages by the returns' range, where it is above 1")
    critic_weight: float = Field(default=1.0, description="weight of the critic's loss", ge=0)
    replay: float = Field(
        default=0.3, description="weight of the critic's loss on what was lived; teaches the world model too", ge=0
    )


@dataclass(frozen=True)
class Trail:
    """n dreams of h steps. What is large stays apart time by time: one piece of memory for all would cost far more."""

    features: list[Tensor]  # h+1 of n d   of the starts and after each step
    choices: list[Choice]  # h of n   with the actor's gradients
    actions: list[Tensor]  # h of n a
    reward: Tensor  # h+1 n
    going: Tensor  # h+1 n     chance that the world has not ended there


class ActorCritic(nn.Module):
    """An actor and a critic on features of `width` numbers.

    `told` is the discount that the world's "continue" contains already, 1 where it is a mere chance: with it each step
    is discounted by `config.discount` once, whatever the world tells. With a `sight` features are what that makes of
    pictures, and it learns by their losses. Raises `UserError` for one that is to learn through the world model.
    """

    def __init__(self, config: ActorCriticConfig, width: int, spec: Spec, told: float = 1.0) -> None:
        super().__init__()
        self.sight = Sight(config.sight, spec) if config.sight.channels else None
        if self.sight is not None and config.gradients != "reinforce":
            raise UserError(f"gradients={config.gradients}: what is drawn has none, eyes learn with reinforce")
        self.config, self.width = config, self.sight.hidden if self.sight is not None else width
        self.factor = config.discount / told
        self.actor = Actor(config.actor, self.width, spec)
        self.critic = Critic(config.critic, self.width)
        self.scale = ReturnScale()

    def loss(self, world: WorldModel, beliefs: State, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Imagine from the beliefs `b t+1 ...` along a clip, and say how actor and critic should have done better.

        Its gradients reach actor and critic, and by way of the beliefs, for the critic's loss on the clip itself, the
        world model that made them; imagining teaches the world model nothing. Raises `UserError` for a world that tells
        no reward.
        """
        beliefs = self._starts(beliefs, clip)
        b, k = next(iter(beliefs.values())).shape[:2]
        features = world.features(flatten(world.bare(beliefs), 2))  # (b k) d
        trail = self.imagine(world, each(Tensor.detach, beliefs), features.detach(), _generator(features.device))
        return self._judge(trail, features.unflatten(0, (b, k)), clip)

    def imagine(self, world: WorldModel, starts: State, features: Tensor, rng: Generator) -> Trail:
        """Dream from n starts `b k ...`, the actor choosing, where gradients pass only as far as the actor needs them.

        To learn from how choices turned out it needs those of what it would choose, but none of what came of that. To
        learn through the world model they pass through its steps, from each to the actions before it, while its own
        parameters stand still.
        """
        with frozen(world) if self.analytic else torch.no_grad():
            roll, step = world.roll(starts, self.config.horizon), features
            begun = flatten(world.bare(starts), 2)
            told, choices, actions, trail, drawn = (
                [world.prospects(begun)],
                list[Choice](),
                list[Tensor](),
                [features],
                self._drawn(world, begun),
            )
            for _ in range(self.config.horizon):
                with torch.enable_grad():
                    choices.append(self.actor(step.detach()))
                actions.append(choices[-1].sample(rng))
                state = roll(actions[-1], rng)
                step = world.features(state)
                trail.append(step)
                told.append(world.prospects(state))
                drawn += self._drawn(world, state)
            reward, going = (torch.stack(found) for found in zip(*told, strict=True))
        if self.sight is not None:  # once more, with the gradients that teach it
            trail = self.sight.features(torch.stack(drawn), begun)
            choices = [self.actor(step) for step in trail[:-1]]
        return Trail(trail, choices, actions, reward, going)

    @property
    def analytic(self) -> bool:
        """Do gradients pass through the world model?"""
        return self.config.gradients != "reinforce"

    def follow(self) -> None:
        """After each optimiser step."""
        self.critic.follow()

    # ------------------------------------------------------------------ below

    def _starts(self, beliefs: State, clip: Clip) -> State:
        """Those to imagine from, `b k ...`: the last ones, but never the past that a clip brings."""
        begin = 0 if clip.past is None else 1
        if self.config.starts:
            begin = max(begin, clip.length + 1 - self.config.starts)
        return each(lambda value: value[:, begin:], beliefs)

    def _drawn(self, world: WorldModel, state: State) -> list[Tensor]:
        """What a sight sees of beliefs, one picture `n c y x`; without one nothing."""
        return [] if self.sight is None else [self.sight.pictures(world.decode(state))]

    def _judge(self, trail: Trail, features: Tensor, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """`features` `b k d` are those of the starts, with the gradients of the beliefs."""
        config = self.config
        before = [step if self.sight is not None else step.detach() for step in trail.features[:-1]]
        verdicts, slow = [self.critic(step) for step in before], self._slow(before)  # h of n, h n
        value = self._value(trail, verdicts, slow)  # h+1 n
        returns = lambda_returns(trail.reward[1:].T, self.factor * trail.going[1:].T, value[1:].T, config.lam).T  # h n
        if self.training:
            self.scale.follow(returns)
        weight = weights(trail.going.detach().T, self.factor).T[:-1]
        entropy = torch.stack([choice.entropy() for choice in trail.choices])
        gain = self._gain(trail, returns, value[:-1])
        parts = {
            "actor": -(weight * (gain + config.entropy * entropy)).mean(),
            "critic": (weight * self._misses(verdicts, returns, slow)).mean(),
        }
        total = parts["actor"] + config.critic_weight * parts["critic"]
        if config.replay and features.shape[1] > 1:
            parts["critic_lived"] = self._lived(features, returns[0], None if slow is None else slow[0], clip)
            total = total + config.replay * parts["critic_lived"]
        parts |= {"entropy": entropy.mean(), "return": returns.mean(), "return_scale": self.scale()}
        return total, {name: part.detach() for name, part in parts.items()}

    @torch.no_grad()
    def _slow(self, features: list[Tensor]) -> Tensor | None:
        """What the slow copy expects, h of `n d` → `h n`, where it is used."""
        return None if self.critic.slow is None else torch.stack([self.critic.slowly(step).mean() for step in features])

    def _value(self, trail: Trail, verdicts: list[Verdict], slow: Tensor | None) -> Tensor:
        """What returns rest on, `h+1 n`; with gradients through the features where the actor learns through them."""
        slow_target = self.config.critic.slow_target
        expect = self.critic.slowly if slow_target else self.critic
        if self.analytic:
            with frozen(self.critic):
                return torch.stack([expect(step).mean() for step in trail.features])
        with torch.no_grad():
            told = [verdict.mean() for verdict in verdicts] if slow is None or not slow_target else list(slow)
            return torch.stack([*told, expect(trail.features[-1]).mean()])

    def _gain(self, trail: Trail, returns: Tensor, value: Tensor) -> Tensor:
        """What the actor wants more of, `h n`: choices that turned out well, or the returns themselves."""
        config = self.config
        scale = self.scale() if config.normalise else 1.0
        if config.gradients == "dynamics":
            return returns / scale
        surprise = (returns - value).detach() / scale
        steps = zip(trail.choices, trail.actions, strict=True)
        praised = torch.stack([choice.log_prob(action.detach()) for choice, action in steps]) * surprise
        return torch.lerp(praised, returns / scale, config.mix) if self.analytic else praised

    def _misses(self, verdicts: list[Verdict], returns: Tensor, slow: Tensor | None) -> Tensor:
        """`_miss` of each time: `h n`."""
        slows = [None] * len(returns) if slow is None else list(slow)
        return torch.stack([self._miss(*one) for one in zip(verdicts, returns, slows, strict=True)])

    def _miss(self, verdict: Verdict, returns: Tensor, slow: Tensor | None) -> Tensor:
        """How far the critic is from the returns, and as a regulariser from its slow copy: `...`."""
        weight = self.config.critic.slow_weight
        if slow is None or not weight:
            return verdict.losses(returns.detach().unsqueeze(-1)).squeeze(-1)
        missed, strayed = verdict.losses(torch.stack([returns.detach(), slow], dim=-1)).unbind(-1)
        return missed + weight * strayed

    def _lived(self, features: Tensor, imagined: Tensor, slow: Tensor | None, clip: Clip) -> Tensor:
        """The critic's loss on what was lived, whose returns rest on the `imagined` return of each belief, `(b k)`."""
        b, k = features.shape[:2]
        returns, lived = lived_returns(clip, imagined.detach().view(b, k), self.config.discount, self.config.lam)
        before = None if slow is None else slow.view(b, k)[:, :-1]
        return (lived * self._miss(self.critic(features[:, :-1]), returns, before)).mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, gradients pass through the module but its parameters get none."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _generator(device: torch.device) -> Generator:
    """For the draws of one imagination; what they are is settled by torch's own random state, which is resumed."""
    return Generator(device=device).manual_seed(int(torch.randint(2**62, ())))
