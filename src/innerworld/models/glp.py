"""GLP (arXiv 2507.05169) and PAN (2511.09057): a latent world model that is checked in latents, in pictures, or both.

An encoder h turns what is seen into a latent, dynamics f turn it and an action into the next one, a decoder g draws
what will be seen then. The dial `latent` · L_latent + `generative` · L_gen has a JEPA at one end and PAN's objective at
the other; everything else stays the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, cast

import torch
from torch import Generator, Tensor

from innerworld import losses
from innerworld.config import Config
from innerworld.models.codec import Codec
from innerworld.models.glp_config import PRESETS, GLPConfig, check
from innerworld.models.glp_decoder import FlowDecoder, Trail
from innerworld.models.heads import Heads
from innerworld.models.jepa import JEPA, JEPAConfig
from innerworld.models.latent_world import lived
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, Roll, WorldModel, choose_rows, flatten

WINDOW = ("frame", "told", "half", "still", "seen")  # of a state: what a decoder's window holds
DRAWN = 1024  # pictures drawn at once


class GLP(WorldModel):
    """h and f are those of a `JEPA`, g a `FlowDecoder`. State: `z` `b d`, and the memory of f where it has one.

    With `reencode` also `frame` `b s w`, the tokens of what is seen or drawn now; with PAN's window what that holds.
    Without g (`generative` 0 and not `beside`) nothing is decoded. A goal is compared latent to latent.
    """

    Config = GLPConfig
    restarts = True
    sampling = ("decoder.steps",)
    card = Card(
        name="GLP / PAN",
        predicts="latents and pixels",
        decodes=True,
        backbone="MLP, GRU or causal transformer; flow matching",
        paper="arXiv 2507.05169, 2511.09057",
    )
    presets: ClassVar[dict[str, Config]] = PRESETS

    def __init__(self, config: GLPConfig, spec: Spec) -> None:
        check(config)
        jepa = JEPA(config.jepa, spec)
        codec = Codec(config.codec, spec) if config.generative or config.beside else None
        found = {"jepa": jepa.config, "codec": codec.config if codec else config.codec}
        config = config.model_copy(update=found)  # what is saved needs no folder of another run
        super().__init__(config, spec)
        self.jepa, self.codec = jepa, codec
        self.decoder = FlowDecoder(config.decoder, self._own.latent, codec) if codec else None
        if codec is None:
            self.card = replace(self.card, decodes=False)  # pyright: ignore[reportAttributeAccessIssue]
        d, units = self._own.latent, config.units
        self.heads = Heads(d, units, config.bins, config.reward, config.continues)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return self.jepa.encode(obs, state, action) | self._window_at(obs)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self._next(state, action, rng)[0]

    def decode(self, state: State) -> dict[str, Tensor]:
        """Pictures and vectors as g draws them, without a generator: from the middle of all noise."""
        if self.decoder is None or self.codec is None:
            return {}
        tokens = state.get("frame")
        if tokens is None:
            tokens = torch.cat([self.decoder.draw(z) for z in state["z"].split(DRAWN)])
        seen = self.codec.show(tokens)
        return seen | self.heads.told(state["z"])

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared distance of the latents, as a JEPA's."""
        return self.jepa.energy(state, goal)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """L_GLP = E disc(g(f(h(o), a)), o'), L_JEPA = E ‖f(h(o), a) - h(o')‖² (2511.09057), each with its weight.

        disc is flow matching's. Both are taken over single steps and, with `jepa.rollout`, over imagined ones in a row.
        While a codec learns by itself, the generative loss waits for it.
        """
        return self._checked(self.jepa.see(clip), clip)

    # ------------------------------------------------------------------ learning

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        if self._draws or self._remembers:
            return super().study(clip)
        z = self.jepa.see(clip)  # which is all that is believed: look once
        return *self._checked(z, clip), {"z": z}

    def _checked(self, z: Tensor, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a clip that was seen as `b t+1 d`, and its parts."""
        config = cast(GLPConfig, self.config)
        guessed = self._guessed(z, clip)  # of each kind, from time 1 on: b m d, and which of them count, b m
        latent, parts = self._latent(z, guessed)
        total, apart = self._apart(z, clip)
        if config.latent:
            total = total + config.latent * latent
        parts |= apart
        if self.codec is not None and self.decoder is not None:
            learnt = self.codec.loss(clip)
            total, parts = total + sum(learnt.values()), parts | learnt | self.codec.told()
            if self.codec.settled:
                parts["generate"] = self._generative(self.codec, self.decoder, guessed, clip)
                total = total + (config.generative or 1.0) * parts["generate"]
        judged = self._judged(z, guessed, clip)
        return total + self.heads.weighed(judged), each(Tensor.detach, parts | judged)

    def _guessed(self, z: Tensor, clip: Clip) -> dict[str, tuple[Tensor, Tensor]]:
        """What f says, by name: each from the true latent before it, and imagined in a row from the first."""
        config = self._own
        real = torch.ones_like(clip.reward, dtype=torch.bool) if clip.first is None else ~clip.first[:, 1:]
        found = {"predict": (self._singly(z, clip), real)}
        if config.rollout:
            start = {"z": z[:, 0], **self.jepa.predictor.blank(z[:, 0])}
            imagined = self.jepa.predictor.branch(start, clip.action[:, None, : config.rollout])[:, 0]  # b h d
            found["rollout"] = imagined, real[:, : config.rollout].cumprod(dim=1).bool()
        return found

    def _singly(self, z: Tensor, clip: Clip) -> Tensor:
        """The next latents `b t d`, each from the true ones before it in its episode."""
        predictor = self.jepa.predictor
        if clip.first is None or not self._remembers:
            return predictor(z[:, :-1], clip.action)
        guess, memory = [], predictor.blank(z[:, 0])
        for t in range(clip.length):
            following, memory = predictor.step({"z": z[:, t], **memory}, clip.action[:, t])
            memory = choose_rows(clip.first[:, t + 1], predictor.blank(z[:, t]), memory)
            guess.append(following)
        return torch.stack(guess, dim=1)

    def _latent(self, z: Tensor, guessed: dict[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """L_latent as family jepa has it: squared error of the latents."""
        target = z.detach() if self._own.detach else z
        parts = {}
        for name, (guess, real) in guessed.items():
            error = (guess - target[:, 1 : guess.shape[1] + 1]).square().mean(dim=-1)
            parts[name] = (error * real).sum() / real.sum().clamp(min=1)
        return self._own.single * parts["predict"] + parts.get("rollout", z.new_zeros(())), parts

    def _apart(self, z: Tensor, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """What keeps latents from collapsing, term by term as family jepa has it, weighted; and its parts."""
        config = self._own
        over_batch = z.transpose(0, 1)  # t+1 b d
        rows = {"step": over_batch, "first": z[:, 0], "all": z.flatten(0, 1)}[config.spread]
        parts: dict[str, Tensor] = {}
        if config.sigreg:
            columns = losses.directions(config.latent, config.slices, like=z)
            parts["sigreg"] = losses.sigreg(over_batch, columns)
        if config.std:
            parts["std"] = losses.std_hinge(rows)
        if config.cov:
            parts["cov"] = losses.covariance(rows)
        if config.std_time:
            parts["std_time"] = losses.std_over_time(z)
        if config.smooth:
            parts["smooth"] = lived(z.diff(dim=1).square().mean(dim=-1), clip)
        if self.jepa.inverse is not None:
            guess = self.jepa.inverse(torch.cat([z[:, :-1], z[:, 1:]], dim=-1))
            parts["inverse"] = lived((guess - clip.action).square().mean(dim=-1), clip)
        weights = config.model_dump(include=set(parts))
        return sum((weights[name] * part for name, part in parts.items()), z.new_zeros(())), parts

    def _generative(
        self, codec: Codec, decoder: FlowDecoder, guessed: dict[str, tuple[Tensor, Tensor]], clip: Clip
    ) -> Tensor:
        """L_gen: the frames that really came, drawn from what f says of them. The mean over the kinds of steps."""
        config = cast(GLPConfig, self.config)
        frames = codec.look(clip.obs)  # b t+1 s w
        errors = []
        for name, (guess, real) in guessed.items():
            if name == "predict" and not self._own.single:
                continue
            told = guess.detach() if config.beside else guess
            errors.append(decoder.loss(told, frames[:, : guess.shape[1] + 1], real))
        return torch.stack(errors).mean()

    def _judged(self, z: Tensor, guessed: dict[str, tuple[Tensor, Tensor]], clip: Clip) -> dict[str, Tensor]:
        """Reward and continuation, read off what was seen and off what f says of it."""
        read = torch.stack([z[:, 1:], guessed["predict"][0]])  # 2 b t d; reward[t] comes with obs[t+1]
        return self.heads.losses(read, clip)

    def prepare(self, clip: Clip) -> None:
        if self.codec is not None:
            self.codec.prepare(clip)

    def waits(self) -> bool:
        """g, for a codec that is taught along."""
        return self.codec is not None and not self.codec.settled

    def after_step(self) -> None:
        self.jepa.after_step()
        if self.codec is not None:
            self.codec.after_step()

    # ------------------------------------------------------------------ faster, and smaller

    def features(self, state: State) -> Tensor:
        return state["z"]

    def bare(self, state: State) -> State:
        return {name: state[name] for name in ("z", "frame") if name in state}

    def imagine(self, state: State, actions: Tensor) -> State:
        """Latents only, unless each is looked at or drawn after the one before it."""
        return super().imagine(state, actions) if self._draws else self.jepa.imagine(state, actions)

    def roll(self, starts: State, horizon: int) -> Roll:
        """What is left of drawing a chunk is kept for the next one, which sees it at every step."""
        state, trail = flatten(starts, 2), None

        def step(action: Tensor, rng: Generator | None) -> State:
            nonlocal state, trail
            state, trail = self._next(state, action, rng, trail)
            return state

        return step

    def watch(self, clip: Clip) -> State:
        if self._remembers and clip.first is not None:
            return super().watch(clip)  # it must forget
        flat = {name: clip.obs[name].flatten(0, 1) for name in self.spec.obs}
        window = each(lambda value: value.unflatten(0, (-1, clip.length + 1)), self._window_at(flat))
        return self.jepa.watch(clip) | window

    def impressions(self, clip: Clip) -> Tensor:
        return self.jepa.see(clip)

    def reads(self, stored: Spec) -> list[str]:
        return super().reads(stored) if self.codec is None else self.codec.reads(stored, pixels=True)

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        """Nothing is drawn."""
        return self.heads.prospects(state["z"])

    def packed(self, state: State) -> State:
        """Nothing: a picture tells the latent, so a clip begins with looking."""
        return {}

    # ------------------------------------------------------------------ below

    @property
    def _own(self) -> JEPAConfig:
        return cast(JEPAConfig, self.jepa.config)

    @property
    def _remembers(self) -> bool:
        """Does f have a memory beside the latent?"""
        return self._own.predictor == "transformer"

    @property
    def _windowed(self) -> bool:
        return self.decoder is not None and self.decoder.config.kind == "window"

    @property
    def _draws(self) -> bool:
        """Is every imagined frame drawn at once?"""
        return self._windowed or cast(GLPConfig, self.config).reencode

    def _next(
        self, state: State, action: Tensor, rng: Generator | None, trail: Trail | None = None
    ) -> tuple[State, Trail | None]:
        """The belief after acting, and what PAN's window leaves to the next chunk."""
        z, memory = self.jepa.predictor.step(state, action)
        after = {"z": z, **memory}
        if self.decoder is None or self.codec is None or not self._draws:
            return after, None
        if self._windowed:
            window, trail = self.decoder.slide({name: state[name] for name in WINDOW}, z, rng, trail)
            after |= window
        else:
            after["frame"] = self.decoder.draw(z, rng)
        if cast(GLPConfig, self.config).reencode:
            after["z"] = self.jepa.encode(self.codec.show(after["frame"]))["z"]
        return after, trail

    def _window_at(self, obs: Obs) -> State:
        """What a belief holds of a picture beside its latent, where something was seen."""
        if self.decoder is None or self.codec is None or not self._draws:
            return {}
        frame = self.codec.look(obs)
        return self.decoder.begin(frame) if self._windowed else {"frame": frame}
