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
from innerworld.models.latent_world import LatentWorldModel, build_mlp, looked_at, told_state
from innerworld.models.rssm_config import PRESETS, RSSMConfig
from innerworld.models.rssm_parts import Posterior, build_cell
from innerworld.models.rssm_walk import Draws, walk
from innerworld.models.senses import Decoder
from innerworld.nn.block_gru import BlockGRU
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card


class RSSM(LatentWorldModel):
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
        super().__init__(config, spec)
        self.cell = build_cell(config, self.flat, spec.action)
        self.prior = build_mlp(config, config.deter, config.hidden, config.prior_layers, self.raw)
        self.posterior = Posterior(config, self.encoder.width, self.raw)
        self.decoder = Decoder(config, spec, config.deter, self.flat, config.blocks)
        self._build_heads(config.deter + self.flat)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        look = self.posterior.look(self.encoder(obs)[0])  # b hidden
        deter, stoch, action = self._past(look, state, action)
        deter = self.cell(deter, stoch, self.cell.push(action))
        return told_state(deter, self._latent(self.posterior(deter, look)))

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        deter = self.cell(state["deter"], state["stoch"].flatten(1), self.cell.push(action))
        return told_state(deter, self._latent(self.prior(deter)), rng)

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """What is believed comes back as `deter` and `stoch`. With a past, the times from 1 on are judged."""
        if self.training:
            self.encoder.scale.see(clip.obs)
        looks = [self.encoder(some) for some in self._portions(looked_at(clip))]
        tokens = torch.cat([found for found, _ in looks])  # b t+1 e
        deter, stoch, raw = self._follow(tokens, clip, sample=True)
        total, parts = self._told(deter, stoch, raw, [seen for _, seen in looks], clip)
        beliefs = {"deter": deter, "stoch": stoch}
        if clip.past is not None:
            past = self.unpacked(clip.past)
            beliefs = {name: torch.cat([past[name][:, None], value], dim=1) for name, value in beliefs.items()}
        return total, parts, beliefs

    # ------------------------------------------------------------------ faster, and smaller

    def watch(self, clip: Clip) -> State:
        if clip.past is not None:
            return self.study(clip)[2]
        tokens, _ = self.encoder(clip.obs)
        deter, _, raw = self._follow(tokens, clip, sample=False)
        return told_state(deter, self._latent(raw))

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


def _stays(clip: Clip, times: int, like: Tensor) -> tuple[Tensor | None, list[bool]]:
    """The last `times` of a clip: 1 where its episode goes on, 0 where one begins (`b t`), and where any row does."""
    if clip.first is None:
        return None, []
    first = clip.first[:, -times:]
    return (~first).to(like.dtype), first.any(dim=0).tolist()
