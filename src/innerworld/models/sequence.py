"""A world model whose memory is a part: attention, Mamba-2, S4, S5, a GRU or a hybrid carries tokens through time.

TransDreamer arXiv 2202.09481, STORM 2310.09615, S4WM 2307.02064, DRAMA 2410.08893 are settings of it.

What an RSSM believes of a moment depends on what it remembered then; so it must take a clip step by step. Here the
latent z comes from what is seen alone, q(z | o). Latent and action make a *token*; the backbone reads tokens, all times
at once, and what it says after token t (`deter` at t+1) guesses the next latent, the reward and the end.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.models.latent_world import LatentWorldModel, build_mlp, told_state
from innerworld.models.remembered import as_state, memory_of, without_memory
from innerworld.models.senses import Decoder
from innerworld.models.sequence_config import PRESETS, SequenceConfig
from innerworld.models.sequence_parts import Stem, build_backbone
from innerworld.nn.backbone.layer import Memory
from innerworld.space import room_for
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, Roll


class SequenceModel(LatentWorldModel):
    """A sequence model over latents and actions.

    State: `deter` `b d`, `stoch` `b g k` and the parameters of its distribution, as an RSSM's, and the memory
    `memory.*` from which `predict` and `encode` go on. Where nothing is remembered `deter` is zero. Beliefs are not
    kept in a replay: they would be far larger than what was seen, so clips are believed from a blank memory.
    """

    Config = SequenceConfig
    restarts = True
    card = Card(
        name="STORM, DRAMA, TransDreamer, S4WM",
        predicts="latents",
        decodes=True,
        backbone="attention, Mamba-2, S4, S5, GRU or hybrid",
        paper="arXiv 2310.09615",
    )
    presets = PRESETS

    def __init__(self, config: SequenceConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.posterior = build_mlp(
            config, self.encoder.width, config.posterior_units, config.posterior_layers, self.raw
        )
        self.stem = Stem(config, self.flat, spec.action)
        self.backbone, self.deter = build_backbone(config.backbone, config.recompute)
        self.prior = build_mlp(config, self.deter, config.prior_units, config.prior_layers, self.raw)
        self.decoder = Decoder(config, spec, self.deter if config.painted == "belief" else 0, self.flat, 1)
        self._build_heads(self.deter + (self.flat if config.judged == "belief" else 0), config.dense_bias)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        latent = self._latent(self.posterior(self.encoder(obs)[0]))
        like = next(iter(latent.tensors().values())).flatten(1)
        if state is None or action is None:
            deter, memory = like.new_zeros(len(like), self.deter), self.backbone.blank(len(like), like)
        else:
            deter, memory = self.backbone.step(self.stem(state["stoch"].flatten(1), action), memory_of(state))
        return told_state(deter, latent) | as_state(self.backbone.trim(memory))

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        deter, memory = self.backbone.step(self.stem(state["stoch"].flatten(1), action), memory_of(state))
        return told_state(deter, self._latent(self.prior(deter)), rng) | as_state(memory)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        total, parts, _ = self._learn(clip, remember=False)
        return total, parts

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        return self._learn(clip, remember=True)

    def watch(self, clip: Clip) -> State:
        if not clip.length:  # one look, no token
            return super().watch(clip)
        latent = self._latent(self.posterior(self.encoder(clip.obs)[0]))
        deter, memory = self._follow(latent.mode(), clip)
        return told_state(deter, latent) | memory

    # ------------------------------------------------------------------ imagining, from everywhere

    def roll(self, starts: State, horizon: int) -> Roll:
        """What futures share is computed once (`Layer.roll`). Raises `UserError` where they would not fit in memory."""
        b, k = starts["stoch"].shape[:2]
        memory = memory_of(starts)
        shared = all(value.stride(1) == 0 for value in memory.values())  # one belief, expanded
        room_for(
            self.roll_bytes(b, k, horizon, shared) * starts["stoch"].element_size() // 4,
            starts["stoch"].device,
            f"imagining {horizon} steps from {b * k} beliefs",
            "imagine from fewer (actor_critic.starts, samples), less far, or see a smaller backbone.window",
        )
        roll = self.backbone.roll(memory, horizon)
        stoch = starts["stoch"].flatten(0, 1)  # (b k) g n

        def step(action: Tensor, rng: Generator | None) -> State:
            nonlocal stoch
            token = self.stem(stoch.flatten(1), action)
            deter = roll(token.unflatten(0, (b, k))).flatten(0, 1)
            state = told_state(deter, self._latent(self.prior(deter)), rng)
            stoch = state["stoch"]
            return state

        return step

    def roll_bytes(self, b: int, k: int, horizon: int, shared: bool = False) -> int:
        return 4 * self.backbone.held(b, k, horizon, shared)

    def bare(self, state: State) -> State:
        return without_memory(state)

    def packed(self, state: State) -> State:
        """Nothing."""
        return {}

    # ------------------------------------------------------------------ below

    def _learn(self, clip: Clip, remember: bool) -> tuple[Tensor, dict[str, Tensor], State]:
        """The loss, its parts and the beliefs, with their memories where they are asked for.

        A blank memory guesses nothing: where an episode begins, and at the clip's beginning, no KL is counted.
        """
        if self.training:
            self.encoder.scale.see(clip.obs)
        looks = [self.encoder(some) for some in self._portions(clip.obs)]
        raw = self.posterior(torch.cat([found for found, _ in looks]))  # b t+1 (g k)
        stoch = self._draw(self._latent(raw))
        deter, memory = self._follow(stoch, clip, remember)
        guessed = torch.ones(deter.shape[:2], dtype=torch.bool, device=deter.device)
        guessed[:, 0] = False
        if clip.first is not None:
            guessed &= ~clip.first
        total, parts = self._told(deter, stoch, raw, [seen for _, seen in looks], clip, guessed)
        return total, parts, {"deter": deter, "stoch": stoch} | memory

    def _follow(self, stoch: Tensor, clip: Clip, remember: bool = True) -> tuple[Tensor, State]:
        """What is remembered along latents `b t+1 g k`: `deter` `b t+1 d`, and the memories, each `b t+1 ...`."""
        tokens = self.stem(stoch[:, :-1].flatten(2), clip.action)
        memory: Memory = {}
        if remember:
            deter, memory = self.backbone.trace(tokens, clip.first)
        else:
            deter = self.backbone(tokens, None if clip.first is None else clip.first[:, :-1])
        deter = torch.cat([torch.zeros_like(deter[:, :1]), deter], dim=1)
        if clip.first is not None:
            deter = deter * ~clip.first.unsqueeze(-1)
        return deter, as_state(memory)

    def _painted_from(self, deter: Tensor, feat: Tensor) -> tuple[Tensor, Tensor]:
        if cast(SequenceConfig, self.config).painted == "belief":
            return deter, feat
        return deter[..., :0], feat[..., self.deter :]

    def _judged_from(self, deter: Tensor, feat: Tensor) -> Tensor:
        return feat if cast(SequenceConfig, self.config).judged == "belief" else deter
