"""What a model that learnt in a world draws of it: fresh episodes that its policy lives, judged as those of a store."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from innerworld.data import About, Store, collect
from innerworld.envs import spec_of
from innerworld.evaluate.generation import Drawings, judge_frames
from innerworld.evaluate.inverse import InverseConfig
from innerworld.recipes.acting import Acting
from innerworld.recipes.practice import Practice
from innerworld.world import WorldModel

EPISODES = 16  # of which the last four are judged, and the others teach the inverse model
JUDGED = 4
LONGEST = 200  # steps that one of them may have


def draw_practice(
    model: WorldModel, practice: Practice, seed: int = 0, reader: InverseConfig = InverseConfig()
) -> Drawings | None:
    """Judge the frames that a model imagines of the world it learnt in; None for one that draws no pictures of it.

    Its policy acts, drawing its actions, in episodes that it has not learnt from. Raises `UserError`, for a world that
    cannot be made, too.
    """
    online = practice.online
    steps = LONGEST * online.action_repeat
    sensor = next(iter(model.spec.images()), None)
    if sensor is None or not model.card.decodes:
        return None
    short = online.model_copy(update={"max_steps": min(steps, online.max_steps or steps)})
    with tempfile.TemporaryDirectory() as folder, closing(short.make(EPISODES)) as worlds:
        spec = spec_of(worlds.single_observation_space, worlds.single_action_space)
        repeated = online.action_repeat > 1  # then an action is not one of the world that could be begun at a state
        store = Store.create(Path(folder) / "lived", spec, About(env="" if repeated else online.env))
        collect(worlds, Living(Acting(model, True, seed)), EPISODES, store, seed)
        learn, held_out = np.split(np.arange(EPISODES), [EPISODES - JUDGED])
        return judge_frames(model, store, learn, held_out, sensor, online.length, 1, seed, reader)


class Living:
    """A taught policy as one to collect with, which remembers no episode beyond its end."""

    def __init__(self, acting: Acting) -> None:
        self.acting = acting
        self.first = np.ones(0, np.bool_)

    def begin(self, started: np.ndarray, rng: np.random.Generator) -> None:
        self.first = started.copy()

    def __call__(self, obs: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        action = self.acting.act(obs, self.first)
        self.first = np.zeros_like(self.first)
        return action
