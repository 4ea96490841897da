"""Goal-reaching is fair: held-out episodes, nothing solved beforehand, everybody gets the same, all of them count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig
from innerworld.config import Config
from innerworld.data import POLICIES, Store, Uniform, collect
from innerworld.envs.two_rooms import TwoRoomsVector
from innerworld.errors import UserError
from innerworld.evaluate.control import (
    GoalWorlds,
    Played,
    draw_tasks,
    joined,
    play,
    play_policy,
    play_shown,
    summary,
    wilson,
)
from innerworld.models import Oracle
from innerworld.models.oracle import OracleConfig
from innerworld.plan import ICEM
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import WorldModel

LINE = Spec({"state": (1,), "lamp": (2,)}, 3, discrete=True)
LEFT, STAY, RIGHT = np.eye(3, dtype=np.float32)


class Line:
    """Worlds that are a line: go left, stay, go right, by one."""

    def __init__(self, n: int) -> None:
        self.num_envs = n
        self.actions: list[np.ndarray] = []

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        self.at = np.array((options or {})["state"], np.float32)
        return self._seen(), {}

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, dict]:
        self.actions.append(actions.copy())
        self.at = self.at + actions[:, 2:] - actions[:, :1]
        n = self.num_envs
        return self._seen(), np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), {}

    def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.abs(state - goal)[..., 0] < 0.5

    def _seen(self) -> dict[str, Any]:
        return {"state": self.at.copy(), "lamp": np.zeros((self.num_envs, 2), np.float32)}


class Walker(WorldModel):
    """Knows the line, and counts the rows that it looks at."""

    class Config(Config):
        """Nothing to set."""

    looks: list[int]

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        assert set(obs) == {"state"}, "it is shown a sensor that its spec does not name"
        self.looks.append(len(obs["state"]))
        return {"x": obs["state"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + action[:, 2:] - action[:, :1]}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["x"] - goal["x"]).square().sum(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


def walker(execute: int = 1, horizon: int = 3, via_steps: tuple[int, ...] = ()) -> Agent:
    model = Walker(Walker.Config(), LINE.only("state"))
    model.looks = []
    return Agent(
        model,
        ICEM(horizon=horizon, samples=128, rounds=2, elites=8),
        AgentConfig(execute=execute, via_steps=via_steps, strict=True),
    )


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten episodes of nine frames; frame t of episode e is at 100 e + t, so that each tells where it is from."""
    store = Store.create(tmp_path_factory.mktemp("line") / "data", LINE)
    for e in range(10):
        state = 100.0 * e + torch.arange(9.0)[None, :, None]
        action = torch.from_numpy(RIGHT).expand(1, 8, 3)
        store.add(
            Clip({"state": state, "lamp": state.expand(1, 9, 2)}, action, torch.zeros(1, 8), torch.zeros(1, 8) > 0)
        )
    return store


def near_tasks(store: Store, n: int, distance: int = 2):
    """Goals a few steps from the start, which may come from one episode here."""
    tasks = draw_tasks(store, np.arange(10), n, Line(n))
    goal = tasks.start + distance
    obs = tasks.goal_obs | {"state": torch.from_numpy(goal)}
    return type(tasks)(tasks.start, goal, tasks.start_obs, obs, tasks.far)


def test_starts_and_goals_come_from_two_held_out_episodes(line: Store) -> None:
    held_out = np.array([2, 5, 7])
    tasks = draw_tasks(line, held_out, 40, Line(40), seed=1)
    episodes = [state[:, 0] // 100 for state in (tasks.start, tasks.goal)]
    assert all(set(found) == {2, 5, 7} for found in episodes)
    assert (episodes[0] != episodes[1]).all()
    assert len(set(tasks.start[:, 0] % 100)) == 9  # any frame, the last one too
    np.testing.assert_array_equal(tasks.start, tasks.start_obs["state"].numpy())
    np.testing.assert_array_equal(tasks.goal, tasks.goal_obs["lamp"][:, :1].numpy())
    assert not tasks.far.any()


def test_tasks_are_drawn_from_their_seed(line: Store) -> None:
    one, again, other = (draw_tasks(line, np.arange(10), 8, Line(8), seed).start for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    more = draw_tasks(line, np.arange(10), 12, Line(12), seed=1).start
    assert np.array_equal(more[:8], one)


def test_no_task_begins_solved(line: Store) -> None:
    class Lax(Line):
        def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
            return np.abs(state - goal)[..., 0] % 100 < 6

    tasks = draw_tasks(line, np.arange(10), 50, Lax(50))
    assert not Lax(50).success(tasks.start, tasks.goal).any()

    class Solved(Line):
        def success(self, state: np.ndarray, goal: np.ndarray) -> np.ndarray:
            return np.ones(len(state), bool)

    with pytest.raises(UserError, match="no start and goal that are apart"):
        draw_tasks(line, np.arange(10), 2, Solved(2))


def test_every_other_pair_is_far(line: Store) -> None:
    far: Callable = lambda start, goal: np.abs(start - goal)[:, 0] > 450
    tasks = draw_tasks(line, np.arange(10), 9, Line(9), far=far)
    assert tasks.far.tolist() == [True, False] * 4 + [True]
    np.testing.assert_array_equal(far(tasks.start, tasks.goal), tasks.far)


def test_what_tasks_need_is_told(line: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two held-out episodes, there are 1"):
        draw_tasks(line, np.array([3]), 2, Line(2))
    blind = Store.create(tmp_path / "data", LINE.only("lamp"))
    with pytest.raises(UserError, match="`state` sensor"):
        draw_tasks(blind, np.arange(10), 2, Line(2))
    with pytest.raises(UserError, match="4 tasks need as many worlds, there are 3"):
        play(Line(3), near_tasks(line, 4), walker(), 5)


@pytest.mark.parametrize("execute", [1, 2])
def test_a_model_that_knows_its_world_arrives_by_choices(line: Store, execute: int) -> None:
    tasks = near_tasks(line, 6, distance=3)
    told: list[int] = []
    played = play(Line(6), tasks, walker(execute), budget=10, progress=told.append)
    assert played.success.all() and played.steps.tolist() == [3] * 6
    assert told == [1, 2, 3]  # nothing is left to do afterwards
    assert played.path.shape == (6, 4, 1) and played.plan_ms > 0
    np.testing.assert_array_equal(played.path[:, :, 0] - tasks.start, np.arange(4.0)[None].repeat(6, 0))


def test_a_solved_world_stays_put_and_is_looked_at_no_more(line: Store) -> None:
    tasks = near_tasks(line, 3)
    distance = np.array([[1.0], [4.0], [30.0]], np.float32)
    goal = (tasks.start + distance).astype(np.float32)
    tasks = type(tasks)(tasks.start, goal, tasks.start_obs, {"state": torch.from_numpy(goal)}, tasks.far)
    worlds, mind = Line(3), walker(horizon=4)
    played = play(worlds, tasks, mind, budget=6)
    assert played.success.tolist() == [True, True, False] and played.steps.tolist() == [1, 4, 6]
    assert mind.model.looks == [3, 3, *[2] * 3, *[1] * 2]  # pyright: ignore  # once each, the goal once
    moved = played.path[:, :, 0] - tasks.start
    assert moved[0].tolist() == [0, 1, 1, 1, 1, 1, 1] and moved[1].tolist() == [0, 1, 2, 3, 4, 4, 4]
    assert all(not actions[0].any() for actions in worlds.actions[1:])


def test_worlds_do_not_depend_on_each_other(line: Store) -> None:
    """The path of world 0 is the same alone and in company."""
    tasks = near_tasks(line, 4, distance=5)
    alone = type(tasks)(
        tasks.start[:1],
        tasks.goal[:1],
        {name: value[:1] for name, value in tasks.start_obs.items()},
        {name: value[:1] for name, value in tasks.goal_obs.items()},
        tasks.far[:1],
    )
    company, solo = play(Line(4), tasks, walker(), 8, seed=3), play(Line(1), alone, walker(), 8, seed=3)
    t = solo.path.shape[1]
    np.testing.assert_array_equal(company.path[:1, :t], solo.path)


def test_the_floor_plays_the_same_tasks(line: Store) -> None:
    tasks = near_tasks(line, 200, distance=1)
    one, again, other = (play_policy(Line(200), tasks, Uniform(LINE), 10, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.path[:, 0], tasks.start)
    assert np.array_equal(one.path, again.path) and not np.array_equal(one.path, other.path)
    assert one.path.shape == (200, 11, 1) and one.plan_ms == 0
    # A lazy random walk is at +1 within 10 steps with probability 0.707 (counted over all of its 3^10 ways).
    assert 0.6 < one.success.mean() < 0.79
    arrived = one.path[one.success, -1] - tasks.goal[one.success]
    assert not arrived.any()  # and stands still there


def test_start_and_goal_may_be_of_one_demonstration(line: Store) -> None:
    tasks = draw_tasks(line, np.array([2, 5, 7]), 60, Line(60), seed=1, offset=5, via=1)
    np.testing.assert_array_equal(tasks.goal - tasks.start, np.full((60, 1), 5.0))
    assert set(tasks.start[:, 0] // 100) == {2, 5, 7} and set(tasks.start[:, 0] % 100) == {0, 1, 2, 3}
    assert tasks.shown is not None and tasks.shown.shape == (60, 5, 3)
    (between,) = tasks.via_obs
    assert set((between["state"].numpy() - tasks.start)[:, 0]) == {2}  # the middle of 5, rounded to even
    one, again = (draw_tasks(line, np.array([3]), 8, Line(8), seed=2, offset=8) for _ in range(2))
    assert np.array_equal(one.start, again.start) and set(one.start[:, 0]) == {300}  # one episode is enough
    few = tasks.cut(10, 13)
    assert few.shown is not None and np.array_equal(few.shown, tasks.shown[10:13])
    assert torch.equal(few.via_obs[0]["state"], between["state"][10:13])


def test_every_start_in_the_demonstrations_is_as_likely(tmp_path: Path) -> None:
    """One of two episodes has a single place for the goal's distance, the other nine."""
    store = Store.create(tmp_path / "data", LINE)
    for e, length in enumerate((4, 12)):
        state = 100.0 * e + torch.arange(length + 1.0)[None, :, None]
        obs = {"state": state, "lamp": state.expand(1, length + 1, 2)}
        action = torch.from_numpy(RIGHT).expand(1, length, 3)
        store.add(Clip(obs, action, torch.zeros(1, length), torch.zeros(1, length) > 0))
    tasks = draw_tasks(store, np.arange(2), 400, Line(400), offset=4)
    assert 0.06 < (tasks.start[:, 0] < 100).mean() < 0.15


def test_a_demonstration_may_be_too_short(line: Store) -> None:
    with pytest.raises(UserError, match="no held-out episode is 9 steps long, the longest of 3 has 8"):
        draw_tasks(line, np.array([2, 5, 7]), 4, Line(4), offset=9)
    with pytest.raises(UserError, match="an offset of 2 steps has no room for 2 goals on the way"):
        draw_tasks(line, np.array([2, 5, 7]), 4, Line(4), offset=2, via=2)


def test_a_demonstration_is_replayed(line: Store) -> None:
    tasks = draw_tasks(line, np.arange(10), 6, Line(6), offset=4)
    played = play_shown(Line(6), tasks, budget=50)
    assert played.success.all() and played.steps.tolist() == [4] * 6 and played.closest is None
    assert not play_shown(Line(6), tasks, budget=3).success.any()
    with pytest.raises(UserError, match="no demonstrated actions"):
        play_shown(Line(6), near_tasks(line, 6), 50)


def test_goals_on_the_way_are_pursued_first(line: Store) -> None:
    tasks = near_tasks(line, 2)
    via = ({"state": tasks.start_obs["state"] - 2},)
    mind = walker(via_steps=(3,))
    played = play(Line(2), replace(tasks, via_obs=via), mind, budget=10)
    assert played.success.all()
    moved = played.path[0, :, 0] - tasks.start[0]
    assert moved.tolist() == [0, -1, -2, -2, -1, 0, 1, 2]


def test_how_near_it_came_to_what_it_did_not_reach(line: Store) -> None:
    class Stuck(Line):
        def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, dict]:
            return super().step(np.broadcast_to(STAY, actions.shape))

    tasks = near_tasks(line, 3, distance=8)
    stuck, halfway = play(Stuck(3), tasks, walker(), budget=5), play(Line(3), tasks, walker(), budget=5)
    assert not stuck.success.any() and stuck.steps.tolist() == [5] * 3  # every one of them counts
    assert stuck.closest is not None and halfway.closest is not None
    assert stuck.closest.tolist() == [1] * 3  # flagged: it never came nearer
    assert halfway.closest.tolist() == [0.25] * 3  # energies of 64 and, when it last looked, 16
    together = joined([stuck, halfway])
    assert together.closest is not None and together.closest.tolist() == [1] * 3 + [0.25] * 3
    assert joined([stuck, play_policy(Line(3), tasks, Uniform(LINE), 5)]).closest is None


def test_a_budget_of_nothing_is_refused(line: Store) -> None:
    with pytest.raises(UserError, match="a budget of 0 steps is too small"):
        play(Line(2), near_tasks(line, 2), walker(), budget=0)


class Road(Line):
    """The same line, walked by one number in [-1, 1]."""

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, dict]:
        self.at = self.at + actions
        n = self.num_envs
        return self._seen(), np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), {}


class Strider(Walker):
    """Takes three actions as one."""

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return {"x": state["x"] + action.sum(dim=-1, keepdim=True)}


def test_actions_in_blocks_are_done_one_by_one_within_the_budget(line: Store) -> None:
    model = Strider(Walker.Config(), Spec({"state": (1,)}, 3))
    model.looks = []
    planner = ICEM(horizon=2, samples=256, rounds=8, elites=24)
    mind = Agent(model, planner, AgentConfig(power=1.0), block=3)
    tasks = near_tasks(line, 2, distance=5)
    played = play(Road(2), tasks, mind, budget=8)
    assert played.success.all() and 5 <= played.steps.min() <= played.steps.max() <= 8
    # Two blocks and a part of the third at most: it looked at the start, the goal and once a block.
    assert len(model.looks) <= 4 and played.path.shape[1] == played.steps.max() + 1
    cut = play(Road(2), tasks, mind, budget=4)
    assert cut.path.shape[1] == 5 and not cut.success.any()  # the budget ends within a block


def test_a_summary_counts_every_episode() -> None:
    success = np.array([True, True, False, False, True])
    played = Played(success, np.array([3, 5, 10, 10, 2]), np.zeros((5, 11, 1), np.float32), cpu_s=10.0, plan_ms=7.0)
    found = summary(played, far=np.array([True, False, True, False, True]))
    low, high = wilson(3, 5)
    assert found == {
        "success_rate": 0.6,
        "success_low": low,
        "success_high": high,
        "episodes": 5,
        "success_rate_far": pytest.approx(2 / 3),
        "success_rate_near": 0.5,
        "steps_mean": 6.0,
        "cpu_s_per_episode": 2.0,
        "plan_ms": 7.0,
    }
    assert "success_rate_far" not in summary(played, far=np.zeros(5, bool))


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.27754),  # Newcombe 1998 and others
        (10, 10, 0.72246, 1.0),
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, Table I
        (81, 263, 0.2553, 0.3662),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
        (50, 100, 0.40383, 0.59617),
    ],
)
def test_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-4)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    worlds = TwoRoomsVector(40)
    spec = Spec({"pixels": (64, 64, 3), "state": (2,), "layout": (4,)}, 2)
    store = Store.create(tmp_path_factory.mktemp("rooms") / "data", spec)
    collect(worlds, POLICIES["smooth"](spec), 40, store, 0)
    return store


def room_tasks(store: Store, worlds: TwoRoomsVector):
    room = lambda start, goal: worlds.room(start)[:1] != worlds.room(goal)[:1]
    return draw_tasks(store, np.arange(40), worlds.num_envs, worlds, seed=0, far=room)


def test_the_oracle_finds_its_way_between_the_rooms_and_chance_does_not(rooms: Store) -> None:
    worlds = TwoRoomsVector(20)
    assert isinstance(worlds, GoalWorlds)
    tasks = room_tasks(rooms, worlds)
    assert tasks.far.sum() == 10
    planner = ICEM(
        horizon=32, samples=256, rounds=6, elites=24, populations=4, min_std=0.1, noise_beta=2.0, momentum=0.0
    )
    oracle = Oracle(OracleConfig(), rooms.spec.only("state", "layout"), worlds.dynamics())
    again = planner.model_copy(update={"rounds": 4})
    found = summary(play(worlds, tasks, Agent(oracle, planner, AgentConfig(execute=2), again), 50), tasks.far)
    floor = summary(play_policy(worlds, tasks, POLICIES["uniform"](rooms.spec), 50), tasks.far)
    assert found["success_rate"] >= 0.95
    assert floor["success_rate"] <= 0.4


def test_the_oracle_goes_straight_within_a_room(rooms: Store) -> None:
    worlds = TwoRoomsVector(6)
    tasks = draw_tasks(rooms, np.arange(40), 6, worlds, far=lambda s, g: np.linalg.norm(s - g, axis=1) > 12)
    near = np.flatnonzero(~tasks.far)
    assert len(near) == 3
    oracle = Oracle(OracleConfig(), rooms.spec.only("state", "layout"), worlds.dynamics())
    played = play(worlds, tasks, Agent(oracle, ICEM(horizon=6, samples=64, rounds=3, elites=8)), 15)
    assert played.success[near].all() and played.steps[near].max() <= 12
    assert isinstance(oracle, WorldModel) and played.cpu_s > 0
