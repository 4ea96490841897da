"""Which tokens an encoder sees and which it must guess: I-JEPA's blocks, V-JEPA's tubes, and what happens to the rest.

A batch needs the same number of tokens in each row, and blocks overlap by chance: so every row is cut to the shortest.
How it is cut changes the task. The published trainers keep the *first* tokens ("prefix"): with 24 clips a row that
shows 98 tokens at its first moment shows 4 at its last, so that in effect the start predicts the rest. "random" drops
tokens anywhere, which is what the papers describe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError

Truncate = Literal["prefix", "random"]
TRIES = 100  # before a mask is called impossible


@dataclass(frozen=True)
class Mask:
    """Indices into the tokens of a grid, time first."""

    context: Tensor  # b n         what is seen
    targets: tuple[Tensor, ...]  # each b m   what is guessed from it, one at a time


class BlocksConfig(Config):
    targets: int = Field(default=4, description="blocks to guess", ge=1)
    target_scale: tuple[float, float] = Field(default=(0.15, 0.2), description="share of the picture that one covers")
    target_aspect: tuple[float, float] = Field(default=(0.75, 1.5), description="its height by its width")
    context_scale: tuple[float, float] = Field(default=(0.85, 1.0), description="share of the block that is seen")
    min_keep: int = Field(default=10, description="a picture shows more tokens than this, else it is drawn again", ge=0)
    truncate: Truncate = Field(default="random", description="which tokens go where a row has more than another")
    one_draw: bool = Field(
        default=False, description="I-JEPA's code draws a block's scale and aspect by one number, not two"
    )
    spare_edge: bool = Field(default=False, description="I-JEPA's code never puts a block on the last row or column")


class Blocks:
    """I-JEPA's mask (arXiv 2301.08243, §3): a few blocks to guess, one large block minus those to see.

    Blocks have one size in a batch and a place of their own in each row.
    """

    def __init__(self, config: BlocksConfig) -> None:
        self.config = config

    def __call__(self, b: int, y: int, x: int, rng: Generator | None = None) -> Mask:
        """Draw a mask for `b` pictures of `y × x` tokens. Raises `UserError` when no context is left."""
        c = self.config
        target = self._size(y, x, c.target_scale, c.target_aspect, rng)
        seen = self._size(y, x, c.context_scale, (1.0, 1.0), rng)
        context = torch.zeros(b, y * x, dtype=torch.bool)
        targets = torch.zeros(b, c.targets, y * x, dtype=torch.bool)
        todo = torch.arange(b)
        for _ in range(TRIES):
            targets[todo] = self._place(len(todo) * c.targets, y, x, target, rng).unflatten(0, (-1, c.targets))
            context[todo] = self._place(len(todo), y, x, seen, rng) & ~targets[todo].any(dim=1)
            todo = todo[context[todo].sum(dim=1) <= c.min_keep]
            if not len(todo):
                found = tuple(rows(targets[:, i], c.truncate, rng) for i in range(c.targets))
                return Mask(rows(context, c.truncate, rng), found)
        raise UserError(
            f"a mask of {c.targets} blocks of {target[0]}×{target[1]} leaves no more than {c.min_keep} of {y}×{x} "
            "tokens as context: use smaller targets, smaller patches or a lower masks.min_keep"
        )

    def _size(
        self, y: int, x: int, scale: tuple[float, float], aspect: tuple[float, float], rng: Generator | None
    ) -> tuple[int, int]:
        one, two = torch.rand(2, generator=rng).tolist()
        area = int(y * x * _between(scale, one))
        ratio = _between(aspect, one if self.config.one_draw else two)
        spare = int(self.config.spare_edge)
        return _side(area * ratio, y - spare), _side(area / ratio, x - spare)

    def _place(self, n: int, y: int, x: int, size: tuple[int, int], rng: Generator | None) -> Tensor:
        spare = int(self.config.spare_edge)
        top = torch.randint(0, y - size[0] + 1 - spare, (n,), generator=rng)
        left = torch.randint(0, x - size[1] + 1 - spare, (n,), generator=rng)
        return _box(top, left, size, y, x)


class TubesConfig(Config):
    blocks: int = Field(default=8, description="blocks to guess, together one target", ge=1)
    scale: tuple[float, float] = Field(default=(0.15, 0.15), description="share of a frame that one covers")
    aspect: tuple[float, float] = Field(default=(0.75, 1.5), description="its height by its width")
    duration: tuple[float, float] = Field(default=(1.0, 1.0), description="share of the film that it lasts")
    truncate: Truncate = Field(default="random", description="which tokens go where a row has more than another")


class Tubes:
    """V-JEPA's mask (arXiv 2404.08471, §3.2): blocks that last through the film are guessed, all the rest is seen."""

    def __init__(self, config: TubesConfig) -> None:
        self.config = config

    def __call__(self, b: int, t: int, y: int, x: int, rng: Generator | None = None) -> Mask:
        """Draw a mask for `b` films of `t × y × x` tokens. Raises `UserError` when no context is left."""
        c = self.config
        size = self._size(t, y, x, rng)
        hidden = torch.zeros(b, t * y * x, dtype=torch.bool)
        todo = torch.arange(b)
        for _ in range(TRIES):
            blocks = self._place(len(todo) * c.blocks, (t, y, x), size, rng)
            hidden[todo] = blocks.unflatten(0, (-1, c.blocks)).any(dim=1)
            todo = todo[hidden[todo].all(dim=1)]
            if not len(todo):
                return Mask(rows(~hidden, c.truncate, rng), (rows(hidden, c.truncate, rng),))
        raise UserError(
            f"a mask of {c.blocks} blocks of {size[1]}×{size[2]} leaves no context of {y}×{x} tokens: "
            "use fewer or smaller blocks, or smaller patches"
        )

    def _size(self, t: int, y: int, x: int, rng: Generator | None) -> tuple[int, int, int]:
        one, two, three = torch.rand(3, generator=rng).tolist()
        area = int(y * x * _between(self.config.scale, two))
        ratio = _between(self.config.aspect, three)
        return max(1, int(t * _between(self.config.duration, one))), _side(area * ratio, y), _side(area / ratio, x)

    def _place(self, n: int, grid: tuple[int, int, int], size: tuple[int, int, int], rng: Generator | None) -> Tensor:
        start, top, left = (torch.randint(0, g - s + 1, (n,), generator=rng) for g, s in zip(grid, size, strict=True))
        frame = _box(top, left, size[1:], *grid[1:])
        return (_span(start, size[0], grid[0])[:, :, None] & frame[:, None]).flatten(1)


class RandomTubes:
    """VideoMAE's mask, an option of V-JEPA's code: the same random share of places is guessed at every moment."""

    def __init__(self, ratio: float = 0.9) -> None:
        self.ratio = ratio

    def __call__(self, b: int, t: int, y: int, x: int, rng: Generator | None = None) -> Mask:
        seen = y * x - int(self.ratio * y * x)
        if seen < 1:
            raise UserError(f"a mask of {self.ratio:.0%} leaves no context of {y}×{x} tokens: use a lower ratio")
        order = torch.rand(b, y * x, generator=rng).argsort(dim=1)
        hidden = torch.ones(b, y * x, dtype=torch.bool).scatter_(1, order[:, :seen], False)
        hidden = hidden.repeat(1, t)
        return Mask(rows(~hidden, "prefix", rng), (rows(hidden, "prefix", rng),))


def rows(mask: Tensor, truncate: Truncate, rng: Generator | None) -> Tensor:
    """The true places of each row `b s` in rising order, all rows cut to the shortest: `b n`."""
    shortest = int(mask.sum(dim=1).min())
    if truncate == "prefix":
        return (~mask).byte().argsort(dim=1, stable=True)[:, :shortest]
    key = torch.rand(mask.shape, generator=rng).masked_fill(~mask, 2.0)
    return key.argsort(dim=1)[:, :shortest].sort(dim=1).values


def _between(span: tuple[float, float], part: float) -> float:
    return span[0] + part * (span[1] - span[0])


def _side(square: float, most: int) -> int:
    return max(1, min(round(math.sqrt(square)), most))


def _box(top: Tensor, left: Tensor, size: tuple[int, int], y: int, x: int) -> Tensor:
    """`n` boxes on a grid: `n (y x)`."""
    return (_span(top, size[0], y)[:, :, None] & _span(left, size[1], x)[:, None]).flatten(1)


def _span(start: Tensor, length: int, n: int) -> Tensor:
    at = torch.arange(n) - start[:, None]
    return (at >= 0) & (at < length)
