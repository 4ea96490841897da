"""Rows of the tables of `bench/mind.py`, kept part by part in one JSON file each, so that nothing is measured twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor

from innerworld.agent import Agent
from innerworld.agent.configurator.tasks import Task
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.evaluate.control import GoalWorlds, Tasks, play, wilson
from innerworld.types import Obs
from innerworld.world import WorldModel

PART = 10  # goals that are tried together, and kept as soon as they are done

Found = dict[str, list[float]]
"""What was measured, by name: of each goal, or of each action."""


class Cells:
    """The files of a folder. With `only_show` nothing is measured: a row has what there is of it."""

    def __init__(self, folder: Path, only_show: bool) -> None:
        self.folder, self.only_show = folder, only_show

    def get(
        self, name: str, settings: Mapping[str, Any], n: int, measure: Callable[[int, int], Found], part: int = PART
    ) -> Found:
        """Measure from 0 to before `n`, `part` at a time, but what was measured before. Raises `UserError` for a file
        that was begun with other settings."""
        file = self.folder / f"{name}.json"
        told = json.loads(json.dumps(dict(settings)))
        cell = json.loads(file.read_text()) if file.exists() else {"settings": told, "done": 0, "found": {}}
        if cell["settings"] != told:
            raise UserError(f"{file} was begun with {cell['settings']}, not {told}: give another folder")
        while cell["done"] < n and not self.only_show:
            stop = min(n, cell["done"] + part)
            for key, values in measure(cell["done"], stop).items():
                cell["found"].setdefault(key, []).extend(float(value) for value in values)
            cell["done"] = stop
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, [json.dumps(cell).encode()])
            print(f"  {name}: {stop} of {n}", flush=True)
        return cell["found"]


class Plays(Protocol):
    """What an agent must have to play goals."""

    model: WorldModel
    action: int
    plan_ms: list[float]

    @property
    def closest(self) -> Tensor: ...

    def begin(self, obs: Obs, task: Task | Obs, seed: int = 0, first: int = 0, via: Sequence[Obs] = ()) -> None: ...
    def act(self, obs: Obs) -> Tensor: ...
    def keep(self, rows: Tensor) -> None: ...


class Watched:
    """An agent, and what it spends: CPU milliseconds an action of one world, and effort, the sum of the actions' mean
    squares, of each goal."""

    def __init__(self, mind: Plays) -> None:
        self.mind, self.model, self.action, self.plan_ms = mind, mind.model, mind.action, mind.plan_ms
        self.ms: list[float] = []

    @property
    def closest(self) -> Tensor:
        return self.mind.closest

    def begin(self, obs: Obs, task: Task | Obs, seed: int = 0, first: int = 0, via: Sequence[Obs] = ()) -> None:
        self.mind.begin(obs, task, seed, first, via)
        b = len(next(iter(obs.values())))
        self.rows, self.effort, self.instead = np.arange(b), np.zeros(b), np.zeros(b)

    def act(self, obs: Obs) -> Tensor:
        began = time.process_time()
        action = self.mind.act(obs)
        self.ms.append(1000 * (time.process_time() - began) / len(action))
        self.effort[self.rows] += action.square().mean(dim=1).numpy()
        if isinstance(self.mind, Agent):
            self.instead[self.rows] += self.mind.degraded.numpy()
        return action

    def keep(self, rows: Tensor) -> None:
        self.mind.keep(rows)
        self.rows = self.rows[rows.numpy()]


def by_playing(
    worlds: Callable[[int], GoalWorlds],
    tasks: Tasks,
    make: Callable[[int], Plays],
    budget: int,
    seed: int,
    also: Callable[[np.ndarray], Found] = lambda path: {},
) -> Callable[[int, int], Found]:
    """Measures goals by playing them with a fresh mind, which is told the number of the first. `also` measures the
    paths `n t k` of the states."""

    def measure(start: int, stop: int) -> Found:
        mind = Watched(make(start))
        played = play(worlds(stop - start), tasks.cut(start, stop), cast(Agent, mind), budget, seed, first=start)
        n = stop - start
        found: Found = {
            "success": played.success.tolist(),
            "steps": played.steps.tolist(),
            "cpu_s": [played.cpu_s / n] * n,
            "effort": mind.effort.tolist(),
            "instead": mind.instead.tolist(),  # actions that were safe ones, for want of a plan
            "ms": mind.ms,
        }
        return found | also(played.path)

    return measure


def pooled(each_run: Sequence[Found]) -> Found:
    """All runs as one."""
    keys = {key for found in each_run for key in found}
    return {key: [value for found in each_run for value in found.get(key, [])] for key in sorted(keys)}


def rate(hits: Sequence[float]) -> str:
    """A share with its 95 % Wilson interval, and of how many."""
    low, high = wilson(sum(hits), len(hits))
    return f"{np.mean(hits):.0%} ({low:.0%} to {high:.0%}) of {len(hits)}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print it as Markdown."""
    print(f"\n| {' | '.join(columns)} |\n|---|{'--:|' * (len(columns) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)
