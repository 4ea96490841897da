"""`films`: generated videos whose label is a motion, which no single frame gives away; to test what video eyes see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from innerworld.errors import choose

CLASSES = {"direction": 8, "speed": 4, "order": 2, "collisions": 4}
"""How many answers each question has. A frame alone, of any index, has the same distribution under each of them."""


@dataclass(frozen=True)
class Films:
    """Films of one question, and the answers."""

    frames: np.ndarray  # n t y x c   uint8
    label: np.ndarray  # n           int64


def films(question: str, n: int, frames: int = 16, size: int = 64, seed: int = 0) -> Films:
    """Draw `n` films of `frames` frames, `size` pixels wide; the same for the same arguments.

    `direction`: a disc drifts one of 8 ways, leaving at one edge to come back at the other. `speed`: it drifts any way,
    at one of 4 speeds. `order`: a lamp cycles red, green, blue, or red, blue, green. `collisions`: a ball runs between
    two walls and hits them 1 to 4 times. Raises `UserError` for another question.
    """
    draw = choose("question", question, _DRAW)
    rng = np.random.default_rng([seed, *question.encode()])
    label = rng.integers(CLASSES[question], size=n)
    out = np.empty((n, frames, size, size, 3), np.uint8)
    for i in range(n):
        out[i] = draw(rng, int(label[i]), frames, size)
    return Films(out, label.astype(np.int64))


def _direction(rng: np.random.Generator, label: int, frames: int, size: int) -> np.ndarray:
    return _drift(rng, 2 * np.pi * label / CLASSES["direction"], rng.uniform(0.02, 0.05), frames, size)


def _speed(rng: np.random.Generator, label: int, frames: int, size: int) -> np.ndarray:
    return _drift(rng, rng.uniform(0, 2 * np.pi), (0.01, 0.025, 0.045, 0.07)[label], frames, size)


def _drift(rng: np.random.Generator, angle: float, step: float, frames: int, size: int) -> np.ndarray:
    """A disc on a torus: its place is uniform at every time, whatever the angle and the step (of the side)."""
    way = np.array([np.cos(angle), np.sin(angle)]) * step * size
    place = (rng.uniform(0, size, 2) + np.arange(frames)[:, None] * way) % size  # t xy
    return _paint(_background(rng, size), _disc(place, rng.uniform(0.09, 0.14) * size, size, wrap=True), _color(rng))


def _order(rng: np.random.Generator, label: int, frames: int, size: int) -> np.ndarray:
    """The cycle begins anywhere and each colour lasts as long, so that every frame shows each as often."""
    each = max(1, frames // 8)
    turn = (np.arange(frames) + rng.integers(3 * each)) // each % 3  # t
    colors = np.array([[0.9, 0.15, 0.15], [0.15, 0.9, 0.15], [0.2, 0.3, 0.95]])
    place = np.tile(rng.uniform(0.2 * size, 0.8 * size, 2), (frames, 1))
    lamp = _disc(place, rng.uniform(0.12, 0.18) * size, size, wrap=False)
    return _paint(_background(rng, size), lamp, colors[turn if label == 0 else -turn % 3])


def _collisions(rng: np.random.Generator, label: int, frames: int, size: int) -> np.ndarray:
    """A way of `label + 1` widths hits a wall that often wherever it begins; its place is uniform at every time."""
    radius = 0.08 * size
    width = 0.7 * size
    walked = rng.uniform(0, 2) + np.arange(frames) / (frames - 1) * (label + 1) if frames > 1 else rng.uniform(0, 2, 1)
    x = (1 - np.abs(walked % 2 - 1)) * width + (size - width) / 2  # there and back
    place = np.stack([x, np.full(frames, rng.uniform(0.25, 0.75) * size)], 1)
    background = _background(rng, size)
    for wall in ((size - width) / 2 - radius, (size + width) / 2 + radius):
        background[:, max(0, int(wall) - 1) : int(wall) + 1] = 0.05
    return _paint(background, _disc(place, radius, size, wrap=False), _color(rng))


_DRAW: dict[str, Callable[[np.random.Generator, int, int, int], np.ndarray]] = {
    "direction": _direction,
    "speed": _speed,
    "order": _order,
    "collisions": _collisions,
}


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Soft blotches, different in every film: `y x c` in [0.3, 0.7]."""
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


def _color(rng: np.random.Generator) -> np.ndarray:
    return rng.choice([0.0, 1.0]) * 0.9 + rng.uniform(0, 0.1, 3)


def _paint(background: np.ndarray, cover: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Discs (`t y x`) of a colour (`c`, or one for each time) over a background: `uint8` `t y x c`."""
    color = np.broadcast_to(color, (len(cover), 3))[:, None, None]
    picture = background * (1 - cover[..., None]) + color * cover[..., None]
    return np.round(picture * 255).astype(np.uint8)
