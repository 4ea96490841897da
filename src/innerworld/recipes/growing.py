"""Small and short first: the stages in which a lesson's clips grow, as V-JEPA 2's did (arXiv 2506.09985, §2.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from innerworld.data import Clips, Shrunk, Staged
from innerworld.data.clips.sampler import Sampler
from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.log import Log
from innerworld.perception import Encoder
from innerworld.perception.sight import Sight


@dataclass(frozen=True)
class Stage:
    """Clips of one length and size, from a training step on."""

    begin: int  # training step
    length: int  # as the lesson's: actions in a clip, for eyes frames
    size: int | None  # side of the pictures, pixels; None: as the store has them

    @classmethod
    def read(cls, text: str) -> Stage:
        """Of BEGIN:LENGTH or BEGIN:LENGTH:SIZE. Raises `UserError`."""
        found = re.fullmatch(r"(\d+):([1-9]\d*)(?::([1-9]\d*))?", text)
        if found is None:
            raise UserError(f"cannot read the stage {text!r}: write BEGIN:LENGTH:SIZE, for example 9000:64:256")
        begin, length, size = found.groups()
        return cls(int(begin), int(length), None if size is None else int(size))


def staged(texts: Sequence[str], steps: int, cut: Callable[[int], Clips], seen: Sequence[str]) -> Staged:
    """The clips of all stages of a run of `steps`. `cut` gives those of one length, of which `seen` are shrunk.

    Raises `UserError` for stages that do not begin at step 0 and one after the other, or that never come, and for clips
    that cannot be had.
    """
    stages = [Stage.read(text) for text in texts]
    begins = [stage.begin for stage in stages]
    if begins[0] != 0 or begins != sorted(set(begins)):
        raise UserError(f"stages begin one after the other, the first at step 0: these begin at {begins}")
    if begins[-1] >= max(1, steps):
        raise UserError(f"the last stage begins at step {begins[-1]} of train.steps={steps}: it would never come")
    parts = {}
    for number, stage in enumerate(stages, 1):
        with _named(number):
            clips = cut(stage.length)
            parts[stage.begin] = clips if stage.size is None else Shrunk(clips, stage.size, seen)
    return Staged(parts)


def check_growth(model: Learns, texts: Sequence[str], clips: Staged) -> None:
    """Raise `UserError` for a stage that the model cannot learn from, for it should fail now and not when it comes."""
    for number, (text, part) in enumerate(zip(texts, clips.parts, strict=True), 1):
        stage = Stage.read(text)
        with _named(number):
            if isinstance(model, Encoder):
                _check_tiles(model, stage, part)
            elif stage.size is not None:
                raise UserError("a world model sees pictures of one size: give BEGIN:LENGTH, only eyes take :SIZE")


def tell_stage(log: Log, clips: Staged) -> Log:
    """The log with `stage` in every row, counted from 1."""
    return lambda step, row: log(step, {"stage": clips.stage(step) + 1, **row} if row else row)


def _check_tiles(eyes: Encoder, stage: Stage, part: Sampler) -> None:
    vision, sight = eyes.vision(learning=True)
    if stage.size is not None and sight.size is not None:
        raise UserError(f"model.sight.size={sight.size} makes all pictures one size: give model.sight.size=null")
    y, x, c = part.spec.obs[Sight(sight, part.spec).sensor]
    if sight.size is not None:
        y = x = sight.size
    vision.grid(torch.empty(1, c, stage.length, y, x, device="meta"))


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Say of which stage, counted from 1, a `UserError` is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"stage {number}: {error}") from None
