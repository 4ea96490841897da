"""The recurrent state-space model of Dreamer: its world-model half (DreamerV3, arXiv 2301.04104, Nature 2025).

A belief is a deterministic memory (`deter`) and a stochastic latent (`stoch`). The memory and an action give the next
memory; the *prior* guesses the latent from that memory alone, the *posterior* from memory and observation. Training
makes the guess agree with what was seen; imagining runs on the prior, eyes shut.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.eyes import borrow
from innerworld.models.senses import Decoder, Encoder, SensesConfig
from innerworld.models.tokens import to_read
from innerworld.nn.block_gru import BlockGRU
from innerworld.nn.distributions import (
    Gaussian,
    Latent,
    OneHot,
    balanced_kl,
    symexp_bins,
    twohot_loss,
    twohot_mean,
)
from innerworld.nn.mlp import EPS, MLP, linear
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

PORTION = 4096  # states decoded at once to be compared


class RSSMConfig(SensesConfig):
    deter: int = Field(default=512, description="size of the deterministic memory", ge=1)
    hidden: int = Field(default=64, description="width inside the cell, the prior and the posterior", ge=1)
    stoch: int = Field(default=32, description="latents: categorical groups, or Gaussian dimensions", ge=1)
    classes: int = Field(default=4, description="categorical: classes of each group", ge=2)
    blocks: int = Field(default=8, description="blocks of the memory; must divide `deter`", ge=1)
    latent: Literal["categorical", "gaussian"] = Field(default="categorical", description="kind of latent")
    unimix: float = Field(default=0.01, description="categorical: share of the uniform mixed in", ge=0, lt=1)
    free_nats: float = Field(default=1.0, description="KL below this costs nothing, nats", ge=0)
    soften: int = Field(default=0, description="steps in which latents go from their mean to draws", ge=0)
    dyn: float = Field(default=1.0, description="weight of the KL that teaches the prior", ge=0)
    rep: float = Field(default=0.1, description="weight of the KL that teaches the posterior", ge=0)
    reward: float = Field(default=1.0, description="weight of the reward's loss; 0 leaves its head out", ge=0)
    continues: float = Field(default=1.0, description="weight of the continuation's loss; 0 leaves its head out", ge=0)
    bins: int = Field(default=255, description="two-hot bins of the reward, odd", ge=3)
    horizon: float = Field(default=333.0, description="discount as steps: going on has the target 1 - 1/horizon", gt=1)


class RSSM(WorldModel):
    """Recurrent state-space model with block GRU, one-hot or Gaussian latents, decoder, reward and continuation.

    State: `deter` `b d`, `stoch` `b g k`, and the parameters of its distribution (`logits`, or `mean` and `std`).
    """

    Config = RSSMConfig
    restarts = True
    card = Card(
        name="DreamerV3 (world model)",
        predicts="latents",
        decodes=True,
        backbone="block GRU",
        paper="arXiv 2301.04104",
    )
    presets: ClassVar[dict[str, Config]] = {
        # DreamerV3's sizes (`configs.yaml`); their other settings are the defaults above.
        "1m": RSSMConfig(),
        "12m": RSSMConfig(deter=2048, hidden=256, classes=16, depth=16, units=256),
        "25m": RSSMConfig(deter=3072, hidden=384, classes=24, depth=24, units=384),
        "50m": RSSMConfig(deter=4096, hidden=512, classes=32, depth=32, units=512),
        "100m": RSSMConfig(deter=6144, hidden=768, classes=48, depth=48, units=768),
        "200m": RSSMConfig(deter=8192, hidden=1024, classes=64, depth=64, units=1024),
        "400m": RSSMConfig(deter=12288, hidden=1536, classes=96, depth=96, units=1536),
        # For a laptop's processor: 64×64 pictures seen at half size; AdamW 2e-3, 16 clips of 16 steps.
        "small": RSSMConfig(
            deter=256,
            hidden=128,
            classes=8,
            depth=8,
            units=128,
            image="strided",
            output="linear",
            mults=(1, 2, 4),
            kernel=4,
            image_size=32,
            soften=1000,
        ),
    }

    def __init__(self, config: RSSMConfig, spec: Spec) -> None:
        _check(config)
        found, borrowed = borrow(config.eyes, spec, config.image_size)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        flat = config.stoch * (config.classes if config.latent == "categorical" else 1)
        raw = config.stoch * (config.classes if config.latent == "categorical" else 2)
        feat = config.deter + flat
        self.encoder = Encoder(config, spec, borrowed)
        self.cell = BlockGRU(config.deter, flat, spec.action, config.hidden, config.blocks)
        self.prior = MLP(config.deter, config.hidden, layers=2, out_dim=raw)
        self.posterior = _Posterior(config.deter, self.encoder.width, config.hidden, raw)
        self.decoder = Decoder(config, spec, config.deter, flat, config.blocks)
        self.reward = MLP(feat, config.units, 1, out_dim=config.bins, outscale=0.0) if config.reward else None
        self.continues = MLP(feat, config.units, 1, out_dim=1) if config.continues else None
        self.age: Tensor  # optimiser steps so far, as long as they matter
        self.register_buffer("age", torch.zeros((), dtype=torch.long))
        self.bins: Tensor
        self.register_buffer("bins", symexp_bins(config.bins), persistent=False)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        look = self.posterior.look(self.encoder(obs)[0])  # b hidden
        deter, stoch, action = self._past(look, state, action)
        deter = self.cell(deter, stoch, self.cell.push(action))
        return _state(deter, self._latent(self.posterior(deter, look)))

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        deter = self.cell(state["deter"], state["stoch"].flatten(1), self.cell.push(action))
        return _state(deter, self._latent(self.prior(deter)), rng)

    def decode(self, state: State) -> dict[str, Tensor]:
        feat = self.features(state)
        seen = self.decoder.sensors(state["deter"], feat)
        if self.reward is not None:
            seen["reward"] = twohot_mean(self.reward(feat), self.bins)
        if self.continues is not None:
            seen["continue"] = torch.sigmoid(self.continues(feat)).squeeze(-1)
        return seen

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

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """DreamerV3, eq. 2–5: decoding errors summed over a sensor, KL to the prior and back, means over b and t.

        What is believed comes back as `deter` and `stoch`. With a past, the times from 1 on are judged.
        """
        config = cast(RSSMConfig, self.config)
        tokens, seen = self.encoder(_looked_at(clip))  # b t+1 e
        deter, stoch, raw = self._follow(tokens, clip, sample=True)
        feat = torch.cat([deter, stoch.flatten(-2)], dim=-1)  # b t+1 d
        posterior, prior = self._latent(raw), self._latent(self.prior(deter))
        dyn, rep = balanced_kl(posterior, prior, config.free_nats)  # b t+1

        parts = self.decoder.losses(deter, feat, seen)
        total = torch.stack(list(parts.values())).sum() + config.dyn * dyn.mean() + config.rep * rep.mean()
        parts |= {"dyn": dyn.mean(), "rep": rep.mean(), "kl": posterior.kl(prior).mean()}
        after = feat[:, -clip.length :]  # reward[t] comes with obs[t+1]
        if self.reward is not None:
            parts["reward"] = _lived(twohot_loss(self.reward(after), clip.reward.float(), self.bins), clip)
            total = total + config.reward * parts["reward"]
        if self.continues is not None:
            target = (1 - clip.terminated.float()) * (1 - 1 / config.horizon)
            logit = self.continues(after).squeeze(-1)
            error = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
            parts["continue"] = _lived(error, clip)
            total = total + config.continues * parts["continue"]
        beliefs = {"deter": deter, "stoch": stoch}
        if clip.past is not None:
            past = self.unpacked(clip.past)
            beliefs = {name: torch.cat([past[name][:, None], value], dim=1) for name, value in beliefs.items()}
        return total, {name: value.detach() for name, value in parts.items()}, beliefs

    def after_step(self) -> None:
        self.age.add_(1)

    def reads(self, stored: Spec) -> list[str]:
        """Pictures are painted, too: what frozen eyes make of them is read beside them, where the store has it."""
        own = cast(RSSMConfig, self.config).eyes.fingerprint
        return to_read(self.spec, stored, own, pixels=True) if own else super().reads(stored)

    # ------------------------------------------------------------------ faster, and smaller

    def watch(self, clip: Clip) -> State:
        if clip.past is not None:
            return self.study(clip)[2]
        tokens, _ = self.encoder(clip.obs)
        deter, _, raw = self._follow(tokens, clip, sample=False)
        return _state(deter, self._latent(raw))

    def packed(self, state: State) -> State:
        """Memory in half precision, of a categorical latent its choices: `b g` bytes."""
        stoch = state["stoch"]
        kept = stoch.argmax(dim=-1).byte() if self.categorical else stoch.half()
        return {"deter": state["deter"].half(), "stoch": kept}

    def unpacked(self, state: State) -> State:
        stoch = state["stoch"]
        classes = cast(RSSMConfig, self.config).classes
        told = F.one_hot(stoch.long(), classes).float() if self.categorical else stoch.float()
        return {"deter": state["deter"].float(), "stoch": told}

    # ------------------------------------------------------------------ below

    @property
    def categorical(self) -> bool:
        return cast(RSSMConfig, self.config).latent == "categorical"

    def _follow(self, tokens: Tensor, clip: Clip, sample: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Believe along `tokens` `b t+1 e` from a blank past, or `b t e` from the clip's own: deter, stoch and raw
        posterior of these times. Where an episode begins, what was before is forgotten."""
        look = self.posterior.look(tokens)
        deter, stoch, nothing = self._past(look[:, 0], None, None)
        action = clip.action
        if clip.past is None:
            action = torch.cat([nothing.unsqueeze(1), action], dim=1)
        else:
            past = self.unpacked(clip.past)
            deter, stoch = past["deter"], past["stoch"].flatten(1)
        stays, breaks = _stays(clip, look.shape[1], like=deter)
        push = self.cell.push(action if stays is None else action * stays.unsqueeze(-1))  # b t+1 d
        steps = []
        for t in range(look.shape[1]):
            if stays is not None and breaks[t]:
                deter, stoch = deter * stays[:, t, None], stoch * stays[:, t, None]
            deter = self.cell(deter, stoch, push[:, t])
            raw = self.posterior(deter, look[:, t])
            latent = self._latent(raw)
            groups = self._draw(latent) if sample else latent.mode()  # b g k
            stoch = groups.flatten(1)
            steps.append((deter, groups, raw))
        deters, stochs, raws = (torch.stack(each, dim=1) for each in zip(*steps, strict=True))
        return deters, stochs, raws

    def _past(self, like: Tensor, state: State | None, action: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Memory, flat latent and action to step from: all zero where there is no past."""
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        if state is not None and action is not None:
            return state["deter"], state["stoch"].flatten(1), action
        zeros = lambda width: like.new_zeros(like.shape[0], width)
        return zeros(self.cell.deter), zeros(self.cell.stoch), zeros(self.spec.action)

    def _place(self, state: State) -> Tensor:
        """`Decoder.place`, in portions: 10⁵ imagined states at once would take gigabytes."""
        deter, feat = state["deter"].split(PORTION), self.features(state).split(PORTION)
        return torch.cat([self.decoder.place(d, f) for d, f in zip(deter, feat, strict=True)])

    def _draw(self, latent: Latent) -> Tensor:
        """A draw; in the first `soften` steps between the mean and a draw.

        A small thing in a large picture is worth little and moves a fresh latent little, so that a draw hides it: the
        decoder learns to ignore the latent before the encoder has learnt to speak. Not in the papers, which have time.
        """
        config = cast(RSSMConfig, self.config)
        if not config.soften or not self.training or self.age >= config.soften:
            return latent.sample()
        return torch.lerp(latent.expected(), latent.sample(), self.age / config.soften)

    def _latent(self, raw: Tensor) -> Latent:
        """Network outputs `... (g k)` → their distribution."""
        config = cast(RSSMConfig, self.config)
        if config.latent == "gaussian":
            return Gaussian.bounded(raw)
        return OneHot.mixed(raw.unflatten(-1, (config.stoch, config.classes)), config.unimix)


def _state(deter: Tensor, latent: Latent, rng: Generator | None = None) -> State:
    """Without `rng` the most likely latent, else a draw."""
    stoch = latent.mode() if rng is None else latent.sample(rng)
    return {"deter": deter, "stoch": stoch, **latent.tensors()}


def _looked_at(clip: Clip) -> Obs:
    """With a past, all but time 0."""
    return clip.obs if clip.past is None else {name: value[:, 1:] for name, value in clip.obs.items()}


def _stays(clip: Clip, times: int, like: Tensor) -> tuple[Tensor | None, list[bool]]:
    """The last `times` of a clip: 1 where its episode goes on, 0 where one begins (`b t`), and where any row does."""
    if clip.first is None:
        return None, []
    first = clip.first[:, -times:]
    return (~first).to(like.dtype), first.any(dim=0).tolist()


def _lived(error: Tensor, clip: Clip) -> Tensor:
    """The mean of `b t`, of the steps from one episode into the next nothing."""
    if clip.first is None:
        return error.mean()
    real = ~clip.first[:, 1:]
    return (error * real).sum() / real.sum().clamp(min=1)


def _check(config: RSSMConfig) -> None:
    if config.image == "maxpool" and config.kernel % 2 == 0:
        raise UserError(f"kernel={config.kernel}: image=maxpool needs an odd one")
    if config.bins % 2 == 0:
        raise UserError(f"bins={config.bins}: choose an odd number, so that one of them is 0")


class _Posterior(nn.Module):
    """Memory `b d` and tokens `b e` → raw latent. One layer over both, split so that all tokens are read at once."""

    def __init__(self, deter: int, tokens: int, hidden: int, raw: int) -> None:
        super().__init__()
        self.memory = linear(deter, hidden, fan_in=deter + tokens)
        self.look = linear(tokens, hidden, bias=False, fan_in=deter + tokens)
        self.norm = nn.RMSNorm(hidden, eps=EPS)
        self.out = linear(hidden, raw)

    def forward(self, deter: Tensor, look: Tensor) -> Tensor:
        return self.out(F.silu(self.norm(self.memory(deter) + look)))
