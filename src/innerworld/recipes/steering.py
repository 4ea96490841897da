"""Dreams that are steered: each action held from one moment on, side by side, or a dream that keys drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from innerworld.data.lives import Lives
from innerworld.errors import UserError
from innerworld.nn.sensors import to_uint8
from innerworld.recipes.watched import AS_SEEN
from innerworld.report.content import Image
from innerworld.types import Clip, Obs, Spec, State, each
from innerworld.world import WorldModel

MOST = 9  # actions that are held side by side
LABELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # keys of choices
AXES = (("left", "right"), ("up", "down"), ("a", "d"), ("w", "s"), ("j", "l"), ("i", "k"))
"""Keys that move each number of a continuous action to -1 and to 1."""
STILL = "space"
GAP = 2  # pixels between the world and the dream


@runtime_checkable
class HasCodes(Protocol):
    """What a family must have beside a world model's verbs to be steered by actions that it found itself."""

    def played_by_codes(self) -> WorldModel:
        """The same world, whose actions are its codes; it goes on from the same beliefs."""
        ...

    def told_by_codes(self, clip: Clip) -> Clip:
        """The same clip with the codes that are inferred from its frames."""
        ...


@dataclass(frozen=True)
class Held:
    """What follows when one action is done again and again."""

    name: str
    told: dict[str, Tensor]  # each sensor `h ...`


@torch.no_grad()
def held(model: WorldModel, belief: State, horizon: int, word: str = "action") -> list[Held]:
    """From one belief (b = 1), each of the actions held for `horizon` steps: where they look alike, nobody steers.

    Of continuous actions, none and the ends of the first numbers. Empty where nobody acts.
    """
    choices = actions_of(model.spec, word)[:MOST]
    if not choices:
        return []
    every = torch.stack([action for _, action in choices])  # n a
    plans = every[None, :, None].expand(1, -1, horizon, -1).contiguous()
    imagined = model.imagine(belief, plans)
    return [
        Held(name, model.decode(each(lambda value, i=i: value[0, i], imagined))) for i, (name, _) in enumerate(choices)
    ]


def actions_of(spec: Spec, word: str = "action") -> list[tuple[str, Tensor]]:
    """Actions by name, each `a`: the choices; or nothing, and each number at its ends."""
    if spec.action == 0:
        return []
    if spec.discrete:
        return [(f"{word} {i}", row) for i, row in enumerate(torch.eye(spec.action))]
    named = [("nothing", torch.zeros(spec.action))]
    for axis in range(spec.action):
        for end in (-1.0, 1.0):
            action = torch.zeros(spec.action)
            action[axis] = end
            named.append((f"{word} {axis} at {end:+.0f}", action))
    return named


def keys_of(spec: Spec) -> dict[str, Tensor]:
    """Which key does what: digits and letters choose, arrows and pairs of letters push; the space bar does nothing.

    Raises `UserError` where nobody acts.
    """
    choices = [action for _, action in actions_of(spec)]
    if not choices:
        raise UserError("nobody acts in what this model has seen: there is nothing to steer")
    if spec.discrete:
        return {STILL: choices[0]} | dict(zip(LABELS, choices, strict=False))
    pairs = [key for axis in AXES for key in axis]
    return {STILL: choices[0]} | dict(zip(pairs, choices[1:], strict=False))


class Drive:
    """A dream that somebody steers, beside the world where there is one: the same actions in both.

    The dream looks at its first picture only, until `look` opens its eyes. `lives` is the one world, or None; `first`
    is what is seen first where there is none, or the belief `begun` with which it begins, each `1 ...`. With an `rng`
    what happens in the dream is drawn.
    """

    def __init__(
        self,
        model: WorldModel,
        lives: Lives | None,
        first: Obs | None = None,
        rng: torch.Generator | None = None,
        begun: State | None = None,
    ) -> None:
        self.model, self.lives, self.rng = model.eval(), lives, rng
        if not model.spec.images():
            raise UserError("this model has seen no pictures: there is nothing to show")
        if lives is None and first is None and begun is None:
            raise UserError("a dream without a world needs a picture to begin with")
        self._first, self._begun = first or {}, begun
        self.steps = 0
        self.restart()

    def restart(self) -> None:
        """Begin again: the world's next episode, or the first picture."""
        if self.lives is not None and self.steps:
            self.lives.first = np.ones(1, np.bool_)
            self.lives.begin()
        with torch.no_grad():
            self.believed = self.dreamt = self._begun or self.model.encode(self._seen())
        self.steps, self.blind, self.score, self.over = 0, 0, 0.0, False

    @torch.no_grad()
    def press(self, action: Tensor) -> None:
        """Do it, `a`, in the dream and in the world. Where the world's episode has ended, it begins the next."""
        if self.over:
            self.restart()
            return
        self.dreamt = self.model.predict(self.dreamt, action[None], self.rng)
        self.steps += 1
        self.blind += 1
        if self.lives is None:
            return
        outcome = self.lives.step(action[None].numpy())
        self.score += float(outcome.reward[0])
        self.over = bool(outcome.ended[0])
        self.believed = self.model.encode(self._seen(), self.believed, action[None])

    def look(self) -> None:
        """Open the eyes: dream on from what is believed of what was seen."""
        if self.lives is not None:
            self.dreamt, self.blind = self.believed, 0

    @torch.no_grad()
    def picture(self) -> Image:
        """The world and, to its right, the dream: `y x 3`."""
        name = self.model.spec.images()[0]
        told = self.model.decode(self.model.bare(self.dreamt))
        if name not in told:
            raise UserError(f"{self.model.card.name} decodes no pictures: there is no dream to see")
        panels = [to_uint8(told[name][0]).numpy()]
        if self.lives is not None:
            real = np.asarray(self.lives.obs[name if name in self.lives.obs else AS_SEEN][0])
            panels = [real, np.zeros((real.shape[0], GAP, real.shape[2]), np.uint8), *panels]
        return np.concatenate([_rgb(panel) for panel in panels], axis=1)

    def _seen(self) -> Obs:
        """What is seen now, `1 ...`."""
        if self.lives is None:
            return self._first
        return {name: torch.from_numpy(np.array(self.lives.obs[name])) for name in self.model.spec.obs}


def told_keys(keys: Sequence[str], world: bool) -> str:
    """The line below the picture."""
    own = ["o open the eyes"] if world else []
    return " · ".join([f"{' '.join(keys)} act", *own, "r begin again", "q end"])


def _rgb(image: Image) -> Image:
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
