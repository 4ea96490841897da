"""`films`: generated videos whose label is a motion, which no single frame gives away; to test what video eyes see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from innerworld.errors import choose

CLASSES = {"direction": 8, "speed": 4, "order": 2, "collisions": 4}
"""How many answers each question has. A frame alone, of any index, has the same distribution under each of them."""


@dataclass(frozen=True)
class Scene:
    """What the films show besides the motion that is asked for. None of it depends on the answer."""

    things: int = 1  # discs, lamps or balls, each of its own colour and place, all moving as the answer says
    dark: bool = False  # all that moves is bright, and the ground is one dark grey, instead of soft blotches
    grain: float = 0.0  # strength of a texture of 2 × 2 pixels on the ground, which stands still
    snow: float = 0.0  # deviation of the noise of each pixel and frame, of full brightness


PLAIN = Scene()
BUSY = Scene(things=2, grain=0.35, snow=0.1)
NIGHT = Scene(things=2, dark=True, snow=0.3)


@dataclass(frozen=True)
class Films:
    """Films of one question, and the answers."""

    frames: np.ndarray  # n t y x c   uint8
    label: np.ndarray  # n           int64


def films(question: str, n: int, frames: int = 16, size: int = 64, seed: int = 0, scene: Scene = PLAIN) -> Films:
    """Draw `n` films of `frames` frames, `size` pixels wide; the same for the same arguments.

    `direction`: a disc drifts one of 8 ways, leaving at one edge to come back at the other. `speed`: it drifts any way,
    at one of 4 speeds. `order`: a lamp cycles red, green, blue, or red, blue, green. `collisions`: a ball runs between
    two walls and hits them 1 to 4 times. `scene` says how many do so and what else is to be seen: in `BUSY` a texture
    and noise, in `NIGHT` strong noise on a dark ground. Raises `UserError` for another question.
    """
    draw = choose("question", question, _DRAW)
    rng = np.random.default_rng([seed, *question.encode()])
    label = rng.integers(CLASSES[question], size=n)
    out = np.empty((n, frames, size, size, 3), np.uint8)
    for i in range(n):
        out[i] = _shown(draw(rng, int(label[i]), frames, size, scene), rng, scene.snow)
    return Films(out, label.astype(np.int64))


def _direction(rng: np.random.Generator, label: int, frames: int, size: int, scene: Scene) -> np.ndarray:
    return _drift(rng, 2 * np.pi * label / CLASSES["direction"], rng.uniform(0.02, 0.05), frames, size, scene)


def _speed(rng: np.random.Generator, label: int, frames: int, size: int, scene: Scene) -> np.ndarray:
    return _drift(rng, rng.uniform(0, 2 * np.pi), (0.01, 0.025, 0.045, 0.07)[label], frames, size, scene)


def _drift(rng: np.random.Generator, angle: float, step: float, frames: int, size: int, scene: Scene) -> np.ndarray:
    """Discs on a torus: the place of each is uniform at every time, whatever the angle and the step (of the side)."""
    way = np.array([np.cos(angle), np.sin(angle)]) * step * size
    picture = _ground(rng, frames, size, scene)
    for _ in range(scene.things):
        place = (rng.uniform(0, size, 2) + np.arange(frames)[:, None] * way) % size  # t xy
        disc = _disc(place, rng.uniform(0.09, 0.14) * size, size, wrap=True)
        picture = _paint(picture, disc, _color(rng, scene.dark))
    return picture


def _order(rng: np.random.Generator, label: int, frames: int, size: int, scene: Scene) -> np.ndarray:
    """The cycle begins anywhere and each colour lasts as long, so that every frame shows each as often."""
    each = max(1, frames // 8)
    colors = np.array([[0.9, 0.15, 0.15], [0.15, 0.9, 0.15], [0.2, 0.3, 0.95]])
    picture = _ground(rng, frames, size, scene)
    for _ in range(scene.things):
        turn = (np.arange(frames) + rng.integers(3 * each)) // each % 3  # t
        place = np.tile(rng.uniform(0.2 * size, 0.8 * size, 2), (frames, 1))
        lamp = _disc(place, rng.uniform(0.12, 0.18) * size, size, wrap=False)
        picture = _paint(picture, lamp, colors[turn if label == 0 else -turn % 3])
    return picture


def _collisions(rng: np.random.Generator, label: int, frames: int, size: int, scene: Scene) -> np.ndarray:
    """A way of `label + 1` widths hits a wall that often wherever it begins; its place is uniform at every time."""
    radius = 0.08 * size
    width = 0.7 * size
    picture = _ground(rng, frames, size, scene)
    for wall in ((size - width) / 2 - radius, (size + width) / 2 + radius):
        picture[:, :, max(0, int(wall) - 1) : int(wall) + 1] = 0.3 if scene.dark else 0.05
    for _ in range(scene.things):
        walked = rng.uniform(0, 2) + np.arange(frames) / max(1, frames - 1) * (label + 1)
        x = (1 - np.abs(walked % 2 - 1)) * width + (size - width) / 2  # there and back
        place = np.stack([x, np.full(frames, rng.uniform(0.25, 0.75) * size)], 1)
        picture = _paint(picture, _disc(place, radius, size, wrap=False), _color(rng, scene.dark))
    return picture


_DRAW: dict[str, Callable[[np.random.Generator, int, int, int, Scene], np.ndarray]] = {
    "direction": _direction,
    "speed": _speed,
    "order": _order,
    "collisions": _collisions,
}


def _ground(rng: np.random.Generator, frames: int, size: int, scene: Scene) -> np.ndarray:
    """Soft blotches, different in every film, `t y x c` in [0.3, 0.7], or darkness; and a texture on it."""
    ground = np.full((size, size, 3), 0.1) if scene.dark else _blotches(rng, size)
    if scene.grain:
        half = -(-size // 2)
        fine = rng.uniform(-scene.grain, scene.grain, (half, half, 3))
        ground = ground + fine.repeat(2, axis=0).repeat(2, axis=1)[:size, :size]
    return ground[None].repeat(frames, axis=0)


def _blotches(rng: np.random.Generator, size: int) -> np.ndarray:
    coarse = rng.uniform(0.3, 0.7, (6, 6, 3))
    at = np.linspace(0, 5, size)
    low = np.minimum(at.astype(int), 4)
    part = (at - low)[:, None]
    rows = coarse[low] * (1 - part[..., None]) + coarse[low + 1] * part[..., None]  # y 6 c
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _disc(place: np.ndarray, radius: float, size: int, wrap: bool) -> np.ndarray:
    """How much of each pixel a disc around `place` (t xy) covers: `t y x`, edges anti-aliased."""
    middle = np.arange(size) + 0.5
    away = np.abs(middle - place[..., None])  # t xy size
    if wrap:
        away = np.minimum(away, size - away)
    distance = np.hypot(away[:, 1, :, None], away[:, 0, None, :])
    return np.clip(radius + 0.5 - distance, 0, 1)


def _color(rng: np.random.Generator, dark: bool) -> np.ndarray:
    if dark:
        return rng.uniform(0.3, 1, 3)
    return rng.choice([0.0, 1.0]) * 0.9 + rng.uniform(0, 0.1, 3)


def _paint(picture: np.ndarray, cover: np.ndarray, color: np.ndarray) -> np.ndarray:
    """A disc (`t y x`) of a colour (`c`, or one for each time) over films: `t y x c`."""
    color = np.broadcast_to(color, (len(cover), 3))[:, None, None]
    return picture * (1 - cover[..., None]) + color * cover[..., None]


def _shown(film: np.ndarray, rng: np.random.Generator, snow: float) -> np.ndarray:
    """What a camera makes of `t y x c` in about [0, 1]: `uint8`."""
    noisy = film + snow * rng.standard_normal(film.shape) if snow else film
    return np.round(noisy.clip(0, 1) * 255).astype(np.uint8)
