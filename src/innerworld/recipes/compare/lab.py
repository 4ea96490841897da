"""What a question may have made: worlds, tasks, agents and models beside the one that is asked."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from gymnasium.vector import VectorEnv

from innerworld.data import Store, spec_of_skip
from innerworld.disk import write_atomic
from innerworld.envs import make
from innerworld.envs.unseen import unseen
from innerworld.errors import UserError
from innerworld.evaluate.control import GoalWorlds, Tasks
from innerworld.evaluate.exam import Lab
from innerworld.recipes.compare.plan import Cell, Plan
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle, picture_size
from innerworld.recipes.surprise import untaught
from innerworld.world import WorldModel

W = TypeVar("W")


@dataclass(frozen=True)
class Made:
    """A lab, and how to close what was made in it."""

    lab: Lab
    close: Callable[[], None]


def lab(home: Path, plan: Plan, cell: Cell, model: WorldModel, store: Store, held_out: np.ndarray) -> Made:
    """The lab of one run. What it makes is closed with it."""
    exam, skip = plan.terms.exam, cell.entry.teaching.frame_skip
    control = plan.terms.control.model_copy(update={"episodes": exam.goals, "budget": exam.budget})
    open_ones, env = ExitStack(), store.meta.about.env or ""

    def kept(worlds: W) -> W:
        if isinstance(worlds, VectorEnv):
            open_ones.callback(worlds.close)
        return worlds

    def tasks(worlds: GoalWorlds) -> Tasks:
        return draw_goals(store, held_out, worlds, cell.seed, control)

    def worlds(n: int) -> VectorEnv:
        if not env:
            raise UserError("the data is a log of no world that could be made")
        return kept(make(env, n, picture_size(store.spec)))

    def closing_too(makes: Callable[[int], VectorEnv]) -> Callable[[int], VectorEnv]:
        return lambda n: kept(makes(n))

    def once(name: str, find: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Two workers may find it at the same time; they find the same."""
        path = home / "once" / f"{cell.world.folder}-{cell.seed}" / f"{name}-{skip}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            mine = path.with_suffix(f".{uuid.uuid4().hex}")
            write_atomic(mine, [json.dumps(find()).encode()])
            mine.replace(path)
        return json.loads(path.read_text(encoding="utf-8"))

    made = Lab(
        untaught=lambda: untaught(model, cell.seed),
        agent=lambda its: agent(its, control, skip),
        goal_worlds=lambda n: kept(goal_worlds(store, n)),
        tasks=tasks,
        oracle=lambda its: oracle(its, spec_of_skip(store.spec, skip), skip),
        worlds=worlds,
        once=once,
        varied={name: closing_too(makes) for name, makes in unseen(env, picture_size(store.spec)).items()},
    )
    return Made(made, open_ones.close)
