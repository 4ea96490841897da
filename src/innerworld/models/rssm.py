"""The recurrent state-space model of PlaNet and of Dreamer v1 to v3, their world-model half, as settings of one family.

PlaNet arXiv 1811.04551, Dreamer v1 1912.01603, v2 2010.02193, v3 2301.04104 (Nature 2025).

A belief is a deterministic memory (`deter`) and a stochastic latent (`stoch`). The memory and an action give the next
memory; the *prior* guesses the latent from that memory alone, the *posterior* from memory and observation. Training
makes the guess agree with what was seen; imagining runs on the prior, eyes shut.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.models.eyes import borrow
from innerworld.models.rssm_config import PRESETS, RSSMConfig, check
from innerworld.models.rssm_parts import Posterior, build_cell, build_mlp, kl_terms
from innerworld.models.rssm_walk import Draws, walk
from innerworld.models.senses import Decoder, Encoder
from innerworld.models.tokens import to_read
from innerworld.nn.block_gru import BlockGRU
from innerworld.nn.distributions import Gaussian, Latent, OneHot, symexp_bins, twohot_loss, twohot_mean
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

PORTION = 4096  # states decoded at once to be compared
FRAMES = 128  # pictures seen or painted at once on a CPU, where large memory is had anew each time, and that is dear


class RSSM(WorldModel):
    """Recurrent state-space model with a GRU, one-hot or Gaussian latents, decoder, reward and continuation.

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
    presets = PRESETS

    def __init__(self, config: RSSMConfig, spec: Spec) -> None:
        check(config)
        found, borrowed = borrow(config.eyes, spec, config.image_size)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        flat = config.stoch * (config.classes if config.latent == "categorical" else 1)
        raw = config.stoch * (config.classes if config.latent == "categorical" else 2)
        feat = config.deter + flat
        self.encoder = Encoder(config, spec, borrowed)
        self.cell = build_cell(config, flat, spec.action)
        self.prior = build_mlp(config, config.deter, config.hidden, config.prior_layers, raw)
        self.posterior = Posterior(config, self.encoder.width, raw)
        self.decoder = Decoder(config, spec, config.deter, flat, config.blocks)
        told, begun = (config.bins, 0.0) if config.head == "twohot" else (1, 1.0)
        self.reward = (
            build_mlp(config, feat, config.units, config.reward_layers, told, begun) if config.reward else None
        )
        self.continues = build_mlp(config, feat, config.units, config.continues_layers, 1) if config.continues else None
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
            seen["reward"] = self._rewarded(self.reward(feat))
        if self.continues is not None:
            seen["continue"] = torch.sigmoid(self.continues(feat)).squeeze(-1)
        return seen

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        """Nothing is painted. The discount is part of going on, told by a head or, without one, all there is to it."""
        if self.reward is None:
            raise UserError("reward=0 left the reward's head out: what to act for is unknown to this model")
        feat = self.features(state)
        reward = self._rewarded(self.reward(feat))
        if self.continues is None:
            return reward, torch.full_like(reward, self.discount())
        return reward, torch.sigmoid(self.continues(feat)).squeeze(-1)

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
        looks = [self.encoder(some) for some in self._portions(_looked_at(clip))]
        tokens = torch.cat([found for found, _ in looks])  # b t+1 e
        deter, stoch, raw = self._follow(tokens, clip, sample=True)
        feat = torch.cat([deter, stoch.flatten(-2)], dim=-1)  # b t+1 d
        posterior, prior = self._latent(raw), self._latent(self.prior(deter))
        dyn, rep, kl = kl_terms(posterior, prior, config)

        parts = self._painted(deter, feat, [seen for _, seen in looks])
        total = torch.stack(list(parts.values())).sum() + config.dyn * dyn + config.rep * rep
        parts |= {"dyn": dyn, "rep": rep, "kl": kl}
        after = feat[:, -clip.length :]  # reward[t] comes with obs[t+1]
        if self.reward is not None:
            parts["reward"] = _lived(self._reward_error(self.reward(after), clip.reward.float()), clip)
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

    def discount(self) -> float:
        return 1 - 1 / cast(RSSMConfig, self.config).horizon

    def drawn(self, state: State, rng: Generator) -> State:
        if self.categorical:
            return state | {"stoch": OneHot(state["logits"]).sample(rng)}
        return state | {"stoch": Gaussian(state["mean"], state["std"]).sample(rng)}

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

    def _portions(self, obs: Obs) -> list[Obs]:
        """Observations `b t ...` as some of their rows after the other: pictures in portions, where that is faster."""
        images = self.spec.images()
        if not images or obs[images[0]].device.type != "cpu":
            return [obs]
        rows = max(1, FRAMES // obs[images[0]].shape[1])
        pieces = {name: value.split(rows) for name, value in obs.items()}
        return [dict(zip(pieces, some, strict=True)) for some in zip(*pieces.values(), strict=True)]

    def _painted(self, deter: Tensor, feat: Tensor, seen: list[Obs]) -> dict[str, Tensor]:
        """`Decoder.losses` of states `b t ...`, the mean over portions of their rows."""
        rows = [len(next(iter(some.values()))) for some in seen]
        losses = [self.decoder.losses(*some) for some in zip(deter.split(rows), feat.split(rows), seen, strict=True)]
        share = torch.tensor(rows, dtype=feat.dtype, device=feat.device) / len(feat)
        return {name: (share * torch.stack([loss[name] for loss in losses])).sum() for name in losses[0]}

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
        if sample and self._walks(look):
            config = cast(RSSMConfig, self.config)
            draws = Draws(config.stoch, config.unimix)
            return walk(cast(BlockGRU, self.cell), self.posterior, draws, (deter, stoch), push, look, stays)
        steps = []
        # Unbound, not indexed: the gradient of an index is a tensor of zeros as large as the whole, at every step.
        for t, (pushed, seen) in enumerate(zip(push.unbind(1), look.unbind(1), strict=True)):
            if stays is not None and breaks[t]:
                deter, stoch = deter * stays[:, t, None], stoch * stays[:, t, None]
            deter = self.cell(deter, stoch, pushed)
            raw = self.posterior(deter, seen)
            latent = self._latent(raw)
            groups = self._draw(latent) if sample else latent.mode()  # b g k
            stoch = groups.flatten(1)
            steps.append((deter, groups, raw))
        deters, stochs, raws = (torch.stack(each, dim=1) for each in zip(*steps, strict=True))
        return deters, stochs, raws

    def _reward_error(self, told: Tensor, reward: Tensor) -> Tensor:
        """Nats `b t`; of a normal of deviation 1 less their constant, which no weight can change."""
        config = cast(RSSMConfig, self.config)
        reward = reward.tanh() if config.tanh_reward else reward
        if config.head == "twohot":
            return twohot_loss(told, reward, self.bins)
        return 0.5 * (told.squeeze(-1) - reward).square()

    def _rewarded(self, told: Tensor) -> Tensor:
        """The reward's head `... k` → its mean."""
        twohot = cast(RSSMConfig, self.config).head == "twohot"
        return twohot_mean(told, self.bins) if twohot else told.squeeze(-1)

    def _walks(self, look: Tensor) -> bool:
        """Is this DreamerV3's step, in one precision, which `walk` takes faster than autograd?"""
        config = cast(RSSMConfig, self.config)
        plain = (config.cell, config.latent, config.norm, config.activation) == ("block", "categorical", "rms", "silu")
        mixed = torch.is_autocast_enabled(look.device.type) or torch.compiler.is_compiling()
        return plain and not mixed and not self._softens

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
        if not self._softens:
            return latent.sample()
        return torch.lerp(latent.expected(), latent.sample(), self.age / cast(RSSMConfig, self.config).soften)

    @property
    def _softens(self) -> bool:
        soften = cast(RSSMConfig, self.config).soften
        return self.training and bool(soften) and bool(self.age < soften)

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
