"""A jepa of two rooms, goals in them, and what agents around it are furnished with: for `bench/mind.py`'s table C."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from guardrail import behind, discs, read_off
from mind_cells import Cells

from innerworld.agent import (
    Agent,
    Cost,
    Guardrail,
    ShortTermMemory,
    TrainableCritic,
    TrainableCriticConfig,
)
from innerworld.agent.cost.readout import Reading, Readout
from innerworld.agent.cost.regions import Disc
from innerworld.agent.cost.terms import Forbidden, GoalEnergy
from innerworld.agent.modules import Actor, Configurator, Foresight, Judge, Perception
from innerworld.envs.two_rooms import TwoRoomsVector
from innerworld.errors import UserError
from innerworld.evaluate.control import Tasks, play
from innerworld.plan import ICEM
from innerworld.recipes.goals import draw_goals, goal_worlds, worlds_of
from innerworld.recipes.lesson import episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import two_rooms
from innerworld.world import WorldModel

SEARCH = ICEM(
    horizon=32, samples=64, populations=4, rounds=3, elites=8, init_std=1.0, min_std=0.1, noise_beta=2.0, momentum=0.0
)  # an eighth of the demo's, so that there is something to gain
AGAIN = 2  # rounds of later plans
LESSONS = 40  # goals from whose pursuit a critic learns
MOST = 100  # goals, however few are tried: so the first ones are always the same


class Lab:
    """A run's model, the goals that all rows share, and agents around it that differ in one module."""

    def __init__(self, cells: Cells, run: Path, flags: Namespace) -> None:
        self.folder, self.run, self.flags = cells.folder, run, flags
        self.name = f"{run.parent.name}-{run.name}"
        self.model, self.taught, self.store = load_learner(run)
        self.model.eval()
        self.seed = self.taught.split_seed
        self.learn, self.held_out = episodes(self.taught, self.store)
        self.control = two_rooms(self.seed).control
        worlds = worlds_of("two_rooms", MOST, 64)
        if not isinstance(worlds, TwoRoomsVector) or self.store.meta.about.env != "two_rooms":
            raise UserError(f"{run} was not taught in two_rooms: the conditions of this table are made of those")
        self.worlds = worlds
        self.tasks = draw_goals(self.store, self.held_out, worlds, self.seed)
        self._readings: dict[Path, tuple[Readout, float]] = {}
        self._behind: Tasks | None = None

    def mind(
        self,
        model: WorldModel | None = None,
        horizon: int = SEARCH.horizon,
        *,
        power: float = 0.05,
        deadline_s: float | None = None,
        execute: int | None = None,
        perception: Perception | None = None,
        memory: ShortTermMemory | None = None,
        foresight: Foresight | None = None,
        cost: Judge | None = None,
        actor: Actor | None = None,
        configurator: Configurator | None = None,
    ) -> Agent:
        first = SEARCH.model_copy(update={"horizon": horizon})
        changed = {"power": power, "deadline_s": deadline_s, "execute": execute or self.control.agent.execute}
        return Agent(
            model or self.model,
            first,
            self.control.agent.model_copy(update=changed),
            first.model_copy(update={"rounds": AGAIN}),
            perception=perception,
            memory=memory,
            foresight=foresight,
            cost=cost,
            actor=actor,
            configurator=configurator,
        )

    # ------------------------------------------------------------------ a critic

    def critic(self, horizon: int) -> TrainableCritic:
        """Taught by the episodes of an agent that plans so far ahead, on goals from episodes that the model knows."""
        folder = self.folder / "critics" / f"{self.name}-{horizon}"
        critic = TrainableCritic(TrainableCriticConfig(goals=True, seed=self.seed))
        if folder.exists():
            critic.load(folder)
            return critic
        worlds, memory = goal_worlds(self.store, LESSONS), ShortTermMemory()
        tasks = draw_goals(self.store, self.learn, worlds, self.seed + 1)
        play(worlds, tasks, self.mind(horizon=horizon, memory=memory), self.control.budget, self.seed + 1)
        told = critic.learn(memory)
        print("  critic: " + ", ".join(f"{name} {value:.3g}" for name, value in told.items()), flush=True)
        critic.save(folder)
        return critic

    # ------------------------------------------------------------------ a forbidden disc in each room

    def reading(self, run: Path) -> tuple[Readout, float]:
        """What a belief says about the place, and 99 % of its errors a few imagined steps ahead, pixels."""
        if run not in self._readings:
            file = self.folder / "readouts" / f"{run.parent.name}-{run.name}.safetensors"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                readout, margin = read_off(*load_learner(run), self.flags.rows)
                file.with_suffix(".txt").write_text(str(margin))
                readout.save(file)
            self._readings[run] = Readout.load(file), float(file.with_suffix(".txt").read_text())
        return self._readings[run]

    def guarded(self, reading: Reading, margin: float = 0.0, worst: bool = False) -> Cost:
        """No plan may enter the discs, nor a margin around them."""
        rails = [
            Guardrail(Forbidden(disc, margin, name=f"disc {i}"), 0)
            for i, disc in enumerate(discs(self.worlds, reading))
        ]
        return Cost((GoalEnergy(),), tuple(rails), over="worst" if worst else "mean")

    def behind(self) -> Tasks:
        """Goals behind a disc."""
        if self._behind is None:
            self._behind = behind(self.worlds, list(self._discs()), self.seed)
        return self._behind

    def entered(self, path: np.ndarray) -> list[float]:
        """Which of the paths `n t 2` came into a disc."""
        away = [np.linalg.norm(path - np.array(disc.centre), axis=2) - disc.radius for disc in self._discs()]
        return (np.min(away, axis=0) < 0).any(axis=1).tolist()

    def _discs(self) -> Sequence[Disc]:
        return discs(self.worlds, self.reading(self.run)[0])
