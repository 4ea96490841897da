"""`pictures`: generated pictures of a textured shape amid clutter, to test what picture eyes see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SHAPES = ("disc", "square", "triangle", "star", "cross", "ring", "moon", "bar")
TEXTURES = ("plain", "stripes", "checks", "dots", "rings")
FINE = 2  # samples a pixel, each way


@dataclass(frozen=True)
class Pictures:
    """Pictures and what is on them: indices into `SHAPES` and `TEXTURES`."""

    frames: np.ndarray  # n y x c   uint8
    shape: np.ndarray  # n         int64
    texture: np.ndarray  # n         int64


def pictures(n: int, size: int = 32, seed: int = 0) -> Pictures:
    """Draw `n` pictures, `size` pixels wide; the same for the same arguments.

    Shape and texture are drawn independently, and so are place, size, angle and colours of the shape, which is bright,
    and the clutter behind: a dark ground that fades from one colour to another, with small patches of any colour. All
    shapes cover the same area on average.
    """
    rng = np.random.default_rng([seed, *b"pictures"])
    shape = rng.integers(len(SHAPES), size=n)
    texture = rng.integers(len(TEXTURES), size=n)
    frames = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        frames[i] = _draw(rng, SHAPES[shape[i]], TEXTURES[texture[i]], size)
    return Pictures(frames, shape.astype(np.int64), texture.astype(np.int64))


def _draw(rng: np.random.Generator, shape: str, texture: str, size: int) -> np.ndarray:
    """One picture `y x c`, from `FINE`² samples a pixel."""
    y, x = (np.mgrid[: size * FINE, : size * FINE] + 0.5) / (size * FINE)
    picture = _clutter(rng, y, x)
    radius = rng.uniform(0.22, 0.32)  # of a disc of the same area
    middle = rng.uniform(0.38, 0.62, 2)
    u, v = _turned(y - middle[0], x - middle[1], rng.uniform(-0.5, 0.5))
    inside = _SHAPES[shape](u / radius, v / radius)
    one, two = rng.uniform(0.75, 1, 3), rng.uniform(0.4, 0.65, 3)
    period = rng.uniform(0.15, 0.2)
    u, v = _turned(u, v, rng.uniform(0, 2 * np.pi))
    first = _TEXTURES[texture](u / period + rng.uniform(), v / period + rng.uniform())
    picture[inside] = np.where(first[inside, None], one, two)
    picture = picture.reshape(size, FINE, size, FINE, 3).mean((1, 3))
    return np.round(picture * 255).astype(np.uint8)


def _clutter(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A fade between two colours, and four small bars and discs: `y x c`."""
    one, two = rng.uniform(0, 0.4, (2, 3))
    along, _ = _turned(y - 0.5, x - 0.5, rng.uniform(0, 2 * np.pi))
    part = np.clip(along + 0.5, 0, 1)[..., None]
    picture = one * (1 - part) + two * part
    for _ in range(4):
        middle = rng.uniform(0, 1, 2)
        u, v = _turned(y - middle[0], x - middle[1], rng.uniform(0, 2 * np.pi))
        half = rng.uniform(0.03, 0.08, 2)
        picture[np.hypot(u / half[0], v / half[1]) < 1] = rng.uniform(0, 1, 3)
    return picture


def _turned(y: np.ndarray, x: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    return np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x


def _disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) < 1


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) < np.sqrt(np.pi) / 2


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Equilateral: three half-planes, whose edges are 0.78 from the middle."""
    return np.maximum(u, np.abs(v) * np.sqrt(0.75) - u / 2) < np.sqrt(np.pi / np.sqrt(27))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points; between a point and a notch, at 0.4 of its distance, the edge is straight."""
    fifth = np.pi / 5
    angle = np.abs((np.arctan2(v, u) + fifth) % (2 * fifth) - fifth)  # from the nearest point
    tip = np.sqrt(np.pi / (5 * 0.4 * np.sin(fifth)))
    notch = 0.4 * tip * np.array([np.cos(fifth), np.sin(fifth)])
    along, up = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    return (along - tip) * notch[1] + up * (tip - notch[0]) < 0


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Two bars, three times as long as wide."""
    half = np.sqrt(np.pi / 5) / 2
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) < half) & (np.maximum(u, v) < 3 * half)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    r = np.hypot(u, v)
    return (r < 1.25) & (r > 0.75)


def _moon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.hypot(u, v) < 1.37) & (np.hypot(u - 0.8, v) > 1.09)


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Three times as long as wide."""
    half = np.sqrt(np.pi / 3) / 2
    return (np.abs(u) < half) & (np.abs(v) < 3 * half)


_Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]
_SHAPES: dict[str, _Inside] = dict(
    zip(SHAPES, (_disc, _square, _triangle, _star, _cross, _ring, _moon, _bar), strict=True)
)
_TEXTURES: dict[str, _Inside] = {
    "plain": lambda u, v: np.ones_like(u, dtype=bool),
    "stripes": lambda u, v: u % 1 < 0.5,
    "checks": lambda u, v: (u % 1 < 0.5) == (v % 1 < 0.5),
    "dots": lambda u, v: np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.4,
    "rings": lambda u, v: np.hypot(u, v) % 1 < 0.5,
}
