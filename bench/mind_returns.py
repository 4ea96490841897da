"""Table B of `bench/mind.py`: returns of whole episodes under a policy, a planner, both, and chance."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from mind_cells import Cells, Found, pooled, table
from torch import Tensor

from innerworld import checkpoint, envs
from innerworld.agent import Agent, AgentConfig, Cost, Searcher
from innerworld.agent.actor.habit import Reflex, TwoModes, TwoModesConfig
from innerworld.agent.configurator.tasks import Maximise
from innerworld.agent.cost.terms import Reward
from innerworld.agent.modules import Actor
from innerworld.data.lives import Lives, Over
from innerworld.data.stepping import Sensors
from innerworld.errors import UserError
from innerworld.evaluate.returns import Acts, AtRandom, earn, summary
from innerworld.models.dreamer import Dreamer
from innerworld.plan import ICEM
from innerworld.recipes.acting import Acting, check_acts
from innerworld.recipes.online import APART
from innerworld.recipes.practice import read_practice
from innerworld.types import Spec
from innerworld.world import WorldModel

ROUNDS, AGAIN = 3, 2  # of an episode's first search, and of all others, which begin warm


@dataclass(frozen=True)
class Worth:
    """The value that a Dreamer has learnt, as a critic of costs: what is not earned from where a plan ends."""

    model: Dreamer

    def value(self, features: Tensor, goal: Tensor | None = None) -> Tensor:
        return -self.model.actor_critic.critic(features).mean()


class Thinking:
    """An agent that maximises reward, as whoever counts returns wants it."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self.agent, self.seed = agent, seed

    def act(self, obs: Sensors, first: np.ndarray) -> np.ndarray:
        seen = {name: torch.from_numpy(np.ascontiguousarray(obs[name])) for name in self.agent.model.spec.obs}
        if first.all():
            self.agent.begin(seen, Maximise(), self.seed)
        elif first.any():
            raise UserError("it begins episodes in all worlds together: play one world")
        return self.agent.act(seen).numpy()


class Timed:
    """Whoever acts, and the CPU milliseconds that it takes."""

    def __init__(self, inner: Acts) -> None:
        self.inner = inner
        self.ms: list[float] = []

    def act(self, obs: Sensors, first: np.ndarray) -> np.ndarray:
        began = time.process_time()
        action = self.inner.act(obs, first)
        self.ms.append(1000 * (time.process_time() - began))
        return action


def returns(cells: Cells, runs: Sequence[Path], flags: Namespace) -> None:
    """Measure every run, and print a table for each world over all of its seeds."""
    found: dict[str, list[dict[str, Found]]] = {}
    for run in runs:
        world, results = one_run(cells, run, flags)
        found.setdefault(world, []).append(results)
    for world, each_run in found.items():
        print(f"\n{world}, {len(each_run)} seeds")
        show(each_run)


def one_run(cells: Cells, run: Path, flags: Namespace) -> tuple[str, dict[str, Found]]:
    practice = read_practice(run)
    model = checkpoint.load(run, best=(run / "best.json").exists(), kind=WorldModel).eval()
    seed, results = practice.train.seed, dict[str, Found]()
    search = ICEM(horizon=flags.horizon, samples=flags.samples, rounds=ROUNDS, elites=max(2, flags.samples // 8))
    settings = {"seed": seed, "search": search.model_dump(mode="json"), "again": AGAIN}
    with closing(practice.online.make(1)) as worlds:
        spec = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
        for who, make in players(model, spec, search, seed).items():
            measure = living(worlds, spec, make, seed + APART + 1)
            name = f"returns/{run.name}/{who.replace(', ', '-').replace(' ', '_')}"
            results[who] = cells.get(name, settings, flags.episodes, measure, part=1)
    return practice.online.env, results


def players(model: WorldModel, spec: Spec, search: ICEM, seed: int) -> Mapping[str, Callable[[], Acts]]:
    """Who plays, by name."""
    again, told = search.model_copy(update={"rounds": AGAIN}), check_acts(model)[1]
    worth = Worth(model) if isinstance(model, Dreamer) else None

    def thinking(critic: Worth | None, actor: Actor | None = None) -> Acts:
        cost = Cost((Reward(),), critic=critic)
        return Thinking(Agent(model, search, AgentConfig(strict=True), again, cost=cost, actor=actor), seed)

    def both() -> Acts:
        """Every search begins with what the policy dreams of doing."""
        always = TwoModesConfig(uncertainty=0.0, warm=True)
        reflex = Reflex(told.policy, model.spec)
        return thinking(worth, TwoModes(reflex, Searcher(search, model.spec, again), always))

    found: dict[str, Callable[[], Acts]] = {
        "random": lambda: AtRandom(spec, seed),
        "policy alone": lambda: Acting(model, False),
        "planner alone": lambda: thinking(None),
    }
    if worth is not None:
        found["planner, learnt value where a plan ends"] = lambda: thinking(worth)
        found["agent, both modes: the planner improves the policy's plan"] = both
    return found


def living(worlds: VectorEnv, spec: Spec, make: Callable[[], Acts], seed: int) -> Callable[[int, int], Found]:
    """Measures episodes one by one; number k begins alike for everybody."""

    def measure(start: int, stop: int) -> Found:
        timed = Timed(make())
        began = time.process_time()
        [over] = earn(timed, Lives(worlds, spec, seed, begun=start), 1)
        cpu_s = time.process_time() - began
        return {"total": [over.total], "length": [over.length], "cpu_s": [cpu_s], "ms": timed.ms}

    return measure


def show(each_run: Sequence[dict[str, Found]]) -> None:
    columns = ("who", "return", "95 % interval", "episodes", "CPU s an episode", "CPU ms an action")
    rows = []
    for who in dict.fromkeys(name for found in each_run for name in found):
        one = pooled([found[who] for found in each_run if who in found])
        if not one.get("total"):
            rows.append((who, *["not measured"] * (len(columns) - 1)))
            continue
        lived = [
            Over(k, int(length), total)
            for k, (length, total) in enumerate(zip(one["length"], one["total"], strict=True))
        ]
        told = summary(lived)
        interval = f"{told['return_low']:.3g} to {told['return_high']:.3g}" if len(lived) > 1 else "-"
        spent = f"{np.mean(one['cpu_s']):.1f}", f"{np.median(one['ms']):.1f}"
        rows.append((who, f"{told['return']:.3g}", interval, f"{len(lived)}", *spent))
    table(columns, rows)
