"""A maze revisited: all can be reached, what a window shows is what is there, who keeps a map is right where it was."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from innerworld.data import play
from innerworld.envs import spec_of
from innerworld.envs.questions import NEVER
from innerworld.envs.revisit import CHANCE, TIME, WAY, Revisit, RevisitConfig, RevisitVector, X, Y
from innerworld.envs.walker import Walker, shortest
from innerworld.errors import UserError
from innerworld.types import Clip

SMALL = RevisitConfig(cells=7, size=24, steps=60)
WIDE = RevisitConfig(cells=11, view=5, colors=3, loops=0.5, size=25, steps=60)


def walks(config: RevisitConfig, n: int, context: int, lag: int = 0, share: float = 0.0, seed: int = 0) -> Clip:
    """Whole episodes of the walker."""
    worlds = RevisitVector(n, config)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    clips = [clip for part in play(worlds, Walker(worlds, context, lag, share), spec, n, seed) for clip, _ in part]
    join = lambda get: torch.cat([get(clip) for clip in clips])
    obs = {name: join(lambda clip, name=name: clip.obs[name]) for name in spec.obs}
    return Clip(obs, join(lambda c: c.action), join(lambda c: c.reward), join(lambda c: c.terminated))


def test_gymnasiums_checker_is_content() -> None:
    check_env(Revisit(SMALL), skip_render_check=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, (1 << 24) - 1), st.sampled_from([5, 9, 15]), st.sampled_from([0.0, 0.3, 1.0]))
def test_every_tile_can_be_reached_and_the_border_is_closed(number: int, cells: int, loops: float) -> None:
    maze = RevisitVector(1, RevisitConfig(cells=cells, loops=loops)).maze(number / (1 << 24))
    tiles = set(map(tuple, np.argwhere(maze >= 0).tolist()))
    found, todo = {(1, 1)}, deque([(1, 1)])
    while todo:
        y, x = todo.popleft()
        new = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & tiles - found
        found |= new
        todo.extend(new)
    assert found == tiles and len(tiles) >= 2 * (cells // 2) ** 2 - 1
    assert (np.concatenate([maze[0], maze[-1], maze[:, 0], maze[:, -1]]) == -1).all()


def test_colours_are_equally_likely_and_independent_of_the_layout() -> None:
    worlds = RevisitVector(1)
    mazes = np.array([worlds.maze(number / (1 << 24)) for number in range(500)])
    count = np.bincount(mazes[mazes >= 0], minlength=6)
    assert count / count.sum() == pytest.approx(np.full(6, 1 / 6), abs=0.01)
    corner = np.bincount(mazes[:, 1, 1], minlength=6) / 500
    assert corner == pytest.approx(np.full(6, 1 / 6), abs=0.07)


@pytest.mark.parametrize("config", [SMALL, WIDE])
def test_the_window_shows_what_lies_ahead(config: RevisitConfig) -> None:
    """Written out: a row up in the window is a step ahead, a column to the right a step to the right."""
    worlds = RevisitVector(40, config)
    obs, _ = worlds.reset(seed=0)
    ahead = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}
    v, k = config.view, config.colors
    for i, state in enumerate(obs["state"]):
        maze, (dx, dy) = worlds.maze(state[CHANCE]), ahead[int(state[WAY])]
        seen = obs["symbols"][i].reshape(v, v, k + 1)
        assert (seen.sum(-1) == 1).all()
        for row in range(v):
            for column in range(v):
                far, right = v - 1 - row, column - v // 2
                x, y = int(state[X]) + far * dx - right * dy, int(state[Y]) + far * dy + right * dx
                inside = 0 <= x < config.cells and 0 <= y < config.cells
                assert seen[row, column].argmax() == (maze[y, x] + 1 if inside else 0)


def test_forward_goes_where_one_looks_and_walls_stop() -> None:
    worlds = RevisitVector(200, SMALL)
    before, _ = worlds.reset(seed=0)
    free = before["symbols"].reshape(200, 3, 3, 7)[:, 1, 1, 0] == 0  # ahead is no wall
    after, reward, terminated, truncated, _ = worlds.step(np.zeros(200, np.int64))
    moved = (after["state"][:, X : Y + 1] != before["state"][:, X : Y + 1]).any(1)
    np.testing.assert_array_equal(moved, free)
    assert 0.2 < free.mean() < 0.9 and not (reward.any() or terminated.any() or truncated.any())
    for _ in range(3):
        turned, *_ = worlds.step(np.full(200, 1))
    assert ((turned["state"][:, WAY] + 3 - after["state"][:, WAY]) % 4 == 0).all()  # thrice left is once right
    back, *_ = worlds.step(np.full(200, 1))
    np.testing.assert_array_equal(back["pixels"], after["pixels"])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 59))
def test_from_a_state_the_same_follows(seed: int, steps: int) -> None:
    a, b = RevisitVector(3, SMALL), RevisitVector(3, SMALL)
    a.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        a.step(rng.integers(3, size=3))
    b.reset(seed=seed + 1, options={"state": a.state})
    for _ in range(62 - steps):
        action = rng.integers(3, size=3)
        ours, theirs = a.step(action), b.step(action)
        for name in ours[0]:
            np.testing.assert_array_equal(ours[0][name], theirs[0][name])
        np.testing.assert_array_equal(ours[3], theirs[3])
    assert ours[3].all()


def test_many_worlds_are_single_ones() -> None:
    many, ones = RevisitVector(3, SMALL), [Revisit(SMALL) for _ in range(3)]
    obs, _ = many.reset(seed=5)
    firsts = [world.reset(seed=5 + i)[0] for i, world in enumerate(ones)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        for i, first in enumerate(firsts):
            for name in obs:
                np.testing.assert_array_equal(obs[name][i], first[name])
        actions = rng.integers(3, size=3)
        obs, *_ = many.step(actions)
        firsts = [world.step(action)[0] for world, action in zip(ones, actions, strict=True)]


def test_the_oracle_s_law_is_the_world_s() -> None:
    worlds = RevisitVector(8, SMALL)
    obs, _ = worlds.reset(seed=0)
    for _ in range(61):
        action = np.arange(8) % 3
        known = {name: torch.from_numpy(obs[name].copy()) for name in ("state", "symbols")}
        foreseen = worlds.dynamics()(known, torch.eye(3)[torch.from_numpy(action)])
        obs, *_ = worlds.step(action)
        for name, value in foreseen.items():
            np.testing.assert_array_equal(value.numpy(), obs[name])


@pytest.mark.parametrize("sensor", ["pixels", "symbols"])
@pytest.mark.parametrize("config", [SMALL, WIDE])
def test_the_true_colour_is_among_the_candidates_and_no_other_is_it(config: RevisitConfig, sensor: str) -> None:
    clip = walks(config, 6, context=20, share=0.1)
    asked = RevisitVector(6, config).questions(clip.obs["state"].numpy(), 20, sensor)
    seen = clip.obs[sensor].numpy()[asked.row, asked.time].reshape(len(asked), -1)
    seen = np.take_along_axis(seen, asked.where, 1)
    alike = (asked.candidates == seen[:, None]).all(-1)
    np.testing.assert_array_equal(alike, np.eye(config.colors, dtype=bool)[asked.answer])
    assert asked.time.min() > 20 and len(asked) > 50 and asked.floor == 1 / config.colors


def test_who_keeps_a_map_of_the_context_knows_what_it_saw_and_guesses_the_rest() -> None:
    """The ceiling: a map drawn from what the window showed until the context's end, with nothing else known."""
    config, context = RevisitConfig(cells=11, size=24, steps=80), 30
    clip = walks(config, 60, context)
    worlds = RevisitVector(60, config)
    states = clip.obs["state"].numpy()
    asked = worlds.questions(states, context, "symbols")
    symbols = clip.obs["symbols"].numpy().reshape(60, 81, 9, 7)
    right = np.zeros(len(asked), bool)
    for row in range(60):
        known: dict[tuple[int, ...], int] = {}
        windows = worlds.window(states[row])
        for t in range(context + 1):
            known |= {tuple(cell): what.argmax() - 1 for cell, what in zip(windows[t].tolist(), symbols[row, t])}  # noqa: B905
        for q in np.flatnonzero(asked.row == row):
            place = asked.where[q, 0] // 7
            cell = tuple(windows[asked.time[q], place].tolist())
            right[q] = known.get(cell, 0) == asked.answer[q]
            assert (cell in known) == (asked.lag[q] != NEVER)
    seen = asked.lag != NEVER
    assert right[seen].all() and (asked.ceiling[seen] == 1).all()
    assert right[~seen].mean() == pytest.approx(asked.floor, abs=0.07) and (asked.ceiling[~seen] == asked.floor).all()
    assert 0.1 < seen.mean() < 0.95


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_ceiling_is_reached_by_a_map_and_the_actions_alone(share: float) -> None:
    """It begins its map where it stands, is told no place, and takes a way that it has not seen for free."""
    config, context = RevisitConfig(cells=11, size=24, steps=120), 40
    clip = walks(config, 24, context, share=share)
    asked = RevisitVector(24, config).questions(clip.obs["state"].numpy(), context, "symbols")
    symbols, actions = clip.obs["symbols"].numpy().reshape(24, 121, 9, 7), clip.action.argmax(-1).tolist()
    right = np.zeros(len(asked), bool)
    for row in range(24):
        known: dict[tuple[int, int], int] = {}
        here, way, windows = (0, 0), 0, []
        for t in range(121):
            (dx, dy), (rx, ry) = [(1, 0), (0, 1), (-1, 0), (0, -1)][way], [(0, 1), (-1, 0), (0, -1), (1, 0)][way]
            cells = [(f * dx + r * rx, f * dy + r * ry) for f in (2, 1, 0) for r in (-1, 0, 1)]
            windows.append([(here[0] + x, here[1] + y) for x, y in cells])
            if t <= context:
                known |= {cell: int(what.argmax()) - 1 for cell, what in zip(windows[t], symbols[row, t], strict=True)}
            if t == 120:
                break
            way = (way + {0: 0, 1: -1, 2: 1}[actions[row][t]]) % 4
            ahead = (here[0] + dx, here[1] + dy)
            here = ahead if actions[row][t] == 0 and known.get(ahead) != -1 else here
        for q in np.flatnonzero(asked.row == row):
            cell = windows[asked.time[q]][asked.where[q, 0] // 7]
            right[q] = known.get(cell) == asked.answer[q]
            assert (cell in known) == (asked.lag[q] != NEVER)
    assert right[asked.lag != NEVER].all() and (asked.lag != NEVER).sum() > 300


def test_the_lag_counts_from_the_last_sight_within_the_context() -> None:
    """On the spot: turning right four times shows at time 4 what was seen at 0, and context ends at 1."""
    worlds = RevisitVector(1, SMALL)
    obs, _ = worlds.reset(seed=3)
    states = [obs["state"]]
    for _ in range(5):
        states.append(worlds.step(np.array([2]))[0]["state"])
    asked = worlds.questions(np.stack(states, axis=1), 1)
    last = asked.lag[asked.time == 4]
    assert len(last) and set(last.tolist()) <= {4, 3} and 4 in last
    assert (asked.lag[asked.time == 2] != 2).all()  # half a turn: nothing of what time 0 showed comes into view


def test_the_walker_explores_and_returns() -> None:
    config, context, lag = RevisitConfig(cells=9, size=24, steps=150), 75, 40
    clip = walks(config, 12, context, lag)
    states = clip.obs["state"].numpy()
    been = [len({(x, y) for x, y in row[: context + 1, X : Y + 1].tolist()}) for row in states]
    lost = walks(config, 12, context, lag, share=0.99).obs["state"].numpy()
    drunk = [len({(x, y) for x, y in row[: context + 1, X : Y + 1].tolist()}) for row in lost]
    assert np.mean(been) > 20 > 2 * np.mean(drunk)
    asked = RevisitVector(12, config).questions(states, context)
    assert (asked.lag >= lag).mean() > 0.6 and len(asked) > 12 * 50
    assert (clip.action.sum(-1) == 1).all()


def test_the_shortest_way_is_a_way() -> None:
    maze = RevisitVector(1).maze(0.25)
    way = shortest(maze, (1, 1), (7, 7))
    steps = [abs(a - c) + abs(b - d) for (a, b), (c, d) in zip([(1, 1), *way[:-1]], way, strict=True)]
    assert way[-1] == (7, 7) and set(steps) == {1} and all(maze[y, x] >= 0 for x, y in way)
    assert shortest(maze, (1, 1), (1, 1)) == []


def test_bad_input_is_told() -> None:
    with pytest.raises(UserError, match="choose odd numbers"):
        RevisitVector(1, RevisitConfig(cells=8))
    worlds = RevisitVector(1, SMALL)
    worlds.reset(seed=0)
    for column, value in ((X, 0), (X, 2.5), (WAY, 4), (TIME, 61)):
        state = worlds.state.copy()
        state[0, column] = value
        with pytest.raises(UserError, match="given for world 0, is no state"):
            worlds.reset(options={"state": state})
    wall = worlds.state.copy()
    wall[0, [X, Y]] = 2  # where corridors never are
    with pytest.raises(UserError, match="is no state"):
        worlds.reset(options={"state": wall})
    with pytest.raises(UserError, match="context=5 must lie within"):
        worlds.questions(np.stack([worlds.state] * 3, axis=1), 5)
    with pytest.raises(UserError, match="walker: context=60"):
        Walker(worlds, 60)
