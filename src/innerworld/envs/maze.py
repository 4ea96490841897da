"""Mazes: a disc in corridors, seen from above, for goals that lie many plans away.

The layouts "u" and "medium" are those of D4RL's PointMaze (arXiv 2004.07219), "spiral" is ours; physics and drawing are
our own, without inertia, and run for many worlds at once. Positions are in pixels, x to the right, y downwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from innerworld.config import Config
from innerworld.envs.drawing import paint_disc
from innerworld.envs.rows import Single, begun_anew
from innerworld.errors import UserError
from innerworld.types import Obs

LAYOUTS = {
    "u": ("#####", "#...#", "###.#", "#...#", "#####"),
    "medium": ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########"),
    "spiral": (
        "#########",
        "#.......#",
        "#######.#",
        "#.....#.#",
        "#.###.#.#",
        "#.#...#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    ),
}
TOUCH = 1e-3  # pixels that an agent keeps from a wall
FLOOR, WALL, AGENT = (0.06, 0.07, 0.1), (0.45, 0.5, 0.6), (0.95, 0.35, 0.25)


class MazeConfig(Config):
    layout: Literal["u", "medium", "spiral"] = Field(default="medium", description="which maze")
    size: int = Field(default=64, description="side of the picture and of the world, pixels", ge=32)
    speed: float = Field(default=0.4, description="way of a full action along one axis, cells per step", gt=0, le=0.5)
    radius: float = Field(default=0.3, description="of the agent, cells", gt=0, lt=0.5)
    tolerance: float = Field(default=0.5, description="a goal counts as reached within this distance, cells", gt=0)
    steps: int = Field(default=100, description="length of an episode, steps", ge=1)


class MazeVector(VectorEnv):
    """Many mazes of one layout, stepped and drawn as one array.

    Sensors: `pixels` (y, x, 3) uint8 and `state` (x, y) of the agent, pixels; the latter is for probes and the oracle.
    Never terminates; truncates after `steps`. `reset` takes options `reset_mask` (n booleans) and `state` (n 2).
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    Config = MazeConfig

    def __init__(self, num_envs: int = 1, config: MazeConfig | None = None) -> None:
        self.config = config = config or MazeConfig()
        self.num_envs = num_envs
        self.render_mode = "rgb_array"
        self._walls = walls(config.layout)
        self.cell = config.size / len(self._walls)
        size = config.size
        self.single_observation_space = spaces.Dict(
            {"pixels": spaces.Box(0, 255, (size, size, 3), np.uint8), "state": spaces.Box(0, size, (2,), np.float32)}
        )
        self.single_action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.position = np.zeros((num_envs, 2), np.float32)
        self._background = np.repeat(_draw(self._walls, size)[None], num_envs, axis=0)
        self._elapsed = np.zeros(num_envs, np.int64)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin anew where `reset_mask` says (everywhere by default). An integer `seed` gives world i `seed + i`.

        Raises `UserError` for a `state` in a wall.
        """
        options = options or {}
        rows = begun_anew(self._rngs, seed, options)
        if "state" in options:
            self.position[rows] = np.asarray(options["state"], np.float32).reshape(self.num_envs, 2)[rows]
            bad = rows[~self._free(self.position[rows])]
            if len(bad):
                raise UserError(f"maze: state {self.position[bad[0]].tolist()} of world {bad[0]} touches a wall")
        else:
            for i in rows:
                self.position[i] = self._somewhere(self._rngs[i])
        self._elapsed[rows] = 0
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Move each agent by `actions` (n 2) in [-1, 1] times the speed. The reward is 0: goals give the meaning."""
        actions = np.asarray(actions, np.float32)
        if actions.shape != self.position.shape:
            raise UserError(f"maze: actions have shape {actions.shape}, expected {self.position.shape}")
        if not np.all(np.abs(actions) <= 1 + 1e-6):
            raise UserError("maze: an action lies outside [-1, 1] (or is NaN): scale or clip it first")
        at = {"state": torch.from_numpy(self.position)}
        self.position = self.dynamics()(at, torch.from_numpy(actions))["state"].numpy()
        self._elapsed += 1
        nothing = np.zeros(self.num_envs, bool)
        return self._observe(), np.zeros(self.num_envs, np.float64), nothing, self._elapsed >= self.config.steps, {}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        return tuple(self._observe()["pixels"])

    def dynamics(self) -> Dynamics:
        """The law of motion as a function of sensors and action, for the oracle."""
        config = self.config
        return Dynamics(torch.from_numpy(self._walls), self.cell, config.speed * self.cell, config.radius * self.cell)

    def success(self, state: NDArray[Any], goal: NDArray[Any]) -> NDArray[np.bool_]:
        """Is the agent at the goal? `state`, `goal`: n 2, as the `state` sensor gives them → n."""
        away = np.linalg.norm(np.asarray(state) - np.asarray(goal), axis=-1)
        return away <= self.config.tolerance * self.cell

    def path(self, state: NDArray[Any], goal: NDArray[Any]) -> NDArray[np.float64]:
        """Length of the shortest way along the corridors, in cells: n 2 and n 2 → n."""
        between = _cells_between(self.config.layout)
        a, b = (np.asarray(point) // self.cell for point in (state, goal))
        a, b = a.astype(np.int64), b.astype(np.int64)
        return between[a[..., 1], a[..., 0], b[..., 1], b[..., 0]]

    def _observe(self) -> dict[str, NDArray[Any]]:
        radius = np.full(self.num_envs, self.config.radius * self.cell, np.float32)
        color = np.repeat(np.array([AGENT], np.float32), self.num_envs, axis=0)
        return {
            "pixels": paint_disc(self._background, self.position, radius, color),
            "state": self.position.copy(),
        }

    def _somewhere(self, rng: np.random.Generator) -> NDArray[np.float32]:
        open_cells = np.argwhere(~self._walls)[:, ::-1]  # x y
        reach = max(0.0, 0.5 - self.config.radius - TOUCH / self.cell)
        cell = open_cells[rng.integers(len(open_cells))]
        return ((cell + 0.5 + rng.uniform(-reach, reach, 2)) * self.cell).astype(np.float32)

    def _free(self, position: NDArray[np.float32]) -> NDArray[np.bool_]:
        reach = self.config.radius * self.cell - TOUCH
        free = np.ones(len(position), bool)
        for dx in (-reach, reach):
            for dy in (-reach, reach):
                corner = position + np.array([dx, dy], np.float32)  # rounded as `Dynamics` does, which goes that far
                x, y = np.floor(corner / self.cell).astype(np.int64).T
                inside = (x >= 0) & (y >= 0) & (x < len(self._walls)) & (y < len(self._walls))
                free &= inside & ~self._walls[np.where(inside, y, 0), np.where(inside, x, 0)]
        return free


class Maze(Single):
    """One maze, as a plain Gymnasium environment."""

    Config = MazeConfig

    def __init__(self, config: MazeConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(MazeVector(1, config), render_mode)


@dataclass(frozen=True)
class Dynamics:
    """How the agent moves: along x until it touches a wall, then along y; it is a square to the walls."""

    walls: Tensor  # y x   bool
    cell: float  # side of a cell, pixels
    speed: float  # pixels per step; less than a cell, so that no wall is jumped
    radius: float  # pixels

    def __call__(self, obs: Obs, action: Tensor) -> Obs:
        """Sensor `state` `b 2`, actions `b 2` → the same sensor one step later."""
        x, y = obs["state"].unbind(-1)
        dx, dy = (action * self.speed).unbind(-1)
        x = self._slide(x, dx, y, across=False)
        y = self._slide(y, dy, x, across=True)
        return {"state": torch.stack([x, y], dim=-1)}

    def _slide(self, along: Tensor, step: Tensor, other: Tensor, across: bool) -> Tensor:
        """Move on one axis until the leading edge meets a wall cell at either corner."""
        there = along + step
        side = step.sign() * self.radius
        edge = torch.floor((there + side) / self.cell).long().clamp(0, len(self.walls) - 1)
        hit = torch.zeros_like(step, dtype=torch.bool)
        for corner in (-self.radius + TOUCH, self.radius - TOUCH):
            beside = torch.floor((other + corner) / self.cell).long().clamp(0, len(self.walls) - 1)
            hit = hit | (self.walls[edge, beside] if across else self.walls[beside, edge])
        before = torch.where(step > 0, edge * self.cell, (edge + 1) * self.cell) - side - step.sign() * TOUCH
        return torch.where(hit, before.to(along.dtype), there)


def walls(layout: str) -> NDArray[np.bool_]:
    """Which cells of a layout are walls: `y x`."""
    return np.array([[cell == "#" for cell in row] for row in LAYOUTS[layout]])


@cache
def _cells_between(layout: str) -> NDArray[np.float64]:
    """Steps from cell to cell along open cells, infinity where there is no way: `y x y x`."""
    solid = walls(layout)
    found = np.full((*solid.shape, *solid.shape), np.inf)
    for y, x in np.argwhere(~solid):
        found[y, x, y, x] = 0
        todo = deque([(y, x)])
        while todo:
            j, i = todo.popleft()
            for nj, ni in ((j - 1, i), (j + 1, i), (j, i - 1), (j, i + 1)):
                if not solid[nj, ni] and found[y, x, nj, ni] == np.inf:
                    found[y, x, nj, ni] = found[y, x, j, i] + 1
                    todo.append((nj, ni))
    return found


def _draw(solid: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """Floor and walls: `y x 3`; where a cell ends within a pixel, the pixel is mixed."""
    edges = np.arange(size + 1) * len(solid) / size
    cell = np.arange(len(solid))
    share = np.minimum(edges[1:, None], cell + 1) - np.maximum(edges[:-1, None], cell)
    share = np.clip(share, 0, None)
    share /= share.sum(axis=1, keepdims=True)  # of each pixel in each cell
    wall = (share @ solid @ share.T)[..., None]
    return np.round((wall * WALL + (1 - wall) * FLOOR) * 255).astype(np.uint8)
