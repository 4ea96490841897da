"""The principles that impossible films break, as pairs of possible films that can be cut and joined.

Each pair shows the same picture at one moment, the cut. Exchange what comes after it, and two impossible films come
out, made of nothing but the frames of possible ones, in which even any two successive frames are those of a possible
film: only who remembers what was before, be it behind a screen or a way, can know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from innerworld.envs.physics.scene import FLOOR, PLANK, SHAPES, SIDE, Color, Look, Plank, Scene, Screen, Thing
from innerworld.errors import choose

FINE = 64  # lengths and speeds are drawn in steps of 1 / this, in which the engine calculates exactly
COLORS: tuple[Color, ...] = (
    (0.86, 0.20, 0.18),
    (0.95, 0.77, 0.10),
    (0.20, 0.62, 0.25),
    (0.16, 0.36, 0.86),
    (0.58, 0.24, 0.72),
    (0.10, 0.72, 0.76),
)
HIDE, SHOW = (5.0, 8.0), (17.0, 20.0)  # frames in which a screen rises, and sinks
HIDDEN = 13  # a frame between the two


@dataclass(frozen=True)
class Pair:
    """How two possible films begin, and the last frame that they share before what comes after is exchanged."""

    one: Scene
    other: Scene
    cut: int | None  # none: when their things first go different ways


def draw_pair(principle: str, rng: np.random.Generator) -> Pair:
    """A pair of films of a principle, either of which may be the first; half of all are seen in a mirror.

    Raises `UserError` for an unknown principle.
    """
    pair = choose("principle", principle, PRINCIPLES)(rng)
    if rng.random() < 0.5:
        pair = Pair(pair.other, pair.one, pair.cut)
    return Pair(_mirrored(pair.one), _mirrored(pair.other), pair.cut) if rng.random() < 0.5 else pair


def permanence(rng: np.random.Generator) -> Pair:
    """A screen rises before a thing and sinks again; or there is no such thing. Cut: it is gone, or it has come."""
    colors, look = _colors(rng, 2), _look(rng)
    thing = _thing_at(rng, rng.uniform(28, 36), _slow(rng, 0.4), colors[0])
    beside = None
    if rng.random() < 0.5:  # somebody who is there in both
        beside = _thing_at(rng, rng.choice([7.0, 57.0]), 0.0, colors[1])
    scene = Scene(look, (thing, beside), screens=(_risen(16, 48),))
    return Pair(scene, replace(scene, things=(None, beside)), HIDDEN)


def continuity(rng: np.random.Generator) -> Pair:
    """Two screens rise, and the gap between them stays empty. Cut: what went behind one was behind the other."""
    color, look = _colors(rng, 1)[0], _look(rng)
    left = _thing_at(rng, rng.uniform(16, 20), _slow(rng, 0.15), color)
    right = replace(left, x=left.x + _fine(rng.uniform(27, 29)))
    screens = (_risen(8, 28), _risen(36, 56))
    return Pair(Scene(look, (left,), screens=screens), Scene(look, (right,), screens=screens), HIDDEN)


def solidity(rng: np.random.Generator) -> Pair:
    """A wall, or none, is seen and then hidden; a disc rolls there. It comes back, or comes out on the other side.

    Cut: it goes through the wall, or comes back from where there was none.
    """
    color, look = _colors(rng, 1)[0], _look(rng)
    radius, speed, wall = _fine(rng.uniform(4, 5.5)), _fine(rng.uniform(1.8, 2.2)), _fine(rng.uniform(34, 36))
    cut = 15
    touch = wall - PLANK - radius  # where it is when it meets the wall
    ball = Thing(touch - speed * cut, FLOOR - radius, speed, 0.0, radius, color)
    screens = (Screen(20, 46, _fine(rng.uniform(18, 24)), (4, 6, 98, 99)),)
    plank = Plank(wall, FLOOR, wall, FLOOR - _fine(rng.uniform(11, 14)), bounce=1.0)
    return Pair(Scene(look, (ball,), (plank,), screens), Scene(look, (ball,), (), screens), cut)


def gravity(rng: np.random.Generator) -> Pair:
    """A ramp is seen and then hidden; a disc falls on it from above. Cut: it has rolled up the ramp, not down."""
    color, look = _colors(rng, 1)[0], _look(rng)
    radius, middle = _fine(rng.uniform(4, 5.5)), _fine(rng.uniform(29, 35))
    ball = Thing(middle, -_fine(rng.uniform(13, 16)), 0.0, 0.0, radius, color)
    across, down = _fine(rng.uniform(8, 10)), _fine(rng.uniform(5, 6))
    screens = (Screen(middle - 15, middle + 15, 25, (3, 7, 98, 99)),)
    ramps = [Plank(middle - across, 42 - side * down, middle + across, 42 + side * down) for side in (1, -1)]
    one, other = (Scene(look, (ball,), (ramp,), screens) for ramp in ramps)
    return Pair(one, other, None)


def support(rng: np.random.Generator) -> Pair:
    """A shelf under the left or the right of two falling discs is seen and then hidden.

    Cut: the disc above the shelf falls through, the other hangs in the air.
    """
    colors, look = _colors(rng, 2), _look(rng)
    radius, height = _fine(rng.uniform(4, 5.5)), -_fine(rng.uniform(13, 16))
    shelf, lanes = _fine(rng.uniform(43, 45)), (_fine(rng.uniform(18, 22)), _fine(rng.uniform(42, 46)))
    balls = tuple(Thing(lane, height, 0.0, 0.0, radius, color) for lane, color in zip(lanes, colors, strict=True))
    screens = (Screen(9, 55, FLOOR - shelf + PLANK + 1, (3, 7, 98, 99)),)
    shelves = [Plank(lane - 6, shelf, lane + 6, shelf) for lane in lanes]
    one, other = (Scene(look, balls, (plank,), screens) for plank in shelves)
    return Pair(one, other, None)


def inertia(rng: np.random.Generator) -> Pair:
    """Seen from above, a thing glides straight on. Cut: at full speed it turns for nothing, by 60° or more."""
    color, look = _colors(rng, 1)[0], _look(rng)
    cut, speed, angle = int(rng.integers(12, 19)), rng.uniform(1.0, 1.6), rng.uniform(0, 2 * np.pi)
    x, y, radius = _fine(rng.uniform(26, 38)), _fine(rng.uniform(26, 38)), _fine(rng.uniform(4, 6.5))
    shape = int(rng.integers(len(SHAPES)))

    def through(angle: float) -> Scene:
        vx, vy = _fine(speed * np.cos(angle)), _fine(speed * np.sin(angle))
        thing = Thing(x - vx * cut, y - vy * cut, vx, vy, radius, color, shape)
        return Scene(look, (thing,), upright=False)

    return Pair(through(angle), through(angle + rng.uniform(np.pi / 3, 5 * np.pi / 3)), cut)


def collision(rng: np.random.Generator) -> Pair:
    """A disc rolls against one of its size and stops, and the other rolls on; from the left, or from the right.

    Cut: it bounces off, and the other does not move.
    """
    colors, look = _colors(rng, 2), _look(rng)
    cut, speed, radius = int(rng.integers(12, 18)), _fine(rng.uniform(1.3, 1.9)), _fine(rng.uniform(4, 6))
    right = _fine(rng.uniform(32, 40))
    left = right - 2 * radius - 1 / FINE  # they touch in the step after the cut
    y = FLOOR - radius

    def rolling(from_left: bool) -> Scene:
        a, b = (speed, 0.0) if from_left else (0.0, -speed)
        one, other = (
            Thing(x - v * cut, y, v, 0.0, radius, color)
            for x, v, color in zip((left, right), (a, b), colors, strict=True)
        )
        return Scene(look, (one, other))

    return Pair(rolling(True), rolling(False), cut)


def shape(rng: np.random.Generator) -> Pair:
    """A thing is behind a screen for a while. Cut: it has another shape."""
    one, other = rng.choice(len(SHAPES), 2, replace=False).tolist()
    scene = _passing(rng, _colors(rng, 1)[0], one)
    return Pair(scene, _changed(scene, lambda thing: replace(thing, shape=other)), HIDDEN)


def color(rng: np.random.Generator) -> Pair:
    """A thing is behind a screen for a while. Cut: it has another colour."""
    one, other = _colors(rng, 2)
    scene = _passing(rng, one, int(rng.integers(len(SHAPES))))
    return Pair(scene, _changed(scene, lambda thing: replace(thing, color=other)), HIDDEN)


PRINCIPLES: dict[str, Callable[[np.random.Generator], Pair]] = {
    "permanence": permanence,
    "continuity": continuity,
    "solidity": solidity,
    "gravity": gravity,
    "support": support,
    "inertia": inertia,
    "collision": collision,
    "shape": shape,
    "color": color,
}


# ---------------------------------------------------------------------- what they are made of


def _passing(rng: np.random.Generator, color: Color, shape: int) -> Scene:
    """A thing at rest or slow before a rising screen; or one that glides past behind a screen that always stands."""
    look = _look(rng)
    if rng.random() < 0.5:
        thing = _thing_at(rng, rng.uniform(29, 35), _slow(rng, 0.3), color)
        return Scene(look, (replace(thing, shape=shape),), screens=(_risen(18, 46),))
    speed = rng.uniform(1.6, 2.2) * rng.choice([-1, 1])
    thing = _thing_at(rng, 32.0, speed, color)
    screen = Screen(21, 43, _fine(rng.uniform(16, 24)))
    return Scene(look, (replace(thing, shape=shape),), screens=(screen,))


def _thing_at(rng: np.random.Generator, x: float, speed: float, color: Color) -> Thing:
    """A thing on the floor that is at `x` in the middle of being hidden."""
    radius, speed = _fine(rng.uniform(4.5, 7)), _fine(speed)
    form = int(rng.integers(len(SHAPES)))
    return Thing(_fine(x) - speed * HIDDEN, FLOOR - radius, speed, 0.0, radius, color, form)


def _risen(x0: float, x1: float) -> Screen:
    return Screen(x0, x1, 20, (*HIDE, *SHOW))


def _slow(rng: np.random.Generator, most: float) -> float:
    """At rest every other time."""
    return rng.uniform(-most, most) if rng.random() < 0.5 else 0.0


def _changed(scene: Scene, change: Callable[[Thing], Thing]) -> Scene:
    return replace(scene, things=tuple(None if thing is None else change(thing) for thing in scene.things))


def _mirrored(scene: Scene) -> Scene:
    """The scene with left and right exchanged."""
    things = tuple(None if thing is None else replace(thing, x=SIDE - thing.x, vx=-thing.vx) for thing in scene.things)
    planks = tuple(replace(plank, x0=SIDE - plank.x0, x1=SIDE - plank.x1) for plank in scene.planks)
    screens = tuple(replace(screen, x0=SIDE - screen.x1, x1=SIDE - screen.x0) for screen in scene.screens)
    return replace(scene, things=things, planks=planks, screens=screens)


def _fine(value: float) -> float:
    return round(value * FINE) / FINE


def _colors(rng: np.random.Generator, n: int) -> list[Color]:
    return [COLORS[i] for i in rng.permutation(len(COLORS))[:n]]


def _look(rng: np.random.Generator) -> Look:
    """A light ground, a floor that is darker, and planks and screens that are darker still; each with a tint."""

    def shade(low: float, high: float) -> Color:
        red, green, blue = (rng.uniform(low, high) + rng.uniform(-0.04, 0.04, 3)).tolist()
        return red, green, blue

    return Look(shade(0.8, 0.94), shade(0.5, 0.65), shade(0.05, 0.12), shade(0.25, 0.4))
