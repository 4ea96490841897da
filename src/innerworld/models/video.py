"""Video: the next frame out of noise, frame by frame. Diffusion Forcing (arXiv 2407.01392), and Oasis, Sora, Astra.

A codec turns what is seen into tokens; a space-time transformer takes noise from the tokens of a frame, knowing the
frames before it and the action since. In training every frame of a clip is at a level of noise of its own, so that each
step teaches every frame; imagining goes frame by frame, a few denoising steps each. With a control branch frames can be
asked for by their edges, or by a map, as Cosmos-Transfer does (arXiv 2503.14492); with a prompt a film begins with a
sentence alone.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.codec import Codec
from innerworld.models.heads import Heads
from innerworld.models.remembered import as_state, memory_of
from innerworld.models.tokens import check_action
from innerworld.models.video_config import PRESETS, VideoConfig, check
from innerworld.models.video_control import Control, borrow, drawn
from innerworld.models.video_parts import Denoiser, Memory, Streams, Windows
from innerworld.models.video_prompt import said, unsaid
from innerworld.nn.flow import Denoise, Flow, noise_like, sample
from innerworld.space import room_for
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, Roll, WorldModel, stack

PAINTED = 1024  # frames painted at once to be compared


class Video(WorldModel):
    """State: `z` `b s d`, the tokens of what is seen now; `made` `b e`, what the network makes of them in the light of
    what came before; the memory `memory.*` from which `predict` and `encode` go on; and `prompt` `b e`, what a prompt
    adds to actions, where there is one. A replay keeps no beliefs.

    Without a generator the next frame is what is expected: one step from nothing, where the network learnt that
    (`blank`), else the denoising steps without noise.
    """

    Config = VideoConfig
    restarts = True
    sampling = ("steps", "context", "renoise", "guidance")
    card = Card(
        name="Diffusion Forcing, Oasis, Sora, Astra",
        predicts="pixels",
        decodes=True,
        backbone="space-time transformer; flow matching or diffusion",
        paper="arXiv 2407.01392",
    )
    presets: ClassVar[dict[str, Config]] = PRESETS

    def __init__(self, config: VideoConfig, spec: Spec) -> None:
        check(config)
        config, trunk = borrow(config, spec, Video)
        codec = Codec(config.codec, unsaid(config.prompt, drawn(config.control, spec)))
        config = config.model_copy(update={"codec": codec.config})  # what is saved needs no folder of another run
        super().__init__(config, spec)
        self.codec = codec
        self.flow = Flow(config.schedule, config.prediction, config.ramp)
        self.control = None if config.control.kind == "none" else Control(config.control, spec, codec)
        told = 0 if self.control is None else self.control.width
        self.net = Denoiser(config, codec, spec.action, told, spec.obs[config.prompt][0] if config.prompt else 0)
        dim = config.backbone.dim
        self.heads = Heads(dim, config.units, config.bins, config.reward, config.continues)
        self._known = False  # was it looked at whether a borrowed trunk is here?
        self._take(trunk)

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        if (state is None) != (action is None):
            raise UserError("encode: give both the last state and the action since, or neither")
        self._check_trunk()
        z, prompt = self.codec.look(obs), self._prompt(obs)
        if state is None or action is None:
            return self._kept(z, self.net.unknown.expand(len(z), -1), self.memory.blank(z), None, prompt)
        check_action(action, self.spec)
        return self._kept(z, self.net.act(action), memory_of(state), None, prompt)

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self._next(state, action, rng, None)

    def decode(self, state: State) -> dict[str, Tensor]:
        seen = self.codec.show(state["z"])
        return seen | self.heads.told(state["made"])

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared error of the pixels that are painted, in [0, 1], and of vectors at deviation 1."""
        pairs = zip(state["z"].split(PAINTED), goal["z"].split(PAINTED), strict=True)
        return torch.cat([self._apart(one, other) for one, other in pairs])

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of what the network says of frames at random levels of noise (arXiv 2407.01392, alg. 1).

        While a codec is taught it learns alone. Raises `UserError` where a control map is missing, or of another size.
        """
        self._check_trunk()
        check_action(clip.action, self.spec)
        learnt = self.codec.loss(clip)
        if self.waits():
            return torch.stack(list(learnt.values())).sum(), each(Tensor.detach, learnt) | self.codec.told()
        z = self.codec.look(clip.obs)  # b t+1 s d
        level, blank = self._levels(z)
        noise = torch.randn_like(z) * ~blank[..., None, None]
        mixed = self.flow.mix(z, noise, level)
        steer = self.net.steer(level, self._acts(clip, drop=True))
        out = self.net.body(self.net.enter(mixed), steer, clip.first, self._told(clip))
        error = (self.net.leave(out) - self.flow.target(z, noise, level)).square().mean(dim=(-2, -1))  # b t+1
        weight = torch.where(blank, 1.0, self.flow.weight(level))
        parts = {"denoise": (weight * error).mean()}
        total = parts["denoise"]
        judged = self.heads.losses(out[:, 1:].mean(dim=-2), clip)  # reward[t] comes with obs[t+1]
        return total + self.heads.weighed(judged), each(Tensor.detach, parts | judged)

    # ------------------------------------------------------------------ frames that are asked for

    @property
    def prompt(self) -> str:
        """The vector sensor that says what a film is about; empty: this model is told none."""
        return self.settings.prompt

    def begin(self, prompt: Tensor, rng: Generator | None = None) -> State:
        """Worlds that fit their prompts `b n`, drawn out of nothing: beliefs `b ...` of their first frames.

        Raises `UserError` for a model without a prompt, and one of another size.
        """
        if not self.prompt:
            raise UserError("this model has no prompt: train one with prompt=SENSOR, a vector sensor")
        told = self._prompt({self.prompt: prompt})
        blank = told["prompt"].new_zeros(len(prompt), self.codec.s, self.codec.width)
        act = self.net.unknown.expand(len(prompt), -1)
        return self._imagined(act, self.memory.blank(blank), rng, told, blank)

    def transfer(
        self, state: State, actions: Tensor, control: Tensor, rng: Generator | None = None, weight: float = 1.0
    ) -> State:
        """Imagine frames that fit their control maps: from beliefs `b ...` with actions `b h a`, states each `b h ...`.

        `control` `b h y x c`, uint8 or float in [0, 1], tells of the frame that each action leads to; `maps` makes it
        of what was seen. `weight` is how much that counts, 1 as in training; at 0 it is `predict` again and again.
        Raises `UserError` for a model without a branch, maps of another number, size or channels, and actions that
        are not one row for each belief.
        """
        if self.control is None:
            raise UserError("this model has no control branch: train one with control.kind=edges or map")
        if actions.ndim != 3 or not actions.shape[1] or len(actions) != len(state["z"]):
            raise UserError(f"actions of shape {tuple(actions.shape)}, wanted ({len(state['z'])}, h, a), h at least 1")
        told = self.control.asked(control.to(actions.device), *actions.shape[:2])
        told = self.control.told(told, told.new_full(told.shape[:2], weight))
        states = []
        for t in range(actions.shape[1]):
            state = self._next(state, actions[:, t], rng, told[:, t])
            states.append(self.bare(state))
        return stack(states)

    def maps(self, obs: Obs) -> Tensor:
        """The control maps of what was seen, each sensor `... y x c`: `... y x c` in [0, 1].

        Raises `UserError` for a model without a branch, and where the sensor is missing.
        """
        if self.control is None:
            raise UserError("this model has no control branch, so nothing tells it of a map")
        return self.control.maps(obs)

    # ------------------------------------------------------------------ faster, and smaller

    def watch(self, clip: Clip) -> State:
        self._check_trunk()
        z = self.codec.look(clip.obs)
        check_action(clip.action, self.spec)
        made, memory = self.memory.along(z, self._acts(clip), clip.first)
        return {"z": z, "made": made} | self._prompt(clip.obs) | as_state(memory)

    def roll(self, starts: State, horizon: int) -> Roll:
        """What futures share is looked at once. Raises `UserError` where they would not fit in memory."""
        b, k = starts["z"].shape[:2]
        room_for(
            self.roll_bytes(b, k, horizon),
            starts["z"].device,
            f"imagining {horizon} steps from {b * k} beliefs",
            "imagine from fewer, less far, or see a smaller backbone.window",
        )
        going = self.memory.going(memory_of(starts), horizon)
        like = starts["z"].flatten(0, 1)
        prompt = each(lambda value: value.flatten(0, 1), _prompt_of(starts))

        def step(action: Tensor, rng: Generator | None) -> State:
            check_action(action, self.spec)
            act = _with(self.net.act(action), prompt)
            z = self._drawn(going.denoiser(act, rng), like, rng)
            return {"z": z, "made": going.keep(z, act, rng)}

        return step

    def roll_bytes(self, b: int, k: int, horizon: int, shared: bool = False) -> int:
        return 4 * self.memory.held(b, k, horizon)

    def features(self, state: State) -> Tensor:
        """Tokens, and what is made of them: `b d`."""
        return torch.cat([state["z"].flatten(1), state["made"]], dim=-1)

    def bare(self, state: State) -> State:
        return {"z": state["z"], "made": state["made"]}

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        """Nothing is painted."""
        return self.heads.prospects(state["made"])

    def packed(self, state: State) -> State:
        """Nothing: a memory is far larger than what was seen, so clips are believed from a blank one."""
        return {}

    def prepare(self, clip: Clip) -> None:
        if not self.settings.control.origin:  # a borrowed trunk knows its own tokens only
            self.codec.prepare(clip)

    def waits(self) -> bool:
        return not self.codec.settled

    def after_step(self) -> None:
        self.codec.after_step()

    # ------------------------------------------------------------------ below

    @property
    def memory(self) -> Memory:
        config = self.settings
        return (Streams if config.backbone.causal else Windows)(config, self.flow, self.net)

    @property
    def settings(self) -> VideoConfig:
        return cast(VideoConfig, self.config)

    def _next(self, state: State, action: Tensor, rng: Generator | None, told: Tensor | None) -> State:
        """The belief after an action, of a frame that is told `b s m`, or nothing."""
        check_action(action, self.spec)
        return self._imagined(self.net.act(action), memory_of(state), rng, _prompt_of(state), state["z"], told)

    def _imagined(
        self, act: Tensor, memory: State, rng: Generator | None, prompt: State, like: Tensor, told: Tensor | None = None
    ) -> State:
        z = self._drawn(self.memory.denoiser(_with(act, prompt), memory, rng, told), like, rng)
        return self._kept(z, act, memory, rng, prompt, told)

    def _drawn(self, denoise: Denoise, like: Tensor, rng: Generator | None) -> Tensor:
        """The tokens of the next frame."""
        steps = 1 if rng is None and self.settings.blank else self.settings.steps
        return sample(self.flow, denoise, noise_like(like, rng), steps)

    def _kept(
        self, z: Tensor, act: Tensor, memory: State, rng: Generator | None, prompt: State, told: Tensor | None = None
    ) -> State:
        made, memory = self.memory.keep(z, _with(act, prompt), memory, rng, told)
        return {"z": z, "made": made} | prompt | as_state(memory)

    def _prompt(self, obs: Obs) -> State:
        """What the prompt of what is seen adds to the vectors of actions, `... e`; without one no entry."""
        if self.net.prompt is None:
            return {}
        prompt = said(self.prompt, self.spec, obs)
        return {"prompt": self.net.prompt(F.rms_norm(prompt, prompt.shape[-1:]))}

    def _acts(self, clip: Clip, drop: bool = False) -> Tensor:
        """The vectors of the actions before each frame, with the prompt, `b t+1 e`.

        The action is unknown where an episode begins; dropped is the prompt, too.
        """
        acts = self.net.act(clip.action)
        if clip.first is not None:
            acts = torch.where(clip.first[:, 1:, None], self.net.unknown, acts)
        acts = _with(torch.cat([self.net.unknown.expand(len(acts), 1, -1), acts], dim=1), self._prompt(clip.obs))
        if drop and self.training and self.settings.action_dropout:
            untold = torch.rand(acts.shape[:2], device=acts.device) < self.settings.action_dropout
            acts = torch.where(untold[..., None], self.net.unknown, acts)
        return acts

    def _told(self, clip: Clip) -> Tensor | None:
        """What a branch is told of each frame of a clip, `b t+1 s m`; in training of some from a random moment on."""
        if self.control is None:
            return None
        maps = self.control.maps(clip.obs)
        (b, f), device = maps.shape[:2], maps.device
        shown = torch.ones(b, f, dtype=torch.bool, device=device)
        if self.training and self.settings.control.late:
            moment = torch.randint(f + 1, (b, 1), device=device)
            late = torch.rand(b, 1, device=device) < self.settings.control.late
            shown = ~late | (torch.arange(f, device=device) >= moment)
        return self.control.told(maps, shown.to(maps.dtype))

    def _levels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Levels `b f` at which frames are learnt, and which of them are guessed from nothing."""
        config, (b, f) = self.settings, z.shape[:2]
        level = torch.rand(b, 1 if config.noise == "shared" else f, device=z.device).expand(b, f)
        if config.noise == "history":
            moment = torch.randint(f, (b, 1), device=z.device)
            level = torch.where(torch.arange(f, device=z.device) < moment, 1 - config.augment * level, level)
        blank = torch.rand(b, f, device=z.device) < config.blank
        return level.masked_fill(blank, 0.0), blank

    def _apart(self, z: Tensor, goal: Tensor) -> Tensor:
        """The energy of tokens `b s d`."""
        seen, wanted = self.codec.show(z), self.codec.show(goal)
        apart = [(seen[name] - wanted[name]).square().flatten(1) for name in self.codec.images]
        energy = torch.cat(apart, dim=1).mean(dim=1) if apart else z.new_zeros(len(z))
        pictures = sum(y * x for y, x in self.codec.grids)
        if pictures < self.codec.s:
            energy = energy + (z - goal)[:, pictures:].square().mean(dim=(1, 2))
        return energy

    def _take(self, trunk: Video | None) -> None:
        """As the trunk's run left it, where one is named, with a branch that copies it; and what is held still."""
        control, side = self.settings.control, self.net.body.side
        if control.origin:
            self.lent: Tensor
            self.register_buffer("lent", torch.tensor(int(trunk is not None), dtype=torch.uint8))
        if trunk is not None and side is not None:
            self.load_state_dict(self.state_dict() | trunk.state_dict())
            side.copy(list(self.net.body.blocks), self.net.body.by)
        if side is not None and not control.train_trunk:
            self.requires_grad_(False)
            side.requires_grad_(True)

    def _check_trunk(self) -> None:
        """A borrowed trunk is never replaced by one of drawn weights."""
        origin = self.settings.control.origin
        if origin and not self._known:
            if not bool(self.lent):
                raise UserError(
                    "the trunk is missing, its weights are not here: load this model from its checkpoint, or give "
                    f"control.trunk={origin}"
                )
            self._known = True


def _prompt_of(state: State) -> State:
    """What a belief remembers of its prompt; without one no entry."""
    return {"prompt": state["prompt"]} if "prompt" in state else {}


def _with(act: Tensor, prompt: State) -> Tensor:
    """Vectors of actions, with what a prompt adds to them."""
    return act + prompt["prompt"] if prompt else act
