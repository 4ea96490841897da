"""An exam of one who knows everything: the true dynamics of two rooms, as a model that sees the state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from innerworld.agent import Agent
from innerworld.data import POLICIES, About, Store, collect, split
from innerworld.envs import make, spec_of
from innerworld.evaluate.exam import Exam, ExamConfig, Lab
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import ICEM
from innerworld.recipes.goals import draw_goals, goal_worlds, oracle
from innerworld.world import WorldModel

CONFIG = ExamConfig(clips=16, horizons=(1, 2, 4), goals=4, budget=30, episodes=20)


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A few short episodes in two rooms."""
    with closing(make("two_rooms", 20, 32, max_steps=24)) as worlds:
        spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
        store = Store.create(tmp_path_factory.mktemp("rooms") / "data", spec, About(env="two_rooms"))
        collect(worlds, POLICIES["smooth"](spec), 20, store, 0)
    return store


@pytest.fixture(scope="session")
def knowing(rooms: Store) -> WorldModel:
    """The true dynamics."""
    with closing(make("two_rooms", 1, 32)) as worlds:
        model = Oracle(OracleConfig(), rooms.spec.only("state", "layout"), worlds.dynamics())
    model.device = nn.Parameter(torch.zeros(1))  # which those who ask look for
    return model


@pytest.fixture
def exam(rooms: Store, knowing: WorldModel) -> Callable[..., Exam]:
    """The exam of the one who knows, or of another."""
    learn, held_out = split(rooms, 0.5, 0)

    def make_exam(model: WorldModel = knowing, **changed: object) -> Exam:
        lab = Lab(
            untaught=lambda: model,
            agent=lambda its: Agent(its, ICEM(horizon=12, samples=64, rounds=3, elites=8)),
            goal_worlds=lambda n: goal_worlds(rooms, n),
            tasks=lambda worlds: draw_goals(rooms, held_out, worlds, 0),
            oracle=lambda worlds: oracle(worlds, rooms.spec),
            worlds=lambda n: make("two_rooms", n, 32),
            once=lambda name, find: find(),
        )
        return replace(Exam(model, rooms, learn, held_out, 4, lab, config=CONFIG), **changed)

    return make_exam


@pytest.fixture(scope="session")
def store_elsewhere(tmp_path_factory: pytest.TempPathFactory, rooms: Store) -> Path:
    """The same episodes, of which nobody says where they come from or what the state is."""
    path = tmp_path_factory.mktemp("log") / "data"
    store = Store.create(path, rooms.spec.only("pixels"))
    for episode in range(len(rooms)):
        clip = rooms.episode(episode)
        store.add(replace(clip, obs={"pixels": clip.obs["pixels"]}))
    return path
