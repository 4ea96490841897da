"""A film of a scene, drawn for all its frames at once: `t y x 3` uint8, edges anti-aliased but for screens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from innerworld.envs.physics.scene import BASE, FLOOR, PLANK, SIDE, Color, Path, Plank, Scene, Screen, Thing

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def draw(scene: Scene, path: Path, size: int) -> Pixels:
    """The pictures of a film, `size` pixels wide: what stands still, then things in their order, then screens."""
    scale = size / SIDE
    film = np.empty((len(path), size, size, 3), np.uint8)
    film[:] = _still(scene, size, scale)
    for i, thing in enumerate(scene.things):
        if thing is not None:
            _paint_thing(film, thing, (path[:, i, :2] * scale).astype(np.float32), thing.radius * scale)
    for screen in scene.screens:
        _paint_screen(film, screen, scene.look.screen, scale)
    return film


def _still(scene: Scene, size: int, scale: float) -> Pixels:
    """Ground, planks and the floor that they stand in: `y x 3`."""
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = _bytes(scene.look.ground)
    middle = np.arange(size, dtype=np.float32) + 0.5
    for plank in scene.planks:
        cover = np.clip(0.5 - _from_plank(plank, middle, scale), 0, 1)[..., None]
        picture = cover * _bytes(scene.look.plank) + (1 - cover) * picture
    if scene.upright:
        floor = np.clip(middle - FLOOR * scale + 0.5, 0, 1)[:, None, None]
        picture = floor * _bytes(scene.look.floor) + (1 - floor) * picture
    return np.round(picture).astype(np.uint8)


def _from_plank(plank: Plank, middle: Floats, scale: float) -> Floats:
    """How far each pixel is from the plank's edge, negative within: `y x`."""
    x0, y0, x1, y1 = (value * scale for value in (plank.x0, plank.y0, plank.x1, plank.y1))
    dx, dy = middle[None, :] - x0, middle[:, None] - y0
    wx, wy = x1 - x0, y1 - y0
    along = np.clip((dx * wx + dy * wy) / (wx * wx + wy * wy), 0, 1)
    return (np.hypot(dx - along * wx, dy - along * wy) - PLANK * scale).astype(np.float32)


def _paint_thing(film: Pixels, thing: Thing, place: Floats, radius: float) -> None:
    """Paint a thing at `t 2` (pixels) into the frames in which it is to be seen: its square of pixels alone."""
    size = film.shape[1]
    reach = int(np.ceil(radius + 1))
    seen = np.flatnonzero(np.all((place > -reach) & (place < size + reach), axis=1))
    if not len(seen):
        return
    place = place[seen]
    offset = np.arange(-reach, reach + 1)
    corner = np.floor(place).astype(np.int64)
    column = np.clip(corner[:, :1] + offset, 0, size - 1)  # t k; what lies outside is painted twice at the edge
    row = np.clip(corner[:, 1:] + offset, 0, size - 1)
    dx = (column + np.float32(0.5) - place[:, :1])[:, None, :].astype(np.float32)  # t 1 k
    dy = (row + np.float32(0.5) - place[:, 1:])[:, :, None].astype(np.float32)  # t k 1
    cover = np.clip(np.float32(0.5) - _AWAY[thing.shape](dx, dy, np.float32(radius)), 0, 1)[..., None]
    index = (seen[:, None, None], row[:, :, None], column[:, None, :])
    patch = film[index].astype(np.float32)
    patch += cover * (_bytes(thing.color) - patch)
    film[index] = (patch + np.float32(0.5)).astype(np.uint8)


def _paint_screen(film: Pixels, screen: Screen, color: Color, scale: float) -> None:
    """In whole pixels, all that it touches: what is told to be hidden is, to the last bit."""
    size = film.shape[1]
    top = np.floor(screen.top(len(film)) * scale)[:, None]
    rows = np.arange(size)
    covered = (rows >= top) & (rows < np.ceil(BASE * scale))  # t y
    left, right = max(0, int(screen.x0 * scale)), min(size, int(np.ceil(screen.x1 * scale)))
    film[:, :, left:right][covered] = np.round(_bytes(color)).astype(np.uint8)


def _disc(dx: Floats, dy: Floats, radius: np.float32) -> Floats:
    return np.sqrt(dx * dx + dy * dy) - radius


def _square(dx: Floats, dy: Floats, radius: np.float32) -> Floats:
    return np.maximum(np.abs(dx), np.abs(dy)) - radius


def _triangle(dx: Floats, dy: Floats, radius: np.float32) -> Floats:
    """Its tip up: half as wide as high at each height, standing on the lower edge of its square."""
    slope = (2 * np.abs(dx) - dy - radius) / np.float32(np.sqrt(5))
    return np.maximum(slope, dy - radius)


def _diamond(dx: Floats, dy: Floats, radius: np.float32) -> Floats:
    return (np.abs(dx) + np.abs(dy) - radius) / np.float32(np.sqrt(2))


_AWAY: list[Callable[[Floats, Floats, np.float32], Floats]] = [_disc, _square, _triangle, _diamond]
"""Of each of `SHAPES`: how far a pixel is from its edge, negative within."""


def _bytes(color: Color) -> Floats:
    return np.array(color, np.float32) * 255
