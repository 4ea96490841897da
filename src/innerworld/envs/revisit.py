"""A maze revisited: corridors of coloured tiles, new in each episode, seen through a window that turns with the agent.

Nothing but memory tells the colour of a tile that comes into view again. It asks what S4WM's tests of long imagination
after a context ask (Deng et al. 2023, arXiv 2307.02064), in mazes drawn anew for each episode as Memory Maze's are
(Pasukonis et al. 2023, arXiv 2210.13383). Grid, drawing and the questions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from innerworld.config import Config
from innerworld.envs.lawful import CHANCES, COLORS, Lawful, drawn, one_hot
from innerworld.envs.questions import NEVER, Questions
from innerworld.envs.rows import Single
from innerworld.errors import UserError

WALL, AGENT = np.array([(40, 44, 56), (240, 240, 240)], np.uint8)
FORWARD, LEFT, RIGHT = range(3)
WAYS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # x y of a step; the agent turns right from each to the next
TIME, X, Y, WAY, CHANCE = range(5)  # what a state's numbers are


class RevisitConfig(Config):
    cells: int = Field(default=9, description="side of the maze with its outer wall, cells; odd", ge=5, le=41)
    loops: float = Field(default=0.1, description="share of the walls between corridors that are left out", ge=0, le=1)
    colors: int = Field(default=6, description="colours that a tile may have, all equally likely", ge=2, le=len(COLORS))
    view: int = Field(
        default=3, description="side of the window, cells; odd; the agent is at its near edge", ge=3, le=9
    )
    size: int = Field(default=64, description="side of the picture, pixels", ge=16)
    steps: int = Field(default=200, description="length of an episode, steps", ge=1)


class RevisitVector(Lawful):
    """Many mazes, stepped and drawn as one array.

    Actions: 0 one cell forward (a wall stops it), 1 turn left, 2 turn right. The reward is 0, and time alone ends an
    episode. Sensors: `pixels` (y, x, 3) uint8, the window; `symbols`, each of its cells one-hot (wall, or which
    colour); `state` (time, x, y, way, and the number that the maze follows from), for probes and the oracle.
    """

    Config = RevisitConfig

    def __init__(self, num_envs: int = 1, config: RevisitConfig | None = None) -> None:
        self.config = config = config or RevisitConfig()
        if config.cells % 2 == 0 or config.view % 2 == 0:
            raise UserError(f"revisit: cells={config.cells} and view={config.view}: choose odd numbers")
        size, most = config.size, config.cells - 2
        sensors = {
            "pixels": spaces.Box(0, 255, (size, size, 3), np.uint8),
            "symbols": spaces.Box(0, 1, (config.view**2 * (config.colors + 1),), np.float32),
        }
        state = spaces.Box(
            np.array([0, 1, 1, 0, 0], np.float32),
            np.array([config.steps, most, most, 3, 1], np.float32),
            dtype=np.float32,
        )
        super().__init__("revisit", num_envs, sensors, state, 3, config.steps)

    def begin(self, rng: np.random.Generator) -> NDArray[np.float32]:
        chance = drawn(rng)
        open_cells = np.argwhere(self.maze(chance) >= 0)
        y, x = open_cells[rng.integers(len(open_cells))]
        return np.array([0, x, y, rng.integers(4), chance], np.float32)

    def after(self, state: NDArray[np.float32], choice: NDArray[np.int64]) -> NDArray[np.float32]:
        after = state.copy()
        after[:, TIME] += 1
        after[:, WAY] = (state[:, WAY] + (choice == RIGHT) - (choice == LEFT)) % 4
        ahead = self._cells_at(state, np.array([[0, 1]]))[:, 0]  # n 2
        free = (choice == FORWARD) & (self._colors(state, ahead[:, None])[:, 0] >= 0)
        after[:, X : Y + 1] = np.where(free[:, None], ahead, state[:, X : Y + 1])
        return after

    def check(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        within = np.array([self.states.contains(row) for row in state], bool)
        within &= (state[:, :CHANCE] == np.round(state[:, :CHANCE])).all(1) & (state[:, CHANCE] < 1)
        rows = np.flatnonzero(within)
        standing = self._colors(state[rows], self._cells_at(state[rows], np.array([[0, 0]])))[:, 0]
        within[rows] = standing >= 0
        return within

    def look(self, state: NDArray[np.float32], sensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        colors = self._colors(state, self.window(state))  # n v²
        ways = {"pixels": self._draw, "symbols": self._symbols}
        return {name: ways[name](colors) for name in sensors}

    def maze(self, chance: float) -> NDArray[np.int64]:
        """The maze of a state's last number: `y x`, the colour of each tile, -1 where there is a wall."""
        config = self.config
        return _maze(config.cells, config.loops, config.colors, round(float(chance) * CHANCES))

    def window(self, state: NDArray[Any]) -> NDArray[np.int64]:
        """Where the cells of the window are, some outside the maze: states `n s` → `n v² 2` (x, y), row by row."""
        side = np.arange(self.config.view) - self.config.view // 2
        far = np.arange(self.config.view)[::-1]
        return self._cells_at(state, np.stack([np.tile(side, len(far)), np.repeat(far, len(side))], axis=1))

    def inside(self, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which cells `... 2` (x, y) belong to the maze: `...`."""
        return np.all((cells >= 0) & (cells < self.config.cells), axis=-1)

    def questions(self, state: NDArray[Any], context: int, sensor: str = "pixels") -> Questions:
        """Of which colour is each tile that comes into view after time `context`? States `n t+1 s` of whole episodes.

        The lag counts from when the tile was last in view until `context`; a tile that was not is a question that only
        luck answers, and shows what that is worth. An episode's questions end where the agent runs into a wall that was
        not in view until `context`: who is not shown that it was stopped does not know where it is from then on.
        """
        n, times = state.shape[:2]
        if not 0 <= context < times - 1 or (state[:, 0, TIME] != 0).any():
            raise UserError(f"revisit: context={context} must lie within whole episodes, of {times - 1} steps here")
        found = [
            self._come_into_view(state[i], context) for i in range(n)
        ]  # each q 4: time, place in window, color, lag
        row = np.repeat(np.arange(n), [len(each) for each in found])
        time, place, answer, lag = np.concatenate(found).T
        where, candidates = self._parts(sensor)
        return Questions(
            sensor=sensor,
            row=row,
            time=time,
            lag=lag,
            where=where[place],
            candidates=np.broadcast_to(candidates, (len(row), *candidates.shape)),
            answer=answer,
            ceiling=np.where(lag == NEVER, 1 / self.config.colors, 1.0),
        )

    def _come_into_view(self, state: NDArray[Any], context: int) -> NDArray[np.int64]:
        """States `t s` of one episode → `q 4`, in order of time."""
        window = self.window(state)
        maze = self.maze(state[0, CHANCE])
        inside = self.inside(window)
        at = np.where(inside[..., None], window, 0)
        tile = np.asarray(inside & (maze[at[..., 1], at[..., 0]] >= 0))  # t v²
        ahead = self._cells_at(state, np.array([[0, 1]]))[:, 0]  # t 2
        stayed = (state[1:, X:CHANCE] == state[:-1, X:CHANCE]).all(1)  # stopped by the wall ahead
        known = np.zeros(maze.shape, bool)  # in view up to the context
        seen = np.full(maze.shape, NEVER)  # when last, up to the context
        before = np.zeros(maze.shape, bool)  # in view a step ago
        found = []
        for t, (cells, tiles) in enumerate(zip(at, tile, strict=True)):
            here = np.flatnonzero(tiles)
            x, y = cells[here].T
            if t <= context:
                seen[y, x] = t
                known[window[t, inside[t], 1], window[t, inside[t], 0]] = True
            elif stayed[t - 1] and not known[ahead[t, 1], ahead[t, 0]]:
                break
            else:
                for place, i, j in zip(here[~before[y, x]], x[~before[y, x]], y[~before[y, x]], strict=True):
                    lag = NEVER if seen[j, i] == NEVER else t - seen[j, i]
                    found.append((t, place, maze[j, i], lag))
            before[:] = False
            before[y, x] = True
        return np.array(found, np.int64).reshape(-1, 4)

    def _parts(self, sensor: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Which numbers of a sensor show each place of the window, `v² m`, and what they are in each colour, `k m`."""
        count, k = self.config.view**2, self.config.colors
        if sensor == "symbols":
            return np.arange(count * (k + 1)).reshape(count, k + 1), np.eye(k + 1, dtype=np.float32)[1:]
        size, inner = self.config.size, self._inner()
        flat = np.arange(size * size * 3).reshape(size, size, 3)
        where = np.stack([flat[rows, columns].reshape(-1) for rows in inner for columns in inner])
        return where, np.repeat(COLORS[:k, None], where.shape[1] // 3, axis=1).reshape(k, -1)

    def _inner(self) -> list[slice]:
        """Along a side of the picture, the middle of each cell."""
        size, view = self.config.size, self.config.view
        width = max(1, size // view // 2)
        return [slice(low, low + width) for low in ((2 * i + 1) * size // (2 * view) - width // 2 for i in range(view))]

    def _cells_at(self, state: NDArray[Any], offset: NDArray[np.int64]) -> NDArray[np.int64]:
        """`k 2` cells (to the right, ahead) as states `n s` face them → `n k 2` (x, y)."""
        ahead = state[:, WAY].astype(np.int64)
        right = WAYS[(ahead + 1) % 4]
        moved = offset[:, :1] * right[:, None] + offset[:, 1:] * WAYS[ahead][:, None]
        return state[:, None, X : Y + 1].astype(np.int64) + moved

    def _colors(self, state: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Colours of `n k 2` cells (x, y), each row's in its own maze, -1 for walls and what is outside: `n k`."""
        mazes = np.array([self.maze(chance) for chance in state[:, CHANCE]]).reshape(-1, *[self.config.cells] * 2)
        inside = self.inside(cells)
        at = np.where(inside[..., None], cells, 0)  # a corner, which is a wall
        return mazes[np.arange(len(state))[:, None], at[..., 1], at[..., 0]]

    def _symbols(self, colors: NDArray[np.int64]) -> NDArray[np.float32]:
        return one_hot(colors + 1, self.config.colors + 1).reshape(len(colors), -1)

    def _draw(self, colors: NDArray[np.int64]) -> NDArray[np.uint8]:
        """`n y x 3`: the window, the agent a dot at its near edge."""
        size, view = self.config.size, self.config.view
        cell = np.arange(size) * view // size
        tiles = np.concatenate([COLORS, WALL[None]])[colors].reshape(-1, view, view, 3)  # -1 is the last
        picture = tiles[:, cell[:, None], cell]
        side = max(1, size // view // 3)
        top, left = ((2 * view - 1) * size // (2 * view) - side // 2, (size - side) // 2)
        picture[:, top : top + side, left : left + side] = AGENT
        return picture


class Revisit(Single):
    """One maze, as a plain Gymnasium environment."""

    Config = RevisitConfig

    def __init__(self, config: RevisitConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        super().__init__(RevisitVector(1, config), render_mode)


@lru_cache(maxsize=4096)
def _maze(cells: int, loops: float, colors: int, number: int) -> NDArray[np.int64]:
    """Corridors that join all rooms (the cells with odd x and y), as a walk leads that backs out of dead ends."""
    rng = np.random.default_rng(number)
    solid = np.ones((cells, cells), bool)
    rooms = cells // 2
    way = [(int(rng.integers(rooms)) * 2 + 1, int(rng.integers(rooms)) * 2 + 1)]
    solid[way[0]] = False
    while way:
        y, x = way[-1]
        beside = [(y + 2 * dy, x + 2 * dx) for dx, dy in WAYS.tolist()]
        new = [(j, i) for j, i in beside if 0 < j < cells and 0 < i < cells and solid[j, i]]
        if not new:
            way.pop()
            continue
        j, i = new[rng.integers(len(new))]
        solid[j, i] = solid[(y + j) // 2, (x + i) // 2] = False
        way.append((j, i))
    y, x = np.indices(solid.shape)
    between = ((y % 2) != (x % 2)) & (y > 0) & (y < cells - 1) & (x > 0) & (x < cells - 1)
    solid &= ~(between & (rng.random(solid.shape) < loops))
    maze = np.where(solid, -1, rng.integers(colors, size=solid.shape))
    maze.flags.writeable = False  # it is shared
    return maze
