"""Worlds with one factor as it never was in training: the same task with another colour, size, door or background."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gymnasium.vector import VectorEnv

from innerworld.config import build


def unseen(env: str, size: int = 64) -> dict[str, Callable[[int], VectorEnv]]:
    """By the factor's name, a function that makes n such worlds of side `size`; empty for an `env` without variants.

    They have the sensors, states and actions of the world that they vary. Whether training varied the factor, too, only
    who knows the data can say.
    """
    return {factor: partial(_MAKERS[env], settings, size) for factor, settings in UNSEEN.get(env, {}).items()}


_ROOMS: dict[str, dict[str, Any]] = {
    "agent_color": {"agent_color": (0.25, 0.55, 0.95)},  # from red to blue
    "floor_color": {"floor_color": (0.16, 0.06, 0.06)},  # from nearly black to dark red
    "wall_color": {"wall_color": (0.35, 0.6, 0.35)},  # from grey to green
    "size": {"radius": 4.0},  # of the agent, pixels of 64; plain: 2.5
    "door": {"door": 44.0},  # y of its middle, pixels of 64; plain: 20
    "wall": {"wall": 26.0},  # x of its middle, pixels of 64; plain: 32
    "backdrop_noise": {"backdrop": "noise"},
    "backdrop_blobs": {"backdrop": "blobs"},
}
UNSEEN: dict[str, dict[str, dict[str, Any]]] = {
    "two_rooms": _ROOMS,
    "paddle": {"size": {"radius": 3.0}, "paddle_width": {"width": 12.0}, "paddle_height": {"height": 5.0}},
    **{f"maze_{layout}": {"size": {"radius": 0.2}} for layout in ("u", "medium", "spiral")},
}
"""The factors of each world, as settings of it that differ from the plain ones."""


def _two_rooms(settings: dict[str, Any], size: int, n: int) -> VectorEnv:
    from innerworld.envs.two_rooms import TwoRoomsConfig, TwoRoomsVector

    lengths = {name: value * size / 64 if isinstance(value, float) else value for name, value in settings.items()}
    return TwoRoomsVector(n, TwoRoomsConfig.of_size(size).model_copy(update=lengths))


def _paddle(settings: dict[str, Any], size: int, n: int) -> VectorEnv:
    from innerworld.envs.paddle import PaddleConfig, PaddleVector

    return PaddleVector(n, build(PaddleConfig, {"size": size, **settings}, "paddle"))


def _maze(layout: str) -> Callable[[dict[str, Any], int, int], VectorEnv]:
    def make(settings: dict[str, Any], size: int, n: int) -> VectorEnv:
        from innerworld.envs.maze import MazeConfig, MazeVector

        return MazeVector(n, build(MazeConfig, {"layout": layout, "size": size, **settings}, f"maze_{layout}"))

    return make


_MAKERS: dict[str, Callable[[dict[str, Any], int, int], VectorEnv]] = {
    "two_rooms": _two_rooms,
    "paddle": _paddle,
    **{f"maze_{layout}": _maze(layout) for layout in ("u", "medium", "spiral")},
}
