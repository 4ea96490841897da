"""What an RSSM and a sequence model share: beliefs of a memory and a stochastic latent, their heads and their loss.

A belief is a memory (`deter`) and a latent (`stoch`) with the parameters of its distribution. The *posterior* says what
the latent is where something was seen, the *prior* guesses it from the memory. How the memory goes on, and whether the
posterior reads it, is the family's own.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.eyes import borrow
from innerworld.models.senses import Decoder, Encoder, SensesConfig
from innerworld.models.tokens import to_read
from innerworld.nn.distributions import (
    Gaussian,
    Latent,
    OneHot,
    balanced_kl,
    symexp_bins,
    symlog_bins,
    twohot_loss,
    twohot_mean,
)
from innerworld.nn.mlp import ACTIVATIONS, MLP
from innerworld.nn.sensors import symexp, symlog
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

PORTION = 4096  # states decoded at once to be compared
FRAMES = 128  # pictures seen or painted at once on a CPU, where large memory is had anew each time, and that is dear


class LatentWorldConfig(SensesConfig):
    stoch: int = Field(default=32, description="latents: categorical groups, or Gaussian dimensions", ge=1)
    classes: int = Field(default=4, description="categorical: classes of each group", ge=2)
    latent: Literal["categorical", "gaussian"] = Field(default="categorical", description="kind of latent")
    unimix: float = Field(default=0.01, description="categorical: share of the uniform mixed in", ge=0, lt=1)
    free_nats: float = Field(default=1.0, description="KL below this costs nothing, nats", ge=0)
    free: Literal["each", "mean"] = Field(
        default="each", description="what is held against `free_nats`: each belief's KL, or their mean (v1, v2)"
    )
    soften: int = Field(default=0, description="steps in which latents go from their mean to draws", ge=0)
    dyn: float = Field(default=1.0, description="weight of the KL that teaches the prior", ge=0)
    rep: float = Field(default=0.1, description="weight of the KL that teaches the posterior", ge=0)
    reward: float = Field(default=1.0, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    reward_layers: int = Field(default=1, description="hidden layers of the reward's head", ge=0)
    head: Literal["twohot", "symlog", "normal"] = Field(
        default="twohot",
        description="of the reward: two-hot bins (V3), bins of its symlog (STORM, DRAMA), or a unit normal (v1, v2)",
    )
    tanh_reward: bool = Field(default=False, description="learn, and tell, the tanh of rewards (v2 on Atari)")
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)
    continues: float = Field(default=1.0, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    continues_layers: int = Field(default=1, description="hidden layers of the continuation's head", ge=0)
    horizon: float = Field(default=333.0, description="discount as steps: going on has the target 1 - 1/horizon", gt=1)


def check(config: LatentWorldConfig) -> None:
    """Raise `UserError` for settings that do not fit together."""
    if config.image == "maxpool" and config.kernel % 2 == 0:
        raise UserError(f"kernel={config.kernel}: image=maxpool needs an odd one")
    if config.image == "valid" and config.decoder == "maps":
        raise UserError("image=valid leaves no maps to mirror: set decoder=dense, or image=strided")
    if config.bins % 2 == 0:
        raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")


class LatentWorldModel(WorldModel):
    """State: `deter` `b d`, `stoch` `b g k`, and the parameters of its distribution (`logits`, or `mean` and `std`).

    A family makes `prior` (a memory → raw latent) and `decoder` itself, then calls `_build_heads`.
    """

    decoder: Decoder
    prior: nn.Module
    age: Tensor  # optimiser steps so far, as long as they matter
    bins: Tensor

    def __init__(self, config: LatentWorldConfig, spec: Spec) -> None:
        check(config)
        found, borrowed = borrow(config.eyes, spec, config.image_size)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        self.flat = config.stoch * (config.classes if self.categorical else 1)  # numbers of a latent
        self.raw = config.stoch * (config.classes if self.categorical else 2)  # and of its distribution
        self.encoder = Encoder(config, spec, borrowed)

    def _build_heads(self, feat: int, bias: bool = True) -> None:
        """Reward and continuation, from `feat` numbers; `bias`: have layers before a norm one."""
        config = self.settings
        told, begun = (1, 1.0) if config.head == "normal" else (config.bins, 0.0)
        self.reward = (
            build_mlp(config, feat, config.units, config.reward_layers, told, begun, bias) if config.reward else None
        )
        self.continues = (
            build_mlp(config, feat, config.units, config.continues_layers, 1, bias=bias) if config.continues else None
        )
        self.register_buffer("age", torch.zeros((), dtype=torch.long))
        bins = symlog_bins if config.head == "symlog" else symexp_bins
        self.register_buffer("bins", bins(config.bins), persistent=False)

    @property
    def settings(self) -> LatentWorldConfig:
        return cast(LatentWorldConfig, self.config)

    # ------------------------------------------------------------------ verbs that need no time

    def decode(self, state: State) -> dict[str, Tensor]:
        feat = self.features(state)
        seen = self.decoder.sensors(*self._painted_from(state["deter"], feat), self.encoder.scale)
        judged = self._judged_from(state["deter"], feat)
        if self.reward is not None:
            seen["reward"] = self._rewarded(self.reward(judged))
        if self.continues is not None:
            seen["continue"] = torch.sigmoid(self.continues(judged)).squeeze(-1)
        return seen

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        """Nothing is painted. The discount is part of going on, told by a head or, without one, all there is to it."""
        if self.reward is None:
            raise UserError("reward=0 left the reward's head out: what to act for is unknown to this model")
        judged = self._judged_from(state["deter"], self.features(state))
        reward = self._rewarded(self.reward(judged))
        if self.continues is None:
            return reward, torch.full_like(reward, self.discount())
        return reward, torch.sigmoid(self.continues(judged)).squeeze(-1)

    def energy(self, state: State, goal: State) -> Tensor:
        """How far what is decoded would have to be moved to look like the goal (`Decoder.place`).

        A goal is believed from a blank past, so the two memories cannot be compared, only what they say is seen. Plain
        pixel error, the latent's probabilities and a head that tells the encoder's tokens were tried on two_rooms:
        for these, everything farther than its own width is equally far, so a planner has nothing to climb.
        """
        return (self._place(state) - self._place(goal)).square().sum(dim=-1)

    def features(self, state: State) -> Tensor:
        """Memory and latent: `b d`."""
        return torch.cat([state["deter"], state["stoch"].flatten(-2)], dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts, _ = self.study(clip)
        return total, parts

    def after_step(self) -> None:
        self.age.add_(1)

    def reads(self, stored: Spec) -> list[str]:
        """Pictures are painted, too: what frozen eyes make of them is read beside them, where the store has it."""
        own = self.settings.eyes.fingerprint
        return to_read(self.spec, stored, own, pixels=True) if own else super().reads(stored)

    def discount(self) -> float:
        return 1 - 1 / self.settings.horizon

    def drawn(self, state: State, rng: Generator) -> State:
        if self.categorical:
            return state | {"stoch": OneHot(state["logits"]).sample(rng)}
        return state | {"stoch": Gaussian(state["mean"], state["std"]).sample(rng)}

    # ------------------------------------------------------------------ for the families

    @property
    def categorical(self) -> bool:
        return self.settings.latent == "categorical"

    def _painted_from(self, deter: Tensor, feat: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder reads, of memory and features `... d` each."""
        return deter, feat

    def _judged_from(self, deter: Tensor, feat: Tensor) -> Tensor:
        """What the heads of reward and continuation read: `... d`."""
        return feat

    def _told(
        self,
        deter: Tensor,
        stoch: Tensor,
        raw: Tensor,
        seen: list[Obs],
        clip: Clip,
        guessed: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (DreamerV3, eq. 2-5) of beliefs `b t ...` and raw posteriors, and its parts, detached.

        Decoding errors summed over a sensor, KL to the prior and back, means over b and t; `seen` are the portions of
        what was to be decoded, `guessed` `b t` those times of which a prior says something (none: all).
        """
        config = self.settings
        feat = torch.cat([deter, stoch.flatten(-2)], dim=-1)  # b t d
        told, known = (raw, deter) if guessed is None else (raw[guessed], deter[guessed])
        dyn, rep, kl = kl_terms(self._latent(told), self._latent(self.prior(known)), config)
        parts = self._painted(deter, feat, seen)
        total = torch.stack(list(parts.values())).sum() + config.dyn * dyn + config.rep * rep
        parts |= {"dyn": dyn, "rep": rep, "kl": kl}
        after = self._judged_from(deter[:, -clip.length :], feat[:, -clip.length :])  # reward[t] comes with obs[t+1]
        if self.reward is not None:
            parts["reward"] = lived(self._reward_error(self.reward(after), clip.reward.float()), clip)
            total = total + config.reward * parts["reward"]
        if self.continues is not None:
            target = (1 - clip.terminated.float()) * (1 - 1 / config.horizon)
            logit = self.continues(after).squeeze(-1)
            error = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
            parts["continue"] = lived(error, clip)
            total = total + config.continues * parts["continue"]
        return total, {name: value.detach() for name, value in parts.items()}

    def _portions(self, obs: Obs) -> list[Obs]:
        """Observations `b t ...` as some of their rows after the other: pictures in portions, where that is faster.

        Batch statistics are those of all.
        """
        images = self.spec.images()
        whole = self.training and self.settings.image_norm == "batch"
        if whole or not images or obs[images[0]].device.type != "cpu":
            return [obs]
        rows = max(1, FRAMES // obs[images[0]].shape[1])
        pieces = {name: value.split(rows) for name, value in obs.items()}
        return [dict(zip(pieces, some, strict=True)) for some in zip(*pieces.values(), strict=True)]

    def _painted(self, deter: Tensor, feat: Tensor, seen: list[Obs]) -> dict[str, Tensor]:
        """`Decoder.losses` of states `b t ...`, the mean over portions of their rows."""
        rows = [len(next(iter(some.values()))) for some in seen]
        losses = [
            self.decoder.losses(*self._painted_from(of_deter, of_feat), some)
            for of_deter, of_feat, some in zip(deter.split(rows), feat.split(rows), seen, strict=True)
        ]
        share = torch.tensor(rows, dtype=feat.dtype, device=feat.device) / len(feat)
        return {name: (share * torch.stack([loss[name] for loss in losses])).sum() for name in losses[0]}

    def _reward_error(self, told: Tensor, reward: Tensor) -> Tensor:
        """Nats `b t`; of a normal of deviation 1 less their constant, which no weight can change."""
        config = self.settings
        reward = reward.tanh() if config.tanh_reward else reward
        if config.head == "normal":
            return 0.5 * (told.squeeze(-1) - reward).square()
        return twohot_loss(told, symlog(reward) if config.head == "symlog" else reward, self.bins)

    def _rewarded(self, told: Tensor) -> Tensor:
        """The reward's head `... k` → its mean."""
        head = self.settings.head
        if head == "normal":
            return told.squeeze(-1)
        mean = twohot_mean(told, self.bins)
        return symexp(mean) if head == "symlog" else mean

    def _place(self, state: State) -> Tensor:
        """`Decoder.place`, in portions: 10⁵ imagined states at once would take gigabytes."""
        deter, feat = state["deter"].split(PORTION), self.features(state).split(PORTION)
        return torch.cat([self.decoder.place(*self._painted_from(d, f)) for d, f in zip(deter, feat, strict=True)])

    def _draw(self, latent: Latent) -> Tensor:
        """A draw; in the first `soften` steps between the mean and a draw.

        A small thing in a large picture is worth little and moves a fresh latent little, so that a draw hides it: the
        decoder learns to ignore the latent before the encoder has learnt to speak. Not in the papers, which have time.
        """
        if not self._softens:
            return latent.sample()
        return torch.lerp(latent.expected(), latent.sample(), self.age / self.settings.soften)

    @property
    def _softens(self) -> bool:
        soften = self.settings.soften
        return self.training and bool(soften) and bool(self.age < soften)

    def _latent(self, raw: Tensor) -> Latent:
        """Network outputs `... (g k)` → their distribution."""
        config = self.settings
        if config.latent == "gaussian":
            return Gaussian.bounded(raw)
        return OneHot.mixed(raw.unflatten(-1, (config.stoch, config.classes)), config.unimix)


def told_state(deter: Tensor, latent: Latent, rng: Generator | None = None) -> State:
    """Without `rng` the most likely latent, else a draw."""
    stoch = latent.mode() if rng is None else latent.sample(rng)
    return {"deter": deter, "stoch": stoch, **latent.tensors()}


def looked_at(clip: Clip) -> Obs:
    """With a past, all but time 0."""
    return clip.obs if clip.past is None else {name: value[:, 1:] for name, value in clip.obs.items()}


def lived(error: Tensor, clip: Clip) -> Tensor:
    """The mean of `b t`, of the steps from one episode into the next nothing."""
    if clip.first is None:
        return error.mean()
    real = ~clip.first[:, 1:]
    return (error * real).sum() / real.sum().clamp(min=1)


def build_mlp(
    config: LatentWorldConfig,
    inputs: int,
    units: int,
    layers: int,
    out: int,
    outscale: float = 1.0,
    bias: bool = True,
) -> MLP:
    return MLP(inputs, units, layers, out, config.norm, ACTIVATIONS[config.activation], outscale, bias)


def kl_terms(posterior: Latent, prior: Latent, config: LatentWorldConfig) -> tuple[Tensor, Tensor, Tensor]:
    """dyn, rep and the KL itself, means of all beliefs. Nats are free of each (V3), or of the mean (Dreamer v1, v2)."""
    dyn, rep = balanced_kl(posterior, prior, free_nats=0.0)
    kl = _mean(dyn)
    if config.free == "each":
        return _mean(dyn.clamp(min=config.free_nats)), _mean(rep.clamp(min=config.free_nats)), kl
    return kl.clamp(min=config.free_nats), _mean(rep).clamp(min=config.free_nats), kl


def _mean(of: Tensor) -> Tensor:
    """Of none 0: where an episode begins at every time of a clip, nothing was guessed."""
    return of.mean() if of.numel() else of.sum()
