"""Does it get there? Goal-reaching on episodes that are fixed beforehand, beside the oracle and the random floor.

Fair by construction: starts and goals come from held-out episodes and never begin solved, the same episodes are given
to everybody, every one of them counts, and success is what the world says of states, not that an episode ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from innerworld.agent import Agent
from innerworld.data import Policy, Remembers, Store
from innerworld.errors import UserError
from innerworld.types import Clip, Obs, each

TRIES = 1000  # draws of a start and a goal before we say that the data holds none


@runtime_checkable
class GoalWorlds(Protocol):
    """A vector environment that can begin at a state and say whether a state is a goal."""

    num_envs: int

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]: ...
    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict]: ...
    def success(self, state: NDArray[Any], goal: NDArray[Any]) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class Tasks:
    """n episodes to be played: where each begins and the picture of where it should end."""

    start: NDArray[np.float32]  # n k   the `state` sensor
    goal: NDArray[np.float32]  # n k
    start_obs: Obs  # n ...
    goal_obs: Obs  # n ...
    far: NDArray[np.bool_]  # n        start and goal lie in different rooms (or whatever `far` meant)
    shown: NDArray[np.float32] | None = None  # n o a   the actions of the demonstration from start to goal
    via_obs: tuple[Obs, ...] = ()  # goals on the way, each n ...

    def first(self, n: int) -> Tasks:
        """The first n of them."""
        return self.cut(0, n)

    def cut(self, start: int, stop: int) -> Tasks:
        """Those from `start` to before `stop`."""
        some = slice(start, stop)
        start_obs, goal_obs, *via = (
            each(lambda value: value[some], obs) for obs in (self.start_obs, self.goal_obs, *self.via_obs)
        )
        shown = None if self.shown is None else self.shown[some]
        return Tasks(self.start[some], self.goal[some], start_obs, goal_obs, self.far[some], shown, tuple(via))


@dataclass(frozen=True)
class Played:
    """What came of the episodes."""

    success: NDArray[np.bool_]  # n
    steps: NDArray[np.int64]  # n       until success, or the budget
    path: NDArray[np.float32]  # n t+1 k   states; stands still once solved
    cpu_s: float  # of the whole evaluation, all threads
    plan_ms: float  # wall time of a plan, per world, mean; 0 without planning
    closest: NDArray[np.float32] | None = None  # n   `Agent.closest` when it last looked; None without an agent


def draw_tasks(
    store: Store,
    episodes: NDArray[np.int64],
    n: int,
    worlds: GoalWorlds,
    seed: int = 0,
    far: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]] | None = None,
    offset: int | None = None,
    via: int = 0,
) -> Tasks:
    """Starts and goals from frames of held-out `episodes`, none of them solved beforehand.

    They come from two different episodes, and with `far` every other pair must be far. Or, with an `offset`, from one
    episode, so many steps apart, as they happen to be: then the way is known to exist, and the tasks hold the actions
    that went it, and `via` of its frames, evenly apart, as goals on the way. With an offset of 25 and a budget of 50
    steps this is how LeWorldModel and DINO-WM are compared in stable-worldmodel. Raises `UserError` when the store has
    no `state` sensor or no such pair is found.
    """
    if "state" not in store.spec.obs:
        raise UserError("goal-reaching needs a `state` sensor in the store, to begin there and to judge success")
    rng = np.random.default_rng([seed, 20])
    draw = _two_episodes(store, episodes) if offset is None else _one_episode(store, episodes, offset, via)
    drawn = []
    for k in range(n):
        for _ in range(TRIES):
            pair = draw(rng)
            a, b = (frame["state"].numpy()[None] for frame in (pair.frames[0], pair.frames[-1]))
            apart = bool(far(a, b)[0]) if far else False
            suits = far is None or offset is not None or apart == (k % 2 == 0)
            if suits and not worlds.success(a, b)[0]:
                drawn.append((pair, apart))
                break
        else:
            raise UserError(f"no start and goal that are apart found in {TRIES} draws: collect more varied episodes")
    pairs, apart = zip(*drawn, strict=True)
    start_obs, *via_obs, goal_obs = (
        {name: torch.stack([frame[name] for frame in frames]) for name in store.spec.obs}
        for frames in zip(*(pair.frames for pair in pairs), strict=True)
    )
    shown = None if offset is None else np.stack([pair.shown for pair in pairs])
    start, goal = start_obs["state"].numpy(), goal_obs["state"].numpy()
    return Tasks(start, goal, start_obs, goal_obs, np.array(apart), shown, tuple(via_obs))


def play(
    worlds: GoalWorlds,
    tasks: Tasks,
    agent: Agent,
    budget: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    first: int = 0,
) -> Played:
    """Let the agent play every task for at most `budget` steps; a world that is solved or has ended is left in peace.

    `worlds` holds as many worlds as there are tasks. `progress` is told the steps done. `first` is the number of the
    first task among all that share `seed`, when others play the rest (see `joined`). The budget counts steps of the
    world, also where the agent does them in blocks.
    """
    goal, *via = ({name: obs[name] for name in agent.model.spec.obs} for obs in (tasks.goal_obs, *tasks.via_obs))
    obs, record = _begin(worlds, tasks, budget)
    agent.plan_ms.clear()
    agent.begin(_see(obs, agent), goal, seed, first, via)
    live = np.arange(worlds.num_envs)
    closest = np.ones(worlds.num_envs, np.float32)
    began = time.process_time()
    for t in range(budget):
        actions = np.zeros((worlds.num_envs, agent.action), np.float32)
        actions[live] = agent.act(_see(obs, agent, live)).numpy()
        closest[live] = agent.closest.numpy()
        obs = record.step(actions, t)
        still = np.flatnonzero(~record.over[live])
        if len(still) < len(live):
            live = live[still]
            agent.keep(torch.from_numpy(still))
        if progress:
            progress(t + 1)
        if not len(live):
            break
    return record.result(time.process_time() - began, float(np.mean(agent.plan_ms)), closest)


def play_policy(
    worlds: GoalWorlds,
    tasks: Tasks,
    policy: Policy,
    budget: int,
    seed: int = 0,
) -> Played:
    """The same episodes under a policy that knows no goal: the random floor, measured and never assumed."""
    rng = np.random.default_rng([seed, 21])
    obs, record = _begin(worlds, tasks, budget)
    act = policy  # the next line narrows its type to something that cannot be called
    if isinstance(policy, Remembers):
        policy.begin(np.ones(worlds.num_envs, bool), rng)
    began = time.process_time()
    for t in range(budget):
        obs = record.step(act(obs, rng), t)
    return record.result(time.process_time() - began, 0.0)


def play_shown(worlds: GoalWorlds, tasks: Tasks, budget: int) -> Played:
    """The same episodes with the demonstrations' own actions: what these starts, this budget and this criterion allow.

    It is no certain ceiling: a state may not hold everything (a block's speed), so that the replay goes astray.
    Raises `UserError` for tasks that were not drawn with an `offset`.
    """
    if tasks.shown is None:
        raise UserError("these tasks hold no demonstrated actions: draw start and goal from one episode (an offset)")
    _, record = _begin(worlds, tasks, budget)
    began = time.process_time()
    for t in range(min(budget, tasks.shown.shape[1])):
        record.step(tasks.shown[:, t], t)
    return record.result(time.process_time() - began, 0.0)


def joined(parts: Sequence[Played]) -> Played:
    """What came of all episodes, from what came of some each. Where all were solved early, the path stands still."""
    longest = max(part.path.shape[1] for part in parts)
    paths = [np.pad(part.path, ((0, 0), (0, longest - part.path.shape[1]), (0, 0)), mode="edge") for part in parts]
    n = [len(part.success) for part in parts]
    closest = [part.closest for part in parts if part.closest is not None]
    return Played(
        np.concatenate([part.success for part in parts]),
        np.concatenate([part.steps for part in parts]),
        np.concatenate(paths),
        sum(part.cpu_s for part in parts),
        float(np.average([part.plan_ms for part in parts], weights=n)),
        np.concatenate(closest) if len(closest) == len(parts) else None,
    )


def summary(played: Played, far: NDArray[np.bool_]) -> dict[str, float]:
    """Success rate with its 95 % Wilson interval, per kind of episode, and what it cost."""
    n, hits = len(played.success), int(played.success.sum())
    low, high = wilson(hits, n)
    found = {"success_rate": hits / n, "success_low": low, "success_high": high, "episodes": float(n)}
    for name, rows in (("far", far), ("near", ~far)):
        if rows.any():
            found[f"success_rate_{name}"] = float(played.success[rows].mean())
    found["steps_mean"] = float(played.steps.mean())
    found["cpu_s_per_episode"] = played.cpu_s / n
    found["plan_ms"] = played.plan_ms
    return found


def wilson(hits: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a rate; unlike the normal one it stays inside [0, 1] at the ends."""
    rate = hits / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


class _Record:
    """Steps the worlds, holds solved and ended ones still and keeps what happened.

    Where a world ends without success its task is lost, whatever is seen there afterwards: another episode's success
    would count for this one. That time is up ends no task: all have the budget.
    """

    def __init__(self, worlds: GoalWorlds, tasks: Tasks, budget: int) -> None:
        self.worlds, self.tasks = worlds, tasks
        self.success = np.zeros(len(tasks.start), bool)
        self.over = np.zeros(len(tasks.start), bool)
        self.steps = np.full(len(tasks.start), budget)
        self.path = [tasks.start]

    def step(self, actions: NDArray[np.float32], t: int) -> dict[str, Any]:
        obs, _, terminated, _, _ = self.worlds.step(actions)
        self.path.append(np.where(self.over[:, None], self.path[-1], obs["state"]))
        reached = self.worlds.success(obs["state"], self.tasks.goal) & ~self.over
        self.steps[reached] = t + 1
        self.success |= reached
        self.over |= reached | np.asarray(terminated, bool)
        return obs

    def result(self, cpu_s: float, plan_ms: float, closest: NDArray[np.float32] | None = None) -> Played:
        return Played(self.success, self.steps, np.stack(self.path, axis=1), cpu_s, plan_ms, closest)


def _begin(worlds: GoalWorlds, tasks: Tasks, budget: int) -> tuple[dict[str, Any], _Record]:
    if worlds.num_envs != len(tasks.start):
        raise UserError(f"{len(tasks.start)} tasks need as many worlds, there are {worlds.num_envs}")
    if budget < 1:
        raise UserError(f"a budget of {budget} steps is too small to do anything: give at least 1")
    if isinstance(worlds, VectorEnv) and worlds.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
        raise UserError(
            "a world that begins anew by itself would play a task twice: make it with AutoresetMode.DISABLED"
        )
    obs, _ = worlds.reset(seed=0, options={"state": tasks.start})
    return obs, _Record(worlds, tasks, budget)


def _see(obs: dict[str, NDArray[Any]], agent: Agent, rows: NDArray[np.int64] | slice = slice(None)) -> Obs:
    return {name: torch.from_numpy(obs[name][rows]) for name in agent.model.spec.obs}


@dataclass(frozen=True)
class _Pair:
    """A start, frames on the way, and a goal; the actions that led there, where they are known."""

    frames: list[Obs]
    shown: NDArray[np.float32] | None = None  # o a


def _two_episodes(store: Store, episodes: NDArray[np.int64]) -> Callable[[np.random.Generator], _Pair]:
    if len(episodes) < 2:
        raise UserError(f"goal-reaching needs at least two held-out episodes, there are {len(episodes)}")

    def draw(rng: np.random.Generator) -> _Pair:
        clips = [store.episode(int(episode)) for episode in rng.choice(episodes, 2, replace=False)]
        return _Pair([_frame(clip, int(rng.integers(clip.length + 1))) for clip in clips])

    return draw


def _one_episode(
    store: Store, episodes: NDArray[np.int64], offset: int, via: int
) -> Callable[[np.random.Generator], _Pair]:
    if not 0 <= via < offset:
        raise UserError(f"an offset of {offset} steps has no room for {via} goals on the way")
    lengths = store.lengths[episodes]
    starts = np.maximum(lengths - offset + 1, 0)  # all of them are equally likely
    if not starts.any():
        raise UserError(
            f"no held-out episode is {offset} steps long, the longest of {len(episodes)} has "
            f"{lengths.max(initial=0)}: choose a smaller offset"
        )
    steps = np.linspace(0, offset, via + 2).round().astype(int)

    def draw(rng: np.random.Generator) -> _Pair:
        clip = store.episode(int(rng.choice(episodes, p=starts / starts.sum())))
        at = int(rng.integers(clip.length - offset + 1))
        return _Pair([_frame(clip, at + int(step)) for step in steps], clip.action[0, at : at + offset].numpy().copy())

    return draw


def _frame(clip: Clip, t: int) -> Obs:
    return each(lambda value: value[0], clip.at(t))
