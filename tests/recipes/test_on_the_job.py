"""Old experience on the job is that of the run's own store: other clips to learn from than to be watched by."""

from __future__ import annotations

from pathlib import Path

import torch

from innerworld import models
from innerworld.agent import Agent, AgentConfig
from innerworld.agent.learning import OnTheJobConfig
from innerworld.data import Smooth, Store, collect, spec_of_skip
from innerworld.envs import make, spec_of
from innerworld.plan import ICEM
from innerworld.recipes.lesson import Lesson
from innerworld.recipes.on_the_job import on_the_job

CONFIG = OnTheJobConfig(every=2, steps=2, batch=8, length=2, least=2)


def test_a_model_of_blocks_learns_while_it_acts(tmp_path: Path) -> None:
    worlds = make("two_rooms", 3, size=32, max_steps=12)
    spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
    store = Store.create(tmp_path / "data", spec)
    collect(worlds, Smooth(spec), 9, store)
    taught = Lesson(family="jepa", data=str(tmp_path / "data"), sensors=("state",), held_out=0.3, frame_skip=2)
    torch.manual_seed(0)
    model = models.build("jepa", {"latent": 4, "hidden": 8}, spec_of_skip(spec.only("state"), 2))
    learner = on_the_job(model, taught, store, CONFIG)
    assert learner.old is not None and learner.held_out is not None
    first, again = learner.old(3, 5), learner.old(3, 5)
    assert torch.equal(first.action, again.action) and first.action.shape == (5, 2, 4)  # blocks of two actions
    assert not torch.equal(first.action, learner.old(4, 5).action)

    mind = Agent(
        model, ICEM(horizon=3, samples=8, rounds=1, elites=2), AgentConfig(strict=True), block=2, learner=learner
    )
    seen, goal = (worlds.reset(seed=seed)[0]["state"] for seed in (1, 2))
    mind.begin({"state": torch.from_numpy(seen)}, {"state": torch.from_numpy(goal)})
    for _ in range(10):
        seen = worlds.step(mind.act({"state": torch.from_numpy(seen)}).numpy())[0]["state"]
    assert learner.updates + len(learner.why) == 2 and len(learner.experience) == 3 * 5
