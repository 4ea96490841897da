"""Genie-style worlds (arXiv 2402.15391): played by actions that were found in video where none was recorded.

Three parts: a tokenizer, a latent action model and dynamics over words (MaskGIT). Genie 2 and 3 are not published; what
is here follows the first paper, with the choices of its open versions (jasmine, tinyworlds) as settings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, cast

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.genie_config import PRESETS, GenieConfig, check
from innerworld.models.genie_labels import Labels, Meaning
from innerworld.models.genie_words import Words
from innerworld.models.heads import Heads
from innerworld.models.latent_actions import LatentActions
from innerworld.models.maskgit import MaskGIT
from innerworld.models.remembered import as_state, memory_of
from innerworld.models.tokens import check_action
from innerworld.space import room_for
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, Roll, WorldModel

PAINTED = 1024  # frames painted at once to be compared


class Genie(WorldModel):
    """State: `words` `b s k`, of the frame of now; `made` `b d`, what the dynamics make of it in the light of what came
    before; and their memory `memory.*`, from which `predict` and `encode` go on. A replay keeps no beliefs.

    Nothing is learned from the clips' actions but what codes stand for, from `labels.count` transitions of the first
    batch (`prepare`). Sensors that are no pictures are not seen. Raises `UserError` for a world without pictures.
    """

    Config = GenieConfig
    restarts = True
    sampling = ("dynamics.steps", "dynamics.temperature")
    card = Card(
        name="Genie",
        predicts="tokens",
        decodes=True,
        backbone="space-time transformer; MaskGIT, latent actions",
        paper="arXiv 2402.15391",
    )
    presets: ClassVar[dict[str, Config]] = PRESETS

    def __init__(self, config: GenieConfig, spec: Spec) -> None:
        check(config)
        words = Words(config.codec, spec, config.levels)
        config = config.model_copy(update={"codec": words.codec.config})  # what is saved needs no folder of another run
        super().__init__(config, spec)
        self.words = words
        self.actions = LatentActions(config.actions, spec)
        codes = self.actions.codes
        if config.played == "codes" and not (spec.discrete and spec.action == codes):
            raise UserError(f"played=codes has {codes} choices as actions, this world has others: see played_by_codes")
        self.dynamics = MaskGIT(config.dynamics, words.codec.grids, words.codec.width, words.k, words.classes, codes)
        self.labels = (
            Labels(config.labels, spec, config.actions.skip) if spec.action and config.played == "actions" else None
        )
        dim = config.dynamics.backbone.dim
        self.heads = Heads(dim, config.units, config.bins, config.reward, config.continues)
        self._meaning: Meaning | None = None  # as the latent action model understands it now; none: not looked at

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        words = self.words.look(obs)
        if state is None or action is None:
            unknown = torch.full((len(words),), self.dynamics.unknown, device=words.device)
            return self._kept(words, unknown, self.dynamics.body.blank(len(words), self.dynamics.masked))
        return self._kept(words, self.code(action), memory_of(state))

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        act, memory = self.code(action), memory_of(state)
        words = self.dynamics.fill(
            lambda x, steer: self.dynamics.body.peek(x, steer, memory), self.words.tokens, act, rng
        )
        return self._kept(words, act, memory)

    def decode(self, state: State) -> dict[str, Tensor]:
        seen = self.words.show(state["words"])
        return seen | self.heads.told(state["made"])

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared error of the pixels that are painted, in [0, 1]."""
        pairs = zip(state["words"].split(PAINTED), goal["words"].split(PAINTED), strict=True)
        return torch.cat([self._apart(one, other) for one, other in pairs])

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of masked words, given latent actions that the gradient does not reach (§2.2).

        While a codec is taught, and the latent actions where they have `steps`, these learn alone, side by side.
        """
        codec, actions = self.words.codec, self.actions
        parts = codec.loss(clip) | actions.loss(clip)
        told = codec.told() | actions.told()
        total = sum(parts.values(), torch.zeros((), device=clip.action.device))
        if not self.waits():
            own = self._dynamics_loss(clip)
            total = total + own["words"] + self.heads.weighed({key: own[key] for key in own if key != "words"})
            parts |= own
        return total, each(Tensor.detach, parts) | told

    # ------------------------------------------------------------------ what actions are

    def code(self, action: Tensor) -> Tensor:
        """The latent actions `b` as which actions `b a` of this model are played.

        Raises `UserError` for actions of another size, and for a choice that no labelled transition shows.
        """
        check_action(action, self.spec)
        return self.meaning().code(action)

    def meaning(self) -> Meaning:
        """What latent actions stand for, by the labelled transitions as they are understood now."""
        device = self.heads.bins.device
        if self._meaning is None or self._meaning.table.device != device:
            pairs = torch.zeros(0, dtype=torch.long, device=device), torch.zeros(0, self.spec.action, device=device)
            if self.labels is not None:
                pairs = self.labels.pairs(self.actions.infer)
            self._meaning = Meaning(*pairs, self.actions.codes, self.spec)
        return self._meaning

    def played_by_codes(self) -> Genie:
        """The same world, with a copy of the weights, whose actions are its latent ones: as many choices as codes."""
        spec = replace(self.spec, action=self.actions.codes, discrete=True)
        found = Genie(self.settings.model_copy(update={"played": "codes"}), spec).to(self.heads.bins.device)
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("labels.")}
        found.load_state_dict(own)
        return found.eval()

    def told_by_codes(self, clip: Clip) -> Clip:
        """The same clip with the latent actions that are inferred from its frames, one-hot: for `played_by_codes`."""
        codes = self.actions.infer(clip.obs, clip.first)
        return replace(clip, action=F.one_hot(codes, self.actions.codes).float(), past=None)

    def infer_actions(self, clip: Clip) -> tuple[Tensor, Tensor, int]:
        """The latent actions of a clip's steps `b t`, which of them count `b t`, and how many codes there are."""
        return self.actions.infer(clip.obs, clip.first), self.actions.counted(clip), self.actions.codes

    def real_actions(self, codes: Tensor) -> tuple[Tensor, int]:
        """The real actions `b t a` that codes stand for, and how many labelled transitions say so; none of a video.

        Raises `UserError` for a model that is played by codes.
        """
        if self.settings.played == "codes":
            raise UserError("played=codes: real actions are unknown to this model, judge the one it was made of")
        meaning = self.meaning()
        if not self.spec.action:
            return codes.new_zeros(*codes.shape, 0, dtype=torch.float32), meaning.count
        return meaning.real(codes), meaning.count

    # ------------------------------------------------------------------ faster, and smaller

    def watch(self, clip: Clip) -> State:
        words = self.words.look(clip.obs)  # b t+1 s k
        acts = self._acts(self.code(clip.action), clip.first)
        out, memory = self.dynamics.body.trace(*self.dynamics.enter(self.words.tokens(words), acts), clip.first)
        return {"words": words, "made": out.mean(dim=-2)} | as_state(memory)

    def roll(self, starts: State, horizon: int) -> Roll:
        """What futures share is looked at once. Raises `UserError` where they would not fit in memory."""
        b, k = starts["words"].shape[:2]
        body = self.dynamics.body
        room_for(
            4 * body.held(b, k, horizon),
            starts["words"].device,
            f"imagining {horizon} steps from {b * k} beliefs",
            "imagine from fewer, less far, or see a smaller dynamics.backbone.window",
        )
        rolling = body.roll(memory_of(starts), horizon)

        def step(action: Tensor, rng: Generator | None) -> State:
            act = self.code(action)
            words = self.dynamics.fill(rolling.peek, self.words.tokens, act, rng)
            out = rolling.keep(*self.dynamics.enter(self.words.tokens(words), act))
            return {"words": words, "made": out.mean(dim=-2)}

        return step

    def features(self, state: State) -> Tensor:
        """Tokens, and what is made of them: `b d`."""
        return torch.cat([self.words.tokens(state["words"]).flatten(1), state["made"]], dim=-1)

    def bare(self, state: State) -> State:
        return {"words": state["words"], "made": state["made"]}

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        """Nothing is painted."""
        return self.heads.prospects(state["made"])

    def packed(self, state: State) -> State:
        """Nothing: a memory is far larger than what was seen, so clips are believed from a blank one."""
        return {}

    def reads(self, stored: Spec) -> list[str]:
        return self.words.codec.reads(stored, pixels=True)

    def prepare(self, clip: Clip) -> None:
        self.words.prepare(clip)
        self.actions.prepare(clip)
        if self.labels is not None:
            self.labels.take(clip, self.actions.counted)
        self._meaning = None

    def waits(self) -> bool:
        """The dynamics, for words and codes that mean the same from then on."""
        return not self.words.codec.settled or (bool(self.actions.config.steps) and not self.actions.settled)

    def after_step(self) -> None:
        self.words.codec.after_step()
        self.actions.after_step()
        self._meaning = None

    # ------------------------------------------------------------------ below

    @property
    def settings(self) -> GenieConfig:
        return cast(GenieConfig, self.config)

    def _dynamics_loss(self, clip: Clip) -> dict[str, Tensor]:
        words = self.words.look(clip.obs)  # b t+1 s k
        codes = self.actions.infer(clip.obs, clip.first)
        acts = self._acts(codes.masked_fill(~self.actions.counted(clip), self.dynamics.unknown), clip.first)
        drop = self.settings.dynamics.drop
        told = acts
        if self.training and drop:
            told = acts.masked_fill(torch.rand(acts.shape, device=acts.device) < drop, self.dynamics.unknown)
        tokens = self.words.tokens(words)
        parts = {"words": self.dynamics.loss(tokens, words, told, clip.first)}
        if not self.heads.some:
            return parts
        out = self.dynamics.body(*self.dynamics.enter(tokens, acts), clip.first)
        made = out[:, 1:].mean(dim=-2)  # reward[t] comes with obs[t+1]
        return parts | self.heads.losses(made, clip)

    def _acts(self, codes: Tensor, first: Tensor | None) -> Tensor:
        """Codes `b t` → those before each frame, `b t+1`; unknown where an episode begins."""
        acts = F.pad(codes, (1, 0), value=self.dynamics.unknown)
        return acts if first is None else acts.masked_fill(first, self.dynamics.unknown)

    def _kept(self, words: Tensor, act: Tensor, memory: State) -> State:
        out, memory = self.dynamics.body.keep(*self.dynamics.enter(self.words.tokens(words), act), memory)
        return {"words": words, "made": out.mean(dim=-2)} | as_state(memory)

    def _apart(self, words: Tensor, goal: Tensor) -> Tensor:
        """The energy of words `b s k`."""
        seen, wanted = self.words.show(words), self.words.show(goal)
        return torch.cat([(seen[name] - wanted[name]).square().flatten(1) for name in seen], dim=1).mean(dim=1)
