"""DINO-WM (arXiv 2411.04983): the future as patch tokens of frozen eyes; with the choices of JEPA-WMs (2512.24497).

Eyes that never learn turn a picture into tokens, one for each patch; a transformer guesses the tokens of the next
picture from the last few and the actions between them. A goal is compared token by token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, BorrowedEyes, borrow
from innerworld.models.token_decoder import TokenDecoder
from innerworld.models.tokens import check_action, check_sizes, look, to_read
from innerworld.nn.frames import FrameTransformer, Grid, Past
from innerworld.nn.linear import Linear
from innerworld.nn.mlp import maybe_no_inputs
from innerworld.nn.sensors import symlog
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import Card, WorldModel, candidates

TOKENS = 65536
"""In the windows of all candidates that are imagined at once: more would need memory and save no time."""


class DinoWMConfig(Config):
    eyes: BorrowConfig = Field(
        default=BorrowConfig(), description="whose tokens are predicted; frozen (none: small fresh ones)"
    )
    history: int = Field(default=3, description="frames that the predictor sees, this one included", ge=1)
    depth: int = Field(default=6, description="blocks of the predictor", ge=1)
    heads: int = Field(default=16, description="attention heads", ge=1)
    head_dim: int = Field(default=64, description="channels of a head, even", ge=2)
    mlp: int = Field(default=2048, description="hidden width of a block's MLP", ge=1)
    dropout: float = Field(default=0.1, description="share of channels dropped", ge=0, lt=1)
    actions: Literal["concat", "adaln"] = Field(
        default="concat", description="how actions come in: beside every token (DINO-WM), or steering every block"
    )
    action_dim: int = Field(default=10, description="concat: numbers that stand for an action", ge=1)
    proprio_dim: int = Field(
        default=10, description="numbers that stand for the vector sensors; 0: not looked at", ge=0
    )
    positions: Literal["learned", "rope"] = Field(
        default="learned", description="how tokens know where and when: a table, or turned by time, row and column"
    )
    rollout: int = Field(
        default=0, description="loss on this many imagined steps from a random moment, one by one; 0: none", ge=0
    )
    alpha: float = Field(default=1.0, description="weight of the vector sensors in the energy", ge=0)
    decoder: int = Field(default=0, description="channels of a decoder that the rest does not feel; 0: none", ge=0)


class DinoWM(WorldModel):
    """Tokens of frozen eyes → tokens of the next frame. State, each `b ...`, H = `history`:

    `z` `s d` tokens of now, vector sensors beside them; `past` `H-1 s d` those before, the latest last; `acts` `H-1 a`
    what was done at them; `time` how many of them there are.
    """

    Config = DinoWMConfig
    card = Card(
        name="DINO-WM / JEPA-WM",
        predicts="latents",
        decodes=False,
        backbone="transformer, causal over frames",
        paper="arXiv 2411.04983, 2512.24497",
    )
    alike = True  # a mean of tokens is mostly walls and floor
    presets: ClassVar[dict[str, Config]] = {
        "tiny": DinoWMConfig(depth=2, heads=4, head_dim=24, mlp=256, dropout=0.0),
        # The papers' settings; clips of 4 frames, frame_skip 5, AdamW 5e-4 go with them.
        "dino_wm": DinoWMConfig(eyes=BorrowConfig(checkpoint="facebook/dinov2-small", size=196)),
        "jepa_wm": DinoWMConfig(
            eyes=BorrowConfig(checkpoint="facebook/dinov2-small", size=224),
            head_dim=24,
            mlp=1536,
            dropout=0.0,
            actions="adaln",
            proprio_dim=16,
            positions="rope",
            rollout=2,
            alpha=0.1,
        ),
    }

    def __init__(self, config: DinoWMConfig, spec: Spec) -> None:
        eyes = config.eyes
        if not (eyes.checkpoint or eyes.family or eyes.preset or eyes.vit):
            eyes = eyes.model_copy(update={"family": "lejepa"})  # with drawn weights: even those tell patches apart
        if not eyes.frozen or eyes.pool != "mean":
            raise UserError("dino_wm predicts every token of frozen eyes: leave eyes.frozen and eyes.pool as they are")
        found, borrowed = borrow(eyes, spec, None)
        config = config.model_copy(update={"eyes": found})  # what is saved builds the same eyes without their folder
        super().__init__(config, spec)
        self.images, self.vectors = spec.images(), spec.vectors() if config.proprio_dim else []
        self.eyes = nn.ModuleList(borrowed)  # in the order of `images`
        self.seen = borrowed[0].width  # numbers of a token that the eyes made; those of the vector sensors follow
        grids = [_grid(eyes, spec.obs[name]) for name, eyes in zip(self.images, borrowed, strict=True)]
        self.proprio = (
            Linear(sum(spec.obs[name][0] for name in self.vectors), config.proprio_dim) if self.vectors else None
        )
        width = self.seen + (config.proprio_dim if self.vectors else 0)
        with maybe_no_inputs():
            self.predictor = _Predictor(config, width, spec.action, grids)
        self.decoder = TokenDecoder(config.decoder, self.seen, grids, spec) if config.decoder else None
        if self.decoder is not None:
            self.card = replace(self.card, decodes=True)  # pyright: ignore[reportAttributeAccessIssue]

    # ------------------------------------------------------------------ the five verbs

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        z = self._look(obs)
        if state is None or action is None:
            before = cast(DinoWMConfig, self.config).history - 1
            past, acts = z.new_zeros(len(z), before, *z.shape[1:]), z.new_zeros(len(z), before, self.spec.action)
            return {"z": z, "past": past, "acts": acts, "time": z.new_zeros(len(z), dtype=torch.long)}
        return {"z": z, **_later(state, action)}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        check_action(action, self.spec)
        used = int(state["time"].max())
        first = state["past"].shape[1] - used
        frames = torch.cat([state["past"][:, first:], state["z"][:, None]], dim=1)
        actions = torch.cat([state["acts"][:, first:], action[:, None]], dim=1)
        slot = state["time"][:, None] + torch.arange(-used, 1, device=action.device)
        return {"z": self.predictor(frames, actions, slot)[0][:, -1], **_later(state, action)}

    def decode(self, state: State) -> dict[str, Tensor]:
        return {} if self.decoder is None else self.decoder.show(state["z"])

    def energy(self, state: State, goal: State) -> Tensor:
        """Mean squared distance of the tokens, and `alpha` times that of the vector sensors."""
        apart = (state["z"] - goal["z"]).square()
        energy = apart[..., : self.seen].mean(dim=(1, 2))
        if not self.vectors:
            return energy
        return energy + cast(DinoWMConfig, self.config).alpha * apart[..., self.seen :].mean(dim=(1, 2))

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the next frame's tokens and vector sensors, which the gradient does not reach (eq. 2).

        Every frame is guessed from those before it in its stretch of `history` frames, so that short pasts are learnt.
        """
        config = cast(DinoWMConfig, self.config)
        check_action(clip.action, self.spec)
        z = self._look(clip.obs)  # b t+1 s d
        target = z.detach()
        h = config.history
        guess = torch.cat(
            [
                self.predictor(z[:, i : min(i + h, clip.length)], clip.action[:, i : i + h])[0]
                for i in range(0, clip.length, h)
            ],
            dim=1,
        )
        parts = {"predict": F.mse_loss(guess, target[:, 1:])}
        total = parts["predict"]
        if config.rollout:
            parts["rollout"] = self._rollout(z, clip.action, target, min(config.rollout, clip.length))
            total = total + parts["rollout"]
        if self.decoder is not None:
            parts["decode"] = self.decoder.loss(target.flatten(0, 1), clip.obs)
            total = total + parts["decode"]
        return total, each(Tensor.detach, parts)

    # ------------------------------------------------------------------ faster, and smaller

    def features(self, state: State) -> Tensor:
        """The mean of the tokens."""
        return state["z"].mean(dim=1)

    def reads(self, stored: Spec) -> list[str]:
        return to_read(self.spec, stored, cast(DinoWMConfig, self.config).eyes.fingerprint, bool(self.decoder))

    def imagine(self, state: State, actions: Tensor) -> State:
        """Tokens only, `b n h s d`. While nothing slides out of the window, a step costs one frame for each candidate;
        the past is computed once for all of them."""
        check_action(actions, self.spec)
        past = _SharedPast(self.predictor, state)
        window = cast(DinoWMConfig, self.config).history * state["z"].shape[:2].numel()  # tokens, in every world
        at_once = max(1, TOKENS // window)
        return {"z": torch.cat([self._imagine(state, some, past) for some in actions.split(at_once, dim=1)], dim=1)}

    def watch(self, clip: Clip) -> State:
        z = self._look(clip.obs)  # b t+1 s d
        b, before, t = len(z), cast(DinoWMConfig, self.config).history - 1, clip.length + 1
        past = torch.cat([z.new_zeros(b, before, *z.shape[2:]), z], dim=1)
        acts = torch.cat([z.new_zeros(b, before, self.spec.action), clip.action], dim=1)
        windows = torch.arange(t, device=z.device)[:, None] + torch.arange(before, device=z.device)  # t H-1
        time = torch.arange(t, device=z.device).clamp_max(before).expand(b, -1)
        return {"z": z, "past": past[:, windows], "acts": acts[:, windows], "time": time}

    def impressions(self, clip: Clip) -> Tensor:
        return self._look(clip.obs).mean(dim=2)

    def _imagine(self, state: State, actions: Tensor, past: _SharedPast) -> Tensor:
        """Candidates `b n h a` → `b n h s d`."""
        b, n, h, _ = actions.shape
        history = cast(DinoWMConfig, self.config).history
        actions = actions.flatten(0, 1)
        own = [candidates({"z": state["z"]}, n)["z"]]  # (b n) s d, of each of their own frames
        kept: list[Past] = []
        for i in range(h):
            first = max(0, i + 1 - history)  # of their own frames in the window
            used = min(past.frames, max(0, history - 1 - i))
            slid = first > 0 or used < past.frames
            new = first if slid else i  # what slid has other frames before it: all anew
            slot = past.known(used, n)[:, None] + torch.arange(new - first, i + 1 - first, device=actions.device)
            before = [past(used)] if used else []
            out, more = self.predictor(
                torch.stack(own[new:], dim=1), actions[:, new : i + 1], slot, before if slid else [*before, *kept]
            )
            kept.append(more)
            own.append(out[:, -1])
        return torch.stack(own[1:], dim=1).unflatten(0, (b, n))

    def _rollout(self, z: Tensor, actions: Tensor, target: Tensor, steps: int) -> Tensor:
        """Imagined frames are given on as they are, without a way back for the gradient."""
        h = cast(DinoWMConfig, self.config).history
        now = int(torch.randint(actions.shape[1] - steps + 1, ()))
        frames, errors = z[:, max(0, now + 1 - h) : now + 1], []
        for i in range(now, now + steps):
            frames = frames[:, -h:]
            guess = self.predictor(frames, actions[:, i + 1 - frames.shape[1] : i + 1])[0][:, -1]
            errors.append(F.mse_loss(guess, target[:, i + 1]))
            frames = torch.cat([frames, guess.detach()[:, None]], dim=1)
        return torch.stack(errors).mean()

    def _look(self, obs: Obs) -> Tensor:
        """Sensors, each `... y x c` or `... n` → `... s d`."""
        check_sizes(obs, self.spec, cast(DinoWMConfig, self.config).eyes.fingerprint)
        seen = [look(eyes, obs, name) for name, eyes in zip(self.images, self._eyes(), strict=True)]
        tokens = torch.cat(seen, dim=-2)
        if self.proprio is None:
            return tokens
        felt = self.proprio(symlog(torch.cat([obs[name].float() for name in self.vectors], dim=-1)))
        return torch.cat([tokens, felt.unsqueeze(-2).expand(*tokens.shape[:-1], -1)], dim=-1)

    def _eyes(self) -> list[BorrowedEyes]:
        return [cast(BorrowedEyes, eyes) for eyes in self.eyes]


class _Predictor(nn.Module):
    """Frames and the actions done at them → the frames that follow."""

    def __init__(self, config: DinoWMConfig, width: int, action: int, grids: list[Grid]) -> None:
        super().__init__()
        self.width, self.steered = width, config.actions == "adaln"
        dim = width if self.steered else width + config.action_dim
        self.embed = Linear(action, dim if self.steered else config.action_dim)
        self.body = FrameTransformer(
            dim,
            config.depth,
            config.heads,
            config.head_dim,
            config.mlp,
            config.history,
            grids,
            config.positions == "rope",
            self.steered,
            config.dropout,
        )
        self.out = _copying(dim) if self.steered else nn.Identity()

    def forward(
        self, frames: Tensor, actions: Tensor, slot: Tensor | None = None, before: list[Past] | None = None
    ) -> tuple[Tensor, Past]:
        """Frames `r f s d`, actions `r f a`, at slots 0, 1, … if none are given → `r f s d`, and them as a past."""
        moves = self.embed(actions)
        slot = torch.arange(frames.shape[1], device=frames.device)[None] if slot is None else slot
        if self.steered:
            x, past = self.body(frames, slot, moves, before or [])
        else:
            beside = moves[:, :, None].expand(*frames.shape[:3], -1)
            x, past = self.body(torch.cat([frames, beside], dim=-1), slot, None, before or [])
        return self.out(x)[..., : self.width], past


class _SharedPast:
    """What all candidates have behind them: the last frames of a state before now, computed once for each length."""

    def __init__(self, predictor: _Predictor, state: State) -> None:
        self.predictor, self.state = predictor, state
        self.frames = int(state["time"].max())
        self._found: dict[int, Past] = {}

    def __call__(self, used: int) -> Past:
        """The last `used` frames."""
        if used not in self._found:
            first = self.state["past"].shape[1] - used
            slot = self.known(used)[:, None] + torch.arange(-used, 0, device=self.state["time"].device)
            frames, actions = self.state["past"][:, first:], self.state["acts"][:, first:]
            self._found[used] = self.predictor(frames, actions, slot)[1]
        return self._found[used]

    def known(self, used: int, n: int = 1) -> Tensor:
        """How many of those there really are: `(b n)`."""
        return self.state["time"].clamp_max(used).repeat_interleave(n)


def _copying(dim: int) -> nn.Linear:
    """Begins as the identity, for most of the next frame is this one."""
    layer = Linear(dim, dim)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _later(state: State, action: Tensor) -> State:
    """What is behind one after the action."""
    before = state["past"].shape[1]
    return {
        "past": torch.cat([state["past"], state["z"][:, None]], dim=1)[:, 1:],
        "acts": torch.cat([state["acts"], action[:, None]], dim=1)[:, 1:],
        "time": (state["time"] + 1).clamp_max(before),
    }


def _grid(eyes: BorrowedEyes, shape: tuple[int, ...]) -> Grid:
    y, x = (eyes.size, eyes.size) if eyes.size else shape[:2]
    return eyes.vit.grid(torch.empty(1, shape[2], y, x, device="meta"))[1:]
