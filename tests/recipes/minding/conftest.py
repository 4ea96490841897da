"""A tiny run of each kind, made once: one that learnt from a store of two rooms, one that learnt to act in CartPole."""

from __future__ import annotations

from pathlib import Path

import pytest

from innerworld.data import About, Smooth, Store, collect
from innerworld.envs import make, spec_of
from innerworld.models import RSSM
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.policy import ActorConfig, ActorCriticConfig, CriticConfig
from innerworld.recipes.lesson import Lesson, teach
from innerworld.recipes.online import practise
from innerworld.recipes.practice import Online, Practice
from innerworld.recipes.two_rooms import Control
from innerworld.training import TrainConfig

TWO_STEPS = TrainConfig(steps=2, check_every=1, save_every=2, device="cpu")
WORLD = RSSM.Config(deter=16, hidden=8, stoch=4, classes=4, units=8, layers=1, depth=2, image="strided", mults=(1, 2))
HEADS = ActorCriticConfig(actor=ActorConfig(units=8, layers=1), critic=CriticConfig(units=8, layers=1), horizon=3)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    worlds = make("two_rooms", 10, size=32, max_steps=12)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    made = Store.create(tmp_path_factory.mktemp("minding") / "data", spec, About(env="two_rooms", policy="smooth"))
    collect(worlds, Smooth(spec), 30, made)
    return made.path


def taught(store: Path, folder: Path, frame_skip: int = 1) -> Path:
    model = {"channels": 2, "latent": 4, "hidden": 8}
    lesson = Lesson(
        family="jepa", data=str(store), sensors=("pixels",), held_out=0.2, batch=4, length=3, frame_skip=frame_skip,
        model=model, train=TWO_STEPS,
    )  # fmt: skip
    teach(lesson, folder, quiet=True)
    return folder


@pytest.fixture(scope="session")
def run(store: Path) -> Path:
    return taught(store, store.parent / "jepa")


@pytest.fixture(scope="session")
def run_of_blocks(store: Path) -> Path:
    return taught(store, store.parent / "blocks", frame_skip=2)


@pytest.fixture(scope="session")
def actor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minding") / "cartpole"
    online = Online(env="CartPole-v1", sensors=("state",), prefill=40, batch=2, length=8, eval_every=0)
    model = DreamerConfig(world=WORLD, actor_critic=HEADS).model_dump(mode="json")
    practise(Practice(model=model, online=online, train=TrainConfig(steps=2, device="cpu")), folder, quiet=True)
    return folder


@pytest.fixture
def control() -> Control:
    settings = {"horizon": 3, "samples": 16, "rounds": 2, "elites": 4}
    return Control(episodes=2, budget=5, search="cem", planner=settings, rounds_again=1)
