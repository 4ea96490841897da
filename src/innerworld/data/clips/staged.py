"""`Staged`: clips that change along a run, small and short ones first; `Shrunk`: clips whose pictures are smaller."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from innerworld.data.clips.sampler import Places, Sampler
from innerworld.envs.adapter import shrink
from innerworld.errors import UserError
from innerworld.types import Clip, Spec


class Staged(Sampler):
    """`parts[k]` from training step k on, until the next one begins: {0: short clips, 9000: long ones}.

    A pure function of the step as its parts are, so that a resumed run is in the right stage by itself. `spec` is what
    the last part's clips look like. Raises `UserError` when no part begins at step 0, or their batches differ in size.
    """

    def __init__(self, parts: Mapping[int, Sampler]) -> None:
        self.begins = sorted(parts)
        if not parts or self.begins[0] != 0:
            raise UserError(f"the first stage begins at step 0, these begin at {self.begins}")
        self.parts = [parts[begin] for begin in self.begins]
        self.size = self.parts[0].size
        if {part.size for part in self.parts} != {self.size}:
            raise UserError(f"all stages have one batch size, these have {[part.size for part in self.parts]}")
        self.cutters = self.parts[-1].cutters

    @property
    def spec(self) -> Spec:
        return self.parts[-1].spec

    def stage(self, step: int) -> int:
        """Which part the clips of a training step come from, counted from 0."""
        return bisect_right(self.begins, step) - 1

    def places(self, step: int) -> Places:
        return self.parts[self.stage(step)].places(step)

    def rows(self, step: int, start: int, stop: int) -> Clip:
        return self.parts[self.stage(step)].rows(step, start, stop)

    def origin(self, step: int) -> list[str]:
        return self.parts[self.stage(step)].origin(step)


class Shrunk(Sampler):
    """The clips of another sampler with pictures `side` × `side` pixels large, by means over areas.

    `sensors` are those to shrink (None: all images). Raises `UserError` for pictures that are smaller: nothing is
    enlarged, for that adds bytes and no information.
    """

    def __init__(self, clips: Sampler, side: int, sensors: Sequence[str] | None = None) -> None:
        self.clips, self.side = clips, side
        self.size = clips.size
        self.cutters = clips.cutters
        self._images = [name for name in clips.spec.images() if sensors is None or name in sensors]
        small = {name: clips.spec.obs[name] for name in self._images if min(clips.spec.obs[name][:2]) < side}
        if side < 1 or small:
            told = ", ".join(f"{name} is {shape[0]}×{shape[1]}" for name, shape in small.items())
            raise UserError(f"pictures cannot be shrunk to {side} pixels a side{f': {told}' if told else ''}")

    @property
    def spec(self) -> Spec:
        spec = self.clips.spec
        images = {name: (self.side, self.side, spec.obs[name][2]) for name in self._images}
        return replace(spec, obs={**spec.obs, **images})

    def places(self, step: int) -> Places:
        return self.clips.places(step)

    def rows(self, step: int, start: int, stop: int) -> Clip:
        clip = self.clips.rows(step, start, stop)
        images = {name: self._shrunk(clip.obs[name]) for name in self._images}
        return replace(clip, obs={**clip.obs, **images})

    def origin(self, step: int) -> list[str]:
        return self.clips.origin(step)

    def _shrunk(self, frames: Tensor) -> Tensor:
        """`b t y x c` → `b t side side c`."""
        b, t, _, _, c = frames.shape
        out = np.empty((b * t, self.side, self.side, c), np.uint8)
        for i, frame in enumerate(frames.flatten(0, 1).numpy()):
            out[i] = shrink(frame, self.side)
        return torch.from_numpy(out).unflatten(0, (b, t))
