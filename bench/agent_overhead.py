"""What do five more modules cost? The agent beside the bare planner: the same model, the same search, the same goals.

The bare loop believes, searches and does the first step, nothing else. Both take turns, decision by decision, so that a
busy machine slows both; their actions must be equal, bit for bit.

    python bench/agent_overhead.py --run runs/demo/jepa
    python bench/agent_overhead.py --run runs/demo/rssm --worlds 1 --decisions 20
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from innerworld import checkpoint
from innerworld.agent import Agent, AgentConfig, goal_cost
from innerworld.data import Store
from innerworld.plan import ICEM, cold, generators, shift
from innerworld.recipes.goals import draw_goals, goal_worlds
from innerworld.recipes.lesson import episodes, read
from innerworld.recipes.two_rooms import two_rooms
from innerworld.types import Obs, State
from innerworld.world import WorldModel

POWER = 0.05
SEARCHES = {
    "demo": ICEM.model_validate(two_rooms().control.planner),
    "small": ICEM(horizon=16, samples=128, rounds=4),
}


class Bare:
    """A model and a planner."""

    def __init__(self, model: WorldModel, planner: ICEM) -> None:
        self.model, self.planner = model, planner

    @torch.no_grad()
    def begin(self, obs: Obs, goal: Obs, seed: int) -> None:
        b = len(next(iter(obs.values())))
        self.state, self.goal = self.model.encode(obs), self.model.encode(goal)
        self.start, self.rng = cold(b, self.planner.horizon, self.model.spec.action), generators(seed, b)
        self.action: Tensor | None = None

    @torch.no_grad()
    def act(self, obs: Obs) -> Tensor:
        state = self.state if self.action is None else self._believe(obs)
        plan = self.planner(goal_cost(self.model, state, self.goal, "mean", POWER), self.start, self.rng)
        self.state, self.action, self.start = state, plan.actions[:, 0], shift(plan.actions)
        return self.action

    def _believe(self, obs: Obs) -> State:
        return self.model.encode(obs, self.state, self.action)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a trained run in a world with goals")
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--decisions", type=int, default=40)
    parser.add_argument("--search", choices=list(SEARCHES), default="demo")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lesson = read(args.run)
    store = Store.open(lesson.data)
    model = checkpoint.load(args.run)
    assert isinstance(model, WorldModel)
    model.eval()
    worlds = goal_worlds(store, args.worlds)
    tasks = draw_goals(store, episodes(lesson, store)[1], worlds, seed=0)
    start, goal = ({name: seen[name] for name in model.spec.obs} for seen in (tasks.start_obs, tasks.goal_obs))
    search = SEARCHES[args.search]
    bare, agent = Bare(model, search), Agent(model, search, AgentConfig(power=POWER, strict=True))
    bare.begin(start, goal, seed=0)
    agent.begin(start, goal, seed=0)
    seen, _ = worlds.reset(seed=0, options={"state": tasks.start})
    cpu: dict[str, list[float]] = {"bare planner": [], "agent": []}
    wall: dict[str, list[float]] = {"bare planner": [], "agent": []}
    for t in range(args.decisions):
        obs = {name: torch.from_numpy(seen[name]) for name in model.spec.obs}
        actions = {}
        turns = (("bare planner", bare), ("agent", agent)) if t % 2 else (("agent", agent), ("bare planner", bare))
        for name, mind in turns:
            began, cpu_began = time.perf_counter(), time.process_time()
            actions[name] = mind.act(obs)
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - cpu_began)
        assert torch.equal(actions["agent"], actions["bare planner"]), f"decision {t}: the actions differ"
        seen, *_ = worlds.step(actions["agent"].numpy())
    print(f"{args.run}: {args.worlds} worlds, {args.decisions} decisions, search {args.search}, one thread")
    print("actions are equal, bit for bit")
    for what, spent in (("CPU", cpu), ("wall", wall)):
        bare_ms, agent_ms = (1000 * float(np.median(spent[name][1:])) for name in ("bare planner", "agent"))
        total = sum(spent["agent"][1:]) / sum(spent["bare planner"][1:])
        print(
            f"  {what:4} median {bare_ms:7.2f} ms bare, {agent_ms:7.2f} ms agent: ratio {agent_ms / bare_ms:.3f} "
            f"(sums: {total:.3f})"
        )


if __name__ == "__main__":
    main()
