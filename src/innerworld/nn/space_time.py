"""A transformer over frames of tokens: attention within a frame, then through time at each place, then an MLP.

The backbone of Oasis (Diffusion Forcing, arXiv 2407.01392, with DiT blocks, 2212.09748) and of Genie's ST-transformer
(arXiv 2402.15391). Causal, it goes frame by frame with keys and values that were computed once; `peek` looks at a frame
that is not finished yet, as every denoising step does, `keep` at one that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.backbone.attention import begins
from innerworld.nn.backbone.futures import held
from innerworld.nn.frames import Grid
from innerworld.nn.linear import Linear
from innerworld.nn.rotary import Turn
from innerworld.nn.space_time_parts import (
    Block,
    Branch,
    Layers,
    Through,
    look,
    norm_before,
    part_steers,
    place_turn,
    shifted,
    steers_of,
    time_turn,
    waves,
)
from innerworld.nn.space_time_side import Side

Memory = dict[str, Tensor]
"""Keys and values of the last `window - 1` frames, each `r s layer head window-1 d`, newest last; `age` `r`, how many
of them are filled; `time` `r`, the index of the next frame."""


class SpaceTimeConfig(Config):
    dim: int = Field(default=96, description="channels of a token within", ge=1)
    depth: int = Field(default=4, description="blocks", ge=1)
    heads: int = Field(default=4, description="attention heads; they divide dim", ge=1)
    mlp: float = Field(default=4.0, description="hidden width of a block's MLP, times dim", gt=0)
    window: int = Field(default=8, description="frames that a frame sees, itself included", ge=1)
    causal: bool = Field(default=True, description="a frame sees those before it only; else all of at most `window`")
    steering: Literal["adaln", "token", "none"] = Field(
        default="adaln",
        description="how a frame's vector (action, noise) comes in: AdaLN, or a token before the others",
    )
    places: Literal["learned", "rotary"] = Field(
        default="learned", description="how tokens know where in a frame they are: a table, or turned by row and column"
    )
    time_every: int = Field(default=1, description="every so many blocks one attends through time, the last", ge=1)
    feeds: Literal["once", "each"] = Field(
        default="once", description="MLPs: once in a block (Genie), or after each attention (Oasis)"
    )
    qk_norm: bool = Field(default=False, description="norm queries and keys of each head")


class SpaceTime(nn.Module):
    """Frames `r f s d` → `r f s d`, each steered by a vector `r f e` where `steer` is its width.

    Tokens of a frame are those of the pictures' `grids`, in this order, and `beside` others. Time is rotary, so nothing
    caps the length of a stream. With `copies` there is a side branch of so many copied blocks (`space_time_side.py`),
    where frames may be `told` more: `r f s told+1`, the last number how much the branch's answer counts. What is not
    told leaves the frames as they would be without a branch. Raises `UserError` for sizes that do not fit.
    """

    def __init__(
        self,
        config: SpaceTimeConfig,
        grids: Sequence[Grid],
        steer: int = 0,
        beside: int = 0,
        copies: int = 0,
        told: int = 0,
    ) -> None:
        super().__init__()
        _check(config, steer)
        self.config = config
        token = config.steering == "token"
        self.s = sum(y * x for y, x in grids) + beside  # tokens of a frame that are given
        self.head_dim = config.dim // config.heads
        places = self.s + token
        self.token = Linear(steer, config.dim) if token else None
        self.place = nn.Parameter(torch.randn(places, config.dim) * 0.02) if config.places == "learned" else None
        self.cos: Tensor | None
        self.sin: Tensor | None
        cos, sin = (None, None) if self.place is not None else place_turn(grids, beside + token, self.head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.waves: Tensor
        self.register_buffer("waves", waves(self.head_dim), persistent=False)
        adaln = config.steering == "adaln"
        every = config.time_every
        hidden = round(config.dim * config.mlp)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, hidden, adaln, (i + 1) % every == 0, config.feeds == "each", config.qk_norm)
            for i in range(config.depth)
        )
        self.layers = config.depth // every  # that attend through time
        self.finish = norm_before(config.dim, adaln)
        shares = 3 * sum(cast(Block, block).parts for block in self.blocks) + 2
        self.by = Linear(steer, shares * config.dim) if adaln else None  # of all parts at once: that is faster
        if self.by is not None:
            nn.init.zeros_(self.by.weight)
            gains = torch.zeros(shares, config.dim)
            gains[1:-2:3] = gains[-1] = 1.0
            self.by.bias.data.copy_(gains.flatten())
        self.side = Side(list(self.blocks), self.by, config.dim, copies, told) if copies else None
        self.layers += 0 if self.side is None else self.side.layers

    # ------------------------------------------------------------------ whole clips

    def forward(
        self, x: Tensor, steer: Tensor | None = None, first: Tensor | None = None, told: Tensor | None = None
    ) -> Tensor:
        """All frames of clips; where an episode begins (`first` `r f`) frames see nothing before it.

        Raises `UserError` for frames of another size, and for more than `window` of them where it is not causal.
        """
        return self._clip(x, steer, first, told)[0]

    def trace(self, x: Tensor, steer: Tensor | None = None, first: Tensor | None = None) -> tuple[Tensor, Memory]:
        """`forward`, and the memories after each frame, as `keep` gives them: each `r f ...`, without gradients.

        Times share their storage: who gets a trace only reads it.
        """
        self._streams()
        r, f = x.shape[:2]
        out, layers = self._clip(x, steer, first, None)
        after = torch.arange(1, f + 1, device=x.device)
        age = (after - begins(first, r, f, x.device)).clamp(max=self.config.window - 1)
        memory = {name: self._windows(of) for name, of in _stacked(layers).items()}
        return out, memory | {"age": age, "time": after.expand(r, -1)}

    # ------------------------------------------------------------------ frame by frame

    def blank(self, r: int, like: Tensor) -> Memory:
        """The memory before any frame, of the device and dtype of `like`."""
        self._streams()
        places = self.s + (self.token is not None)
        shape = (r, places, self.layers, self.config.heads, self.config.window - 1, self.head_dim)
        clocks = {name: torch.zeros(r, dtype=torch.long, device=like.device) for name in ("age", "time")}
        return {"keys": like.new_zeros(shape), "values": like.new_zeros(shape)} | clocks

    def peek(self, x: Tensor, steer: Tensor | None, memory: Memory, told: Tensor | None = None) -> Tensor:
        """What comes of a frame `r s d` after those remembered; it is not kept."""
        return self.ahead(x[:, None], _one(steer), memory, _one(told))[:, 0]

    def ahead(self, x: Tensor, steer: Tensor | None, memory: Memory, told: Tensor | None = None) -> Tensor:
        """What comes of several frames `r f s d` after those remembered; they are not kept."""
        return self._after(x, steer, memory, told)[0]

    def keep(
        self, x: Tensor, steer: Tensor | None, memory: Memory, told: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """What comes of a frame `r s d`, and the memory with it. What was given is not changed."""
        out, layers = self._after(x[:, None], _one(steer), memory, _one(told))
        kept = {}
        for name, new in _stacked(layers).items():
            grown = torch.cat([memory[name], new.to(memory[name].dtype)], dim=4)
            kept[name] = grown[:, :, :, :, 1:]
        age = (memory["age"] + 1).clamp(max=self.config.window - 1)
        return out[:, 0], kept | {"age": age, "time": memory["time"] + 1}

    def roll(self, memory: Memory, horizon: int) -> Rolling:
        """Go on for at most `horizon` frames with k futures of each row, from memories `b k ...`, which stay as they
        are; what futures share (one memory expanded, the times of a trace) is looked at once for all of them."""
        self._streams()
        return Rolling(self, memory, horizon)

    def held(self, b: int, k: int, horizon: int) -> int:
        """Numbers that `roll` holds at most, beside what it was given."""
        places = self.s + (self.token is not None)
        return self.layers * held(b * places, k, self.config.window, horizon, self.config.dim)

    # ------------------------------------------------------------------ below

    def _clip(
        self, x: Tensor, steer: Tensor | None, first: Tensor | None, told: Tensor | None
    ) -> tuple[Tensor, Layers]:
        f, config = x.shape[1], self.config
        if not config.causal and f > config.window:
            raise UserError(
                f"{f} frames, but this transformer sees {config.window} at once: shorter clips, or a larger window"
            )
        x, steer = self._enter(x, steer)
        now = torch.arange(f, device=x.device)
        by = time_turn(now[None], self.waves)
        plain = config.causal and first is None and f <= config.window
        seen = None if plain or (first is None and not config.causal) else self._seen(now, first, x.shape[0])

        def through(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return look(q, k, v, seen, causal=plain and f > 1)

        return self._run(x, steer, by, through, told)

    def _after(self, x: Tensor, steer: Tensor | None, memory: Memory, told: Tensor | None) -> tuple[Tensor, Layers]:
        """Frames `r f s d` after a memory."""
        if len(x) != len(memory["age"]):
            raise UserError(f"{len(x)} rows of frames with a memory of {len(memory['age'])}: give each row its own")
        self._streams()
        x, steer = self._enter(x, steer)
        f, w = x.shape[1], self.config.window
        age = memory["age"]
        n = int(age.max()) if len(age) else 0
        by = time_turn(memory["time"][:, None] + torch.arange(f, device=x.device), self.waves)
        keys, values = (memory[name][:, :, :, :, w - 1 - n :] for name in ("keys", "values"))
        seen = None
        if f > 1 or bool((age < n).any()):
            slot = torch.arange(n + f, device=x.device)
            distance = n + torch.arange(f, device=x.device)[:, None] - slot  # f k
            seen = (distance >= 0) & (distance < w) & (slot >= n - age[:, None, None])  # r f k

        def through(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k = torch.cat([keys[:, :, layer].to(k.dtype), k], dim=3)
            return look(q, k, torch.cat([values[:, :, layer].to(v.dtype), v], dim=3), seen)

        return self._run(x, steer, by, through, told)

    def _run(
        self, x: Tensor, steer: Tensor | None, by: Turn, through: Through, told: Tensor | None = None
    ) -> tuple[Tensor, Layers]:
        """The branch, then the blocks; `through` says how a layer's places look through time."""
        place = None if self.cos is None or self.sin is None else (self.cos, self.sin)
        layers: Layers = []
        added = {}
        if self.side is None and told is not None:
            raise UserError("frames are told more, but this transformer has no branch for it: make it with copies")
        if self.side is not None:
            told = told if told is None or self.token is None else F.pad(told, (0, 0, 1, 0))
            added = self.side(x, told, steer, place, by, through, layers)
        steers = steers_of(self.by, steer, self.config.dim)
        for i, block in enumerate(self.blocks):
            x, found = block(x, part_steers(steers, cast(Block, block).parts), place, by, through, len(layers))
            if found is not None:
                layers.append(found)
            if i in added:
                x = x + added[i]
        x = shifted(self.finish(x), None if steers is None else list(steers))
        return (x if self.token is None else x[:, :, 1:]), layers

    def _enter(self, x: Tensor, steer: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens in their places, with that of the frame's vector before them, and what AdaLN is steered by."""
        if x.ndim != 4 or tuple(x.shape[2:]) != (self.s, self.config.dim):
            raise UserError(
                f"frames of {tuple(x.shape[2:])} (tokens, channels), this transformer was made for "
                f"{(self.s, self.config.dim)}: give it pictures of the size that it learnt from"
            )
        if (steer is None) != (self.config.steering == "none"):
            raise UserError(
                f"steering={self.config.steering}: give a vector for each frame exactly where it is not none"
            )
        if self.token is not None and steer is not None:
            x, steer = torch.cat([self.token(steer)[:, :, None], x], dim=2), None
        if self.place is not None:
            x = x + self.place
        return x, None if steer is None else F.silu(steer)

    def _seen(self, now: Tensor, first: Tensor | None, r: int) -> Tensor:
        """Which frames see which, `r f f` or `1 f f`: those of their own episode, if causal those just before."""
        distance = now[:, None] - now
        seen = ((distance >= 0) & (distance < self.config.window))[None] if self.config.causal else None
        if first is not None:
            begin = begins(first, r, len(now), now.device)
            same = begin[:, :, None] == begin[:, None]
            seen = same if seen is None else seen & same
        assert seen is not None
        return seen

    def _windows(self, of: Tensor) -> Tensor:
        """The last `window - 1` of `r s layer head f d` up to each frame: views `r f s layer head window-1 d`."""
        size = self.config.window - 1
        padded = F.pad(of.detach(), (0, 0, size - 1, 0) if size else (0, 0, 0, -1))
        return padded.unfold(4, size, 1).permute(0, 4, 1, 2, 3, 6, 5)

    def _streams(self) -> None:
        if not self.config.causal:
            raise UserError("a transformer that is not causal has no stream: give it whole clips, or set causal=true")


class Rolling:
    """k futures of b rows going on together; made by `SpaceTime.roll`."""

    def __init__(self, net: SpaceTime, memory: Memory, horizon: int) -> None:
        self.net = net
        self.clock = memory["time"].flatten()  # (b k)
        keys, values = memory["keys"], memory["values"]  # b k s layer head slot d
        self.branches = [
            Branch(keys[:, :, :, i], values[:, :, :, i], memory["age"], net.config.window, horizon)
            for i in range(net.layers)
        ]

    def peek(self, x: Tensor, steer: Tensor | None) -> Tensor:
        """What comes of the next frame of each, `(b k) s d`; it is not kept."""
        return self._next(x, steer, keep=False)

    def keep(self, x: Tensor, steer: Tensor | None) -> Tensor:
        """What comes of it, and it is kept. Raises `UserError` beyond the horizon."""
        out = self._next(x, steer, keep=True)
        self.clock = self.clock + 1
        return out

    def _next(self, x: Tensor, steer: Tensor | None, keep: bool) -> Tensor:
        x, steer = self.net._enter(x[:, None], None if steer is None else steer[:, None])
        by = time_turn(self.clock[:, None], self.net.waves)

        def through(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.branches[layer].look(q, k, v, keep)

        return self.net._run(x, steer, by, through)[0][:, 0]


def _one(of: Tensor | None) -> Tensor | None:
    """What belongs to a frame, `r ...`, as that of a clip of one."""
    return None if of is None else of[:, None]


def _stacked(layers: Layers) -> dict[str, Tensor]:
    """Keys and values of all layers, `r s layer head f d`."""
    keys, values = zip(*layers, strict=True)
    return {"keys": torch.stack(keys, dim=2), "values": torch.stack(values, dim=2)}


def _check(config: SpaceTimeConfig, steer: int) -> None:
    """Raise `UserError` for settings that do not fit together."""
    if config.dim % config.heads or (config.dim // config.heads) % 2:
        raise UserError(f"{config.heads} heads do not share a width of {config.dim} in even parts: choose others")
    if config.time_every > config.depth:
        raise UserError(f"attention through time in every {config.time_every}th of {config.depth} blocks is in none")
    if bool(steer) == (config.steering == "none"):
        raise UserError(f"steering={config.steering} with a vector of {steer} numbers: choose none for no vector only")
