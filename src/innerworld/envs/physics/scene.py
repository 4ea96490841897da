"""A scene of the physics films: things, planks and screens, and how they are told as numbers.

Lengths are in sixty-fourths of the picture's side, whatever its size; time is in frames; x goes right, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 64.0
FRAMES = 32  # of a film
FLOOR = 56.0  # where the floor begins, in scenes that have one
BASE = 58.0  # where screens begin: in front of things, which sink into the floor by a hair
FALL = 0.3  # of free fall, per frame and frame
PLANK = 1.5  # half the thickness of a plank
SHAPES = ("disc", "square", "triangle", "diamond")
THINGS, PLANKS, SCREENS = 3, 2, 2  # most of each in a scene

Color = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""


@dataclass(frozen=True)
class Thing:
    """What moves. It never turns, and it hits as a disc, whatever its shape."""

    x: float
    y: float
    vx: float
    vy: float
    radius: float  # half its width and height
    color: Color
    shape: int = 0


@dataclass(frozen=True)
class Plank:
    """What stands still and is solid: from one end to the other, with round ends."""

    x0: float
    y0: float
    x1: float
    y1: float
    bounce: float = 0.0  # share of its speed with which a thing comes back


@dataclass(frozen=True)
class Screen:
    """What hides: it stands in front of everything, and may rise out of the floor and sink again."""

    x0: float
    x1: float
    height: float  # above the floor
    times: tuple[float, float, float, float] = (-2, -1, FRAMES, FRAMES + 1)  # begins to rise, is up, sinks, is gone

    def top(self, frames: int) -> NDArray[np.float64]:
        """Its upper edge in each frame: `t`."""
        up = np.interp(np.arange(frames), self.times, (0.0, 1.0, 1.0, 0.0))
        return BASE - (self.height + BASE - FLOOR) * up


@dataclass(frozen=True)
class Look:
    """The colours of what is not a thing."""

    ground: Color
    floor: Color
    plank: Color
    screen: Color


@dataclass(frozen=True)
class Scene:
    """How a film begins. What follows is the engine's."""

    look: Look
    things: tuple[Thing | None, ...]  # none: nothing in this place, of which another film of the scene has a thing
    planks: tuple[Plank, ...] = ()
    screens: tuple[Screen, ...] = ()
    upright: bool = True  # seen from the side, with gravity and a floor; else from above, with neither


# ---------------------------------------------------------------------- as numbers

THING = ("there", "x", "y", "vx", "vy", "radius", "shape", "red", "green", "blue")
PLANK_NUMBERS = ("there", "x0", "y0", "x1", "y1", "bounce")
STATE = (
    "upright",
    *(f"thing_{i}.{name}" for i in range(THINGS) for name in THING),
    *(f"plank_{i}.{name}" for i in range(PLANKS) for name in PLANK_NUMBERS),
)
"""What the numbers of the sensor `state` are: all that decides what follows, hidden or not."""

HIDDEN = (
    *(f"screen_{i}.{name}" for i in range(SCREENS) for name in ("x0", "x1", "top")),
    *(f"thing_{i}.hidden" for i in range(THINGS)),
)
"""What the numbers of the sensor `hidden` are: where the screens are, and which things are wholly behind one."""

Path = NDArray[np.float64]
"""`t k 4`: x, y and the way in a frame, of each thing of a scene."""


def state_of(scene: Scene, path: Path) -> NDArray[np.float32]:
    """The sensor `state` along a film: `t n`."""
    state = np.zeros((len(path), len(STATE)), np.float32)
    state[:, 0] = scene.upright
    for i, thing in enumerate(scene.things):
        if thing is not None:
            own = state[:, 1 + i * len(THING) :][:, : len(THING)]
            own[:, 0] = 1
            own[:, 1:5] = path[:, i]
            own[:, 5:] = (thing.radius, thing.shape, *thing.color)
    for i, plank in enumerate(scene.planks):
        first = 1 + THINGS * len(THING) + i * len(PLANK_NUMBERS)
        state[:, first : first + len(PLANK_NUMBERS)] = (1, plank.x0, plank.y0, plank.x1, plank.y1, plank.bounce)
    return state


def hidden_of(scene: Scene, path: Path) -> NDArray[np.float32]:
    """The sensor `hidden` along a film: `t n`."""
    told = np.zeros((len(path), len(HIDDEN)), np.float32)
    for i, screen in enumerate(scene.screens):
        top = screen.top(len(path))
        told[:, 3 * i : 3 * i + 3] = np.stack([np.full_like(top, screen.x0), np.full_like(top, screen.x1), top], 1)
        for k, thing in enumerate(scene.things):
            if thing is not None:
                x, y, r = path[:, k, 0], path[:, k, 1], thing.radius
                behind = (x - r >= screen.x0) & (x + r <= screen.x1) & (y - r >= top) & (y + r <= BASE)
                told[:, 3 * SCREENS + k] += behind
    return told


def scene_of(state: NDArray[np.floating]) -> Scene:
    """The scene in which a row of `state` tells how it begins; without screens and their colours, which act nothing."""
    things: list[Thing | None] = []
    for i in range(THINGS):
        there, x, y, vx, vy, radius, shape, *color = state[1 + i * len(THING) :][: len(THING)].tolist()
        red, green, blue = color
        things.append(Thing(x, y, vx, vy, radius, (red, green, blue), round(shape)) if there > 0.5 else None)
    rows = state[1 + THINGS * len(THING) :].reshape(PLANKS, len(PLANK_NUMBERS)).tolist()
    planks = tuple(Plank(*numbers) for there, *numbers in rows if there > 0.5)
    black = (0.0, 0.0, 0.0)
    return Scene(Look(black, black, black, black), tuple(things), planks, upright=bool(state[0] > 0.5))
