"""`Mixture`: clips from several data sets, each with its share of every batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from innerworld.data.clips.clips import Clips
from innerworld.data.clips.sampler import Places, Sampler, random_state
from innerworld.errors import UserError


class Mixture(Sampler):
    """Clips of several stores in one batch: each clip comes from `parts[i]` with chance `weights[i]` (None: by size).

    A pure function of (seed, step) as `Clips` is; batch size and seed are those of the first part. Raises `UserError`
    that names the difference when the parts do not give clips of one shape.
    """

    def __init__(self, parts: Sequence[Clips], weights: Sequence[float] | None = None) -> None:
        if not parts:
            raise UserError("a mixture needs at least one part")
        for i, part in enumerate(parts[1:], 1):
            if difference := _difference(parts[0], part):
                raise UserError(f"cannot mix {parts[0].store.name} with {part.store.name} (part {i}): {difference}")
        chosen = np.array([part.windows for part in parts] if weights is None else weights, np.float64)
        if len(chosen) != len(parts) or not np.isfinite(chosen).all() or chosen.min() < 0 or chosen.sum() == 0:
            raise UserError(f"{len(parts)} parts need as many weights, none below 0 and one above: got {weights}")
        self.parts = tuple(parts)
        self.weights = chosen / chosen.sum()
        self.size = parts[0].size
        self.seed = parts[0].seed
        self.cutters = tuple(part.cutters[0] for part in parts)

    def places(self, step: int) -> Places:
        source = random_state(self.seed, step, 2).choice(len(self.parts), self.size, p=self.weights)  # b
        episode, start = np.empty_like(source), np.empty_like(source)
        for i in np.unique(source).tolist():
            rows = source == i
            # A whole batch, though some of it is not used: the part's order is its own, whatever else is mixed in.
            found = self.parts[i].places(step).cut(0, int(rows.sum()))
            episode[rows], start[rows] = found.episode, found.start
        return Places(source, episode, start)


def _difference(first: Clips, other: Clips) -> str:
    """In words; nothing if clips of both go into one batch."""
    a, b = first.spec, other.spec
    if a.obs.keys() != b.obs.keys():
        return f"sensors are {', '.join(a.obs)} and {', '.join(b.obs)}; name those both have with sensors="
    for sensor, shape in a.obs.items():
        if shape != b.obs[sensor]:
            return f"sensor {sensor!r} has shape {shape} and {b.obs[sensor]}"
    if (a.action, a.discrete) != (b.action, b.discrete):
        kinds = [f"{spec.action} {'choices' if spec.discrete else 'numbers'}" for spec in (a, b)]
        return f"an action is {kinds[0]} and {kinds[1]}"
    ours, theirs = first.cutters[0], other.cutters[0]
    if (ours.length, ours.history, ours.actions) != (theirs.length, theirs.history, theirs.actions):
        return "clips have different length, history or actions"
    if ours.frame_skip != theirs.frame_skip:
        return f"frame_skip is {ours.frame_skip} and {theirs.frame_skip}"
    return ""
