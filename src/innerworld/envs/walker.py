"""`Walker`: goes about in the mazes of `revisit`, and then returns to where it has long not been."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from innerworld.envs.revisit import FORWARD, LEFT, RIGHT, TIME, WAY, WAYS, RevisitVector, X, Y
from innerworld.errors import UserError

Cell = tuple[int, int]  # x y


class Walker:
    """A policy for data to learn from, and to be asked about: it knows the maze, who watches does not.

    Until time `context` it goes, by the shortest way, to one tile after another where it has not been. From then on
    its goals are tiles that were last in view before the context's end and at least `lag` steps ago, as long as there
    are such. `share` of its steps are any action instead, so that no plan is to be guessed.
    """

    def __init__(self, worlds: RevisitVector, context: int, lag: int = 0, share: float = 0.0) -> None:
        steps = worlds.config.steps
        if not (0 < context < steps and 0 <= lag < steps and 0 <= share < 1):
            raise UserError(
                f"walker: context={context} and lag={lag} must lie within the {steps} steps, share={share} in [0, 1)"
            )
        self.worlds, self.context, self.lag, self.share = worlds, context, lag, share
        self._plans: list[deque[Cell]] = [deque() for _ in range(worlds.num_envs)]
        self._seen = np.zeros((worlds.num_envs, *[worlds.config.cells] * 2), np.int64)  # n y x   last time in view; -1
        self._been = np.zeros_like(self._seen, bool)

    def begin(self, started: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Episodes begin where `started` is true: forget there what was before."""
        for row in np.flatnonzero(started):
            self._plans[row].clear()
            self._seen[row], self._been[row] = -1, False

    def __call__(self, obs: dict[str, NDArray[np.floating]], rng: np.random.Generator) -> NDArray[np.float32]:
        """Actions, one-hot `n 3`."""
        state = self.worlds.state
        window = self.worlds.window(state)
        choice = np.array([self._choose(row, state[row], window[row], rng) for row in range(len(state))])
        stray = rng.random(len(choice)) < self.share
        choice = np.where(stray, rng.integers(3, size=len(choice)), choice)
        return np.eye(3, dtype=np.float32)[choice]

    def _choose(self, row: int, state: NDArray[np.float32], window: NDArray[np.int64], rng: np.random.Generator) -> int:
        time, here = int(state[TIME]), (int(state[X]), int(state[Y]))
        self._been[row, here[1], here[0]] = True
        if time <= self.context:
            inside = window[self.worlds.inside(window)]
            self._seen[row, inside[:, 1], inside[:, 0]] = time
        maze, plan = self.worlds.maze(state[-1]), self._plans[row]
        if plan and plan[0] == here:
            plan.popleft()
        if not plan or abs(plan[0][0] - here[0]) + abs(plan[0][1] - here[1]) != 1:  # arrived, or strayed from the way
            plan.clear()
            plan.extend(shortest(maze, here, self._goal(row, maze, here, time, rng)))
        return _toward(here, int(state[WAY]), plan[0]) if plan else RIGHT

    def _goal(self, row: int, maze: NDArray[np.int64], here: Cell, time: int, rng: np.random.Generator) -> Cell:
        tiles, seen = maze >= 0, self._seen[row]
        if time < self.context:
            wanted = tiles & ~self._been[row]
        else:
            wanted = tiles & (seen >= 0) & (time - seen >= self.lag)
        wanted[here[1], here[0]] = False
        if not wanted.any():
            wanted = tiles.copy()
            wanted[here[1], here[0]] = False
        among = np.argwhere(wanted)
        y, x = among[rng.integers(len(among))]
        return int(x), int(y)


def shortest(maze: NDArray[np.int64], start: Cell, goal: Cell) -> list[Cell]:
    """The tiles of a shortest way, `start` left out; none where there is no way."""
    before: dict[Cell, Cell] = {goal: goal}
    todo = deque([goal])
    while todo and start not in before:
        x, y = todo.popleft()
        for dx, dy in WAYS.tolist():
            there = (x + dx, y + dy)
            if there not in before and maze[there[1], there[0]] >= 0:
                before[there] = (x, y)
                todo.append(there)
    way = []
    at = start
    while at != goal and at in before:
        at = before[at]
        way.append(at)
    return way


def _toward(here: Cell, way: int, there: Cell) -> int:
    """The next action of who wants to step to a tile beside."""
    wanted = WAYS.tolist().index([there[0] - here[0], there[1] - here[1]])
    return {0: FORWARD, 1: RIGHT, 2: RIGHT, 3: LEFT}[(wanted - way) % 4]
