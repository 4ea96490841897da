"""The network of `Video`, which takes noise away, and what it remembers: keys and values, or the frames themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from innerworld.models.codec import Codec
from innerworld.models.video_config import VideoConfig
from innerworld.nn.backbone.attention import begins
from innerworld.nn.flow import Denoise, Flow, LevelVector, noise_like
from innerworld.nn.linear import Linear
from innerworld.nn.mlp import maybe_no_inputs
from innerworld.nn.space_time import Rolling, SpaceTime
from innerworld.types import State, each


class Denoiser(nn.Module):
    """Frames of tokens at levels of noise, and the actions that led to them → what the flow asks for.

    An action that is not known (at an episode's first frame, or dropped) is a vector of its own. Where tokens are
    `told` so many numbers more, a side branch reads them; a `prompt` of so many numbers is added to the action.
    """

    def __init__(self, config: VideoConfig, codec: Codec, action: int, told: int = 0, prompt: int = 0) -> None:
        super().__init__()
        self.told = told
        dim, pictures = config.backbone.dim, sum(y * x for y, x in codec.grids)
        self.enter, self.leave = Linear(codec.width, dim), Linear(dim, codec.width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.level = LevelVector(dim)
        with maybe_no_inputs():
            self.experts = nn.ModuleList(Linear(action, dim) for _ in range(config.experts))
            self.choice = Linear(action, config.experts) if config.experts > 1 else None
        self.unknown = nn.Parameter(torch.randn(dim) * 0.02)
        self.prompt = Linear(prompt, dim) if prompt else None
        copies = config.control.copies if told else 0
        self.body = SpaceTime(config.backbone, codec.grids, dim, codec.s - pictures, copies, told)

    def act(self, action: Tensor) -> Tensor:
        """Actions `... a` → vectors `... e`. Beyond [-1, 1] they are cut, as a world's are."""
        action = action.clamp(-1, 1)
        read = torch.stack([expert(action) for expert in self.experts], dim=-1)
        return read[..., 0] if self.choice is None else (read * self.choice(action).softmax(-1).unsqueeze(-2)).sum(-1)

    def steer(self, level: Tensor, act: Tensor) -> Tensor:
        """Levels `...` and vectors of actions `... e` → what steers the frames."""
        return self.level(level) + act


class Memory(ABC):
    """What `Video` remembers of the frames so far: tensors `r ...` of constant shapes.

    `told` `r s m` is what a branch reads of a frame (`video_control.py`); none: nothing.
    """

    def __init__(self, config: VideoConfig, flow: Flow, net: Denoiser) -> None:
        self.config, self.flow, self.net = config, flow, net

    @abstractmethod
    def blank(self, z: Tensor) -> State:
        """Before any frame; for tokens like `r s d`."""

    @abstractmethod
    def keep(
        self, z: Tensor, act: Tensor, memory: State, rng: Generator | None, told: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """A finished frame `r s d` and the action before it `r e` → what is made of it, `r e`, and the memory then."""

    @abstractmethod
    def denoiser(self, act: Tensor, memory: State, rng: Generator | None, told: Tensor | None = None) -> Denoise:
        """What takes the noise from the next frame."""

    @abstractmethod
    def along(self, z: Tensor, acts: Tensor, first: Tensor | None) -> tuple[Tensor, State]:
        """`keep` along clips `r f s d`, anew where an episode begins: `r f e`, and the memories `r f ...`."""

    @abstractmethod
    def going(self, memory: State, horizon: int) -> Going:
        """From memories `b k ...` on, at most `horizon` frames."""

    @abstractmethod
    def held(self, b: int, k: int, horizon: int) -> int:
        """Numbers that `going` holds at most."""

    def _guided(self, clean: Callable[[Tensor, Tensor, Tensor], Tensor], act: Tensor) -> Denoise:
        """`clean` (frame, level, action) as a denoiser; with guidance it goes further from what no action gives
        (arXiv 2207.12598)."""
        scale, unknown = self.config.guidance, self.net.unknown.expand_as(act)

        def denoise(x: Tensor, level: Tensor) -> Tensor:
            told = clean(x, level, act)
            if scale == 1:
                return told
            untold = clean(x, level, unknown)
            return untold + scale * (told - untold)

        return denoise

    def _remembered(self, z: Tensor, rng: Generator | None) -> tuple[Tensor, Tensor]:
        """Finished frames `r ... s d` at the level at which they are remembered, and that level `r ...`."""
        level, share = z.new_full(z.shape[:-2], self.config.context), self.config.renoise
        noise = share * noise_like(z, rng) if share else torch.zeros_like(z)
        return self.flow.mix(z, noise, level), level


class Going(Protocol):
    """Several futures that go on together."""

    def keep(self, z: Tensor, act: Tensor, rng: Generator | None) -> Tensor: ...

    def denoiser(self, act: Tensor, rng: Generator | None) -> Denoise: ...


class Streams(Memory):
    """Of a causal network: keys and values, computed once for each frame."""

    def blank(self, z: Tensor) -> State:
        return self.net.body.blank(len(z), z)

    def keep(
        self, z: Tensor, act: Tensor, memory: State, rng: Generator | None, told: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, level = self._remembered(z, rng)
        out, memory = self.net.body.keep(self.net.enter(x), self.net.steer(level, act), memory, told)
        return out.mean(dim=-2), memory

    def denoiser(self, act: Tensor, memory: State, rng: Generator | None, told: Tensor | None = None) -> Denoise:
        return self._denoiser(lambda x, steer: self.net.body.peek(x, steer, memory, told), act)

    def along(self, z: Tensor, acts: Tensor, first: Tensor | None) -> tuple[Tensor, State]:
        x, level = self._remembered(z, None)
        out, memory = self.net.body.trace(self.net.enter(x), self.net.steer(level, acts), first)
        return out.mean(dim=-2), memory

    def going(self, memory: State, horizon: int) -> Going:
        if memory["age"].shape[1] == 1:  # nothing to share
            return _Alone(self, each(lambda value: value.flatten(0, 1), memory))
        return _Rolling(self, self.net.body.roll(memory, horizon))

    def held(self, b: int, k: int, horizon: int) -> int:
        return self.net.body.held(b, k, horizon)

    def _denoiser(self, peek: Callable[[Tensor, Tensor], Tensor], act: Tensor) -> Denoise:
        def clean(x: Tensor, level: Tensor, act: Tensor) -> Tensor:
            said = self.net.leave(peek(self.net.enter(x), self.net.steer(level, act)))
            return self.flow.clean(said, x, level)

        return self._guided(clean, act)


class _Rolling:
    """Futures whose keys and values are kept beside a past that they may share."""

    def __init__(self, streams: Streams, rolling: Rolling) -> None:
        self.streams, self.rolling = streams, rolling

    def keep(self, z: Tensor, act: Tensor, rng: Generator | None) -> Tensor:
        x, level = self.streams._remembered(z, rng)
        net = self.streams.net
        return self.rolling.keep(net.enter(x), net.steer(level, act)).mean(dim=-2)

    def denoiser(self, act: Tensor, rng: Generator | None) -> Denoise:
        return self.streams._denoiser(self.rolling.peek, act)


class Windows(Memory):
    """Of a network that is not causal: the last `window - 1` frames `r w-1 s d`, the vectors of the actions before
    them, with a branch what they were `told`, and how many there are (`age`). The level is one for all, so what was
    before is brought to the next frame's."""

    def blank(self, z: Tensor) -> State:
        w = self.config.backbone.window - 1
        frames, acts = z.new_zeros(len(z), w, *z.shape[1:]), z.new_zeros(len(z), w, self.config.backbone.dim)
        age = torch.zeros(len(z), dtype=torch.long, device=z.device)
        return {"frames": frames, "acts": acts, "age": age} | self._untold(len(z), w, z)

    def keep(
        self, z: Tensor, act: Tensor, memory: State, rng: Generator | None, told: Tensor | None = None
    ) -> tuple[Tensor, State]:
        frames = torch.cat([memory["frames"][:, 1:], z[:, None]], dim=1)
        acts = torch.cat([memory["acts"][:, 1:], act[:, None]], dim=1)
        age = (memory["age"] + 1).clamp(max=frames.shape[1])
        memory = {"frames": frames, "acts": acts, "age": age} | each(
            lambda value: value[:, 1:], self._telling(memory, told, z)
        )
        return self._made(memory, rng), memory

    def denoiser(self, act: Tensor, memory: State, rng: Generator | None, told: Tensor | None = None) -> Denoise:
        before, noise = memory["frames"], noise_like(memory["frames"], rng)
        more = self._telling(memory, told, act).get("told")
        first = self._first(memory["age"], before.shape[1] + 1)

        def clean(x: Tensor, level: Tensor, act: Tensor) -> Tensor:
            levels = level[:, None].expand(-1, before.shape[1] + 1)
            frames = torch.cat([self.flow.mix(before, noise, levels[:, 1:]), x[:, None]], dim=1)
            acts = torch.cat([memory["acts"], act[:, None]], dim=1)
            out = self.net.body(self.net.enter(frames), self.net.steer(levels, acts), first, more)
            return self.flow.clean(self.net.leave(out[:, -1]), x, level)

        return self._guided(clean, act)

    def along(self, z: Tensor, acts: Tensor, first: Tensor | None) -> tuple[Tensor, State]:
        w, (r, f) = self.config.backbone.window - 1, z.shape[:2]
        now = torch.arange(f, device=z.device)
        begin = begins(first, r, f, z.device)
        memory = {"frames": _windows(z, w), "acts": _windows(acts, w), "age": (now + 1 - begin).clamp(max=w)}
        memory |= each(lambda value: value.expand(r, f, *value.shape[1:]), self._untold(1, w, z))
        made = self._made(each(lambda value: value.flatten(0, 1), memory), None)
        return made.unflatten(0, (r, f)), memory

    def going(self, memory: State, horizon: int) -> Going:
        return _Alone(self, each(lambda value: value.flatten(0, 1), memory))

    def held(self, b: int, k: int, horizon: int) -> int:
        w, dim = self.config.backbone.window, self.config.backbone.dim
        return 8 * b * k * w * self.net.body.s * dim  # of a block, while it is computed

    def _made(self, memory: State, rng: Generator | None) -> Tensor:
        x, level = self._remembered(memory["frames"], rng)
        first = self._first(memory["age"], x.shape[1])
        out = self.net.body(self.net.enter(x), self.net.steer(level, memory["acts"]), first, memory.get("told"))
        return out[:, -1].mean(dim=-2)

    def _untold(self, r: int, frames: int, like: Tensor) -> State:
        """Frames of which a branch was told nothing; without a branch no entry."""
        return {"told": like.new_zeros(r, frames, self.net.body.s, self.net.told + 1)} if self.net.told else {}

    def _telling(self, memory: State, told: Tensor | None, like: Tensor) -> State:
        """What the frames remembered were told, and the next one, `r w s m`; without a branch no entry."""
        now = self._untold(len(like), 1, like) if told is None else {"told": told[:, None]}
        return {name: torch.cat([memory[name], value], dim=1) for name, value in now.items()}

    def _first(self, age: Tensor, f: int) -> Tensor:
        """Where in `f` frames those of which there are so many begin, `r f`: what is before them is not seen."""
        w = self.config.backbone.window - 1
        return F.one_hot(w - age, w + 1)[:, :f].bool()


class _Alone:
    """Futures that each have a memory of their own."""

    def __init__(self, of: Memory, memory: State) -> None:
        self.of, self.memory = of, memory

    def keep(self, z: Tensor, act: Tensor, rng: Generator | None) -> Tensor:
        made, self.memory = self.of.keep(z, act, self.memory, rng)
        return made

    def denoiser(self, act: Tensor, rng: Generator | None) -> Denoise:
        return self.of.denoiser(act, self.memory, rng)


def _windows(of: Tensor, size: int) -> Tensor:
    """The last `size` of `r f ...` up to each time: views `r f size ...`."""
    padded = torch.cat([of.new_zeros(len(of), size - 1, *of.shape[2:]), of], dim=1)
    return padded.unfold(1, size, 1).movedim(-1, 2)
