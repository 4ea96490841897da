"""V-JEPA 2-AC: what frozen eyes would see after an action, for any robot (arXiv 2506.09985, §3 and appendix B).

Eyes that learnt from video alone stay as they are; a transformer learns what their tokens become when the robot acts.
A goal is a picture, and how far away it is, the mean absolute difference of the tokens.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.ac_predictor import ACPredictor
from innerworld.models.eyes import BorrowConfig, BorrowedEyes, borrow
from innerworld.models.robot_state import Robot, Rule
from innerworld.models.tokens import check_action, check_sizes, look, to_read
from innerworld.nn.rotary import Pairing
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, WorldModel, stack

TOKENS = 65536
"""Of all candidates that are imagined at once and of their past: more would need memory and save no time."""


class VJEPA2ACConfig(Config):
    eyes: BorrowConfig = Field(default=BorrowConfig(), description="the frozen encoder whose tokens are predicted")
    dim: int = Field(default=384, description="width of the predictor", ge=12)
    depth: int = Field(default=6, description="its blocks", ge=1)
    heads: int = Field(default=6, description="its attention heads, of 12 channels or more", ge=1)
    mlp: int = Field(default=1536, description="hidden width of a block's MLP", ge=1)
    window: int = Field(default=8, description="steps that a token sees, its own included", ge=1)
    remember: bool = Field(
        default=True, description="what was seen before stays in view when looking again (as published: no)"
    )
    pairing: Pairing = Field(default="standard", description="which channels turn together (as published: vjepa2)")
    rope_grid: int | None = Field(
        default=None, description="stretch rows and columns to a grid of this side (as published: 16)", ge=1
    )
    extrinsics: str | None = Field(
        default=None, description="the vector sensor that says where the camera is; it stays there in imagination"
    )
    state_rule: Rule = Field(
        default="hold", description="how the robot's state, all other vectors, goes on when acting"
    )
    action_low: tuple[float, ...] = Field(
        default=(), description="what an action of -1 stands for in the state's unit, for all or each number (none: -1)"
    )
    action_high: tuple[float, ...] = Field(default=(), description="what an action of +1 stands for (none: +1)")
    standardise: bool = Field(
        default=False, description="tell states and actions by their mean and deviation in training (as published: no)"
    )
    residual: bool = Field(
        default=False, description="predict what changes rather than what will be; for little data (as published: no)"
    )
    teacher: float = Field(default=1.0, description="weight of the error of single steps from true tokens", ge=0)
    rollout: float = Field(default=1.0, description="weight of the error of steps imagined in a row", ge=0)
    rollout_steps: int = Field(default=2, description="how many are imagined in a row from a clip's first frame", ge=1)


class VJEPA2AC(WorldModel):
    """Frozen eyes, each frame alone; block-causal predictor of [action, state, patches]; L1 on normed tokens.

    Sees one picture or more, all by the same eyes; vectors are the robot's state, of which it needs none. Raises
    `UserError` for a model without eyes or with learning ones, sizes other than those it was made for, and clips
    shorter than `rollout_steps`.
    """

    Config = VJEPA2ACConfig
    alike = True  # a mean of tokens is mostly walls and floor
    card = Card(
        name="V-JEPA 2-AC",
        predicts="latents",
        decodes=False,
        backbone="block-causal transformer",
        paper="arXiv 2506.09985",
    )
    presets: ClassVar[dict[str, Config]] = {
        "tiny": VJEPA2ACConfig(
            eyes=BorrowConfig(family="vjepa2", preset="tiny"),
            dim=192,
            depth=4,
            heads=6,
            mlp=768,
            standardise=True,
            residual=True,
        ),
        # 16 frames at 4 per second, batch 256, AdamW 4.25e-4 (warm-up, constant, decay to 0), decay 0.04 go with it.
        "vitg16": VJEPA2ACConfig(
            eyes=BorrowConfig(family="vjepa2", preset="vitg16"),
            dim=1024,
            depth=24,
            heads=16,
            mlp=4096,
            window=16,
            remember=False,
            pairing="vjepa2",
            rope_grid=16,
            state_rule="pose",
        ),
    }

    def __init__(self, config: VJEPA2ACConfig, spec: Spec) -> None:
        found, borrowed = _eyes(config.eyes, spec)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        self.eyes = nn.ModuleList(borrowed)
        self.fingerprint = found.fingerprint
        self.vectors = [name for name in spec.vectors() if name != config.extrinsics]
        if config.extrinsics is not None and config.extrinsics not in spec.vectors():
            raise UserError(f"extrinsics={config.extrinsics!r} is no vector sensor here: there are {spec.vectors()}")
        state = sum(spec.obs[name][0] for name in self.vectors)
        self.robot = Robot(
            config.state_rule, state, spec.action, config.action_low, config.action_high, config.standardise
        )
        self.predictor = ACPredictor(
            eyes=borrowed[0].width,
            action=spec.action,
            state=state,
            extrinsics=spec.obs[config.extrinsics][0] if config.extrinsics else 0,
            grids=[_grid(eye, spec.obs[name], found.size) for eye, name in zip(borrowed, spec.images(), strict=True)],
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            mlp=config.mlp,
            window=config.window,
            pairing=config.pairing,
            rope_grid=config.rope_grid,
        )
        if config.residual:  # what has learnt nothing yet says that nothing changes
            nn.init.zeros_(self.predictor.out.weight)

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        seen = self._look(obs)
        return {**seen, **self._memory(len(seen["z"]), state, action)}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        check_action(action, self.spec)
        z, memory = self._step(state, action)
        return {"z": z, "pose": self.robot.act(state["pose"], action), "extrinsics": state["extrinsics"], **memory}

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean absolute difference of the tokens (eq. 5)."""
        return (state["z"] - goal["z"]).abs().flatten(1).mean(dim=1)

    def features(self, state: State) -> Tensor:
        """The mean of the tokens."""
        return state["z"].mean(dim=-2)

    def imagine(self, state: State, actions: Tensor) -> State:
        """Tokens only, `b n h s d`: candidates share the past's keys and values, and keep those of their own steps."""
        check_action(actions, self.spec)
        b, _, h, _ = actions.shape
        used = min(int(state["time"].max()), cast(VJEPA2ACConfig, self.config).window - 1)  # steps of the past
        at_once = max(1, TOKENS // (b * (used + h) * self.predictor.step_size))
        return {"z": torch.cat([self._roll(state, some) for some in actions.split(at_once, dim=1)], dim=1)}

    def watch(self, clip: Clip) -> State:
        seen = self._look(clip.obs)
        believed = each(lambda value: value[:, 0], seen)
        states = [{**believed, **self._memory(len(clip.action), None, None)}]
        for t in range(clip.length):
            believed = each(lambda value, t=t: value[:, t + 1], seen)
            states.append({**believed, **self._memory(len(clip.action), states[-1], clip.action[:, t])})
        return stack(states)

    def impressions(self, clip: Clip) -> Tensor:
        """The mean of each frame's tokens, without the memory that a belief has."""
        return self._look(clip.obs)["z"].mean(dim=-2)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Teacher forcing + rollout (eq. 2–4): `errors` of what is seen in the clip, by their weights."""
        config = cast(VJEPA2ACConfig, self.config)
        if config.rollout and clip.length < config.rollout_steps:
            raise UserError(
                f"clips of {clip.length} actions are shorter than rollout_steps={config.rollout_steps}: give a greater "
                "--length or a smaller model.rollout_steps"
            )
        check_action(clip.action, self.spec)
        seen = self._look(clip.obs)
        if self.training:
            self.robot.see(clip.action, seen["pose"][:, :-1])
        parts = self.errors(seen, clip.action)
        total = config.teacher * parts["teacher"]
        if config.rollout:
            total = total + config.rollout * parts["rollout"]
        return total, each(Tensor.detach, parts)

    def errors(self, seen: State, action: Tensor) -> dict[str, Tensor]:
        """L1 of single steps from true tokens ("teacher"), and of steps in a row from the first frame ("rollout").

        `seen` holds normed tokens, states and extrinsics, each `b t+1 ...`. In a row, the first guess stands in for the
        second frame and so on, with gradient, as in the released code since its loss was mended
        (facebookresearch/vjepa2, pull request 25); actions and states are the true ones.
        """
        config = cast(VJEPA2ACConfig, self.config)
        z, pose, extrinsics = (seen[name] for name in _SEEN)
        given = self.robot.told(action, pose[:, :-1])
        guess = self._after(z[:, :-1], self.predictor(z[:, :-1], *given, extrinsics[:, :-1]))
        parts = {"teacher": (guess - z[:, 1:]).abs().mean()}
        if config.rollout:
            imagined = self._in_a_row(z[:, :1], action, pose, extrinsics, config.rollout_steps)
            parts["rollout"] = (imagined - z[:, 1 : config.rollout_steps + 1]).abs().mean()
        return parts

    def reads(self, stored: Spec) -> list[str]:
        """Tokens that these eyes left in a store instead of its pictures."""
        return to_read(self.spec, stored, self.fingerprint)

    # ------------------------------------------------------------------ what is seen

    def _look(self, obs: Obs) -> State:
        """Normed tokens `... s d`, the robot's state `... p` and the camera's place `... e`."""
        check_sizes(obs, self.spec, self.fingerprint)
        config = cast(VJEPA2ACConfig, self.config)
        eyes = (cast(BorrowedEyes, eye) for eye in self.eyes)
        z = torch.cat([look(eye, obs, name) for eye, name in zip(eyes, self.spec.images(), strict=True)], dim=-2)
        nothing = z.new_zeros(*z.shape[:-2], 0)
        pose = torch.cat([nothing, *(obs[name].to(z.dtype) for name in self.vectors)], dim=-1)
        extrinsics = obs[config.extrinsics].to(z.dtype) if config.extrinsics else nothing
        return {"z": _normed(z), "pose": pose, "extrinsics": extrinsics}

    # ------------------------------------------------------------------ what comes next

    def _memory(self, b: int, state: State | None, action: Tensor | None) -> State:
        """What is remembered when looking anew after an action, or for the first time."""
        if state is not None and action is not None and cast(VJEPA2ACConfig, self.config).remember:
            check_action(action, self.spec)
            return self._step(state, action)[1]
        keys, values = self.predictor.blank(b, self.predictor.norm.weight.detach())
        return {"keys": keys, "values": values, "time": torch.zeros(b, dtype=torch.long, device=keys.device)}

    def _step(self, state: State, action: Tensor) -> tuple[Tensor, State]:
        """Tokens after an action `b a`, and the memory then."""
        past = state["keys"], state["values"]
        futures = self.predictor.futures(past, state["time"])
        z, pose, extrinsics = (state[name][:, None] for name in _SEEN)
        given = self.robot.told(action[:, None], pose)
        guess = self._after(z, self.predictor.step(futures, state["time"], z, *given, extrinsics))
        keys, values = futures.memory(past)
        return guess[:, 0], {"keys": keys, "values": values, "time": state["time"] + 1}

    def _roll(self, state: State, actions: Tensor) -> Tensor:
        """Tokens `b n h s d` after each of the actions `b n h a`; the robot's state goes by its rule."""
        n = actions.shape[1]
        z, pose, extrinsics = (state[name][:, None].expand(-1, n, *state[name].shape[1:]) for name in _SEEN)
        futures = self.predictor.futures((state["keys"], state["values"]), state["time"])
        imagined = []
        for h in range(actions.shape[2]):
            action = actions[:, :, h]
            given = self.robot.told(action, pose)
            z = self._after(z, self.predictor.step(futures, state["time"] + h, z, *given, extrinsics))
            pose = self.robot.act(pose, action)
            imagined.append(z)
        return torch.stack(imagined, dim=2)

    def _in_a_row(self, z: Tensor, action: Tensor, pose: Tensor, extrinsics: Tensor, steps: int) -> Tensor:
        """Tokens `b h s d` imagined from the first frame's `b 1 s d`, with the true actions and states `b t ...`."""
        time = torch.zeros(len(z), dtype=torch.long, device=z.device)
        futures = self.predictor.futures(self.predictor.blank(len(z), z), time)
        imagined = []
        for h in range(steps):
            now = slice(h, h + 1)
            given = self.robot.told(action[:, now], pose[:, now])
            z = self._after(z, self.predictor.step(futures, time + h, z, *given, extrinsics[:, now]))
            imagined.append(z)
        return torch.cat(imagined, dim=1)

    def _after(self, z: Tensor, guess: Tensor) -> Tensor:
        """What the predictor says of tokens `... s d` → the tokens that come next, normed as all are."""
        return _normed(z + guess if cast(VJEPA2ACConfig, self.config).residual else guess)


_SEEN = ("z", "pose", "extrinsics")


def _normed(z: Tensor) -> Tensor:
    """LayerNorm without gain and shift."""
    return F.layer_norm(z, z.shape[-1:])


def _eyes(config: BorrowConfig, spec: Spec) -> tuple[BorrowConfig, list[BorrowedEyes]]:
    """A checkpoint's eyes, or fresh ones of the family that a preset names. Raises `UserError` where there are none."""
    if not config.frozen:
        raise UserError("eyes that learn along would learn to see nothing here: leave eyes.frozen true, or use jepa")
    if config.pool != "mean":
        raise UserError("each token is predicted, nothing is pooled here: leave eyes.pool alone")
    if config.checkpoint is not None:
        config = config.model_copy(update={"family": None, "preset": None})
    found, borrowed = borrow(config, spec, None)
    if not borrowed:
        raise UserError(
            "nothing to predict without eyes: give eyes.checkpoint, a run that taught eyes or published ones"
        )
    return found, borrowed


def _grid(eye: BorrowedEyes, shape: tuple[int, ...], size: int | None) -> tuple[int, int]:
    y, x = (size, size) if size else shape[:2]
    return eye.vit.grid(torch.empty(1, shape[2], y, x, device="meta"))[1:]
