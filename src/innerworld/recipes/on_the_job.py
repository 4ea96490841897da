"""A run's model that goes on learning while it acts: old experience from its store, so that nothing is forgotten."""

from __future__ import annotations

import numpy as np

from innerworld.agent.cost.critic import Past, TrainableCritic
from innerworld.agent.learning import OnTheJob, OnTheJobConfig
from innerworld.data import Clips, Store
from innerworld.recipes.lesson import Lesson, episodes
from innerworld.types import Clip
from innerworld.world import WorldModel

WATCHED = 64  # held-out clips that tell whether the old is forgotten


def on_the_job(
    model: WorldModel,
    taught: Lesson,
    store: Store,
    config: OnTheJobConfig = OnTheJobConfig(),
    critic: TrainableCritic | None = None,
    memory: Past | None = None,
) -> OnTheJob:
    """A learner for `Agent(learner=…)`: its old experience are the episodes that the model was taught from, and those
    that were held out tell whether it forgets. Raises `UserError` where no episode is as long as a clip."""
    return beside_old(model, store, *episodes(taught, store), taught.frame_skip, config, critic, memory)


def beside_old(
    model: WorldModel,
    store: Store,
    learn: np.ndarray,
    held_out: np.ndarray,
    block: int,
    config: OnTheJobConfig = OnTheJobConfig(),
    critic: TrainableCritic | None = None,
    memory: Past | None = None,
) -> OnTheJob:
    """The same, of these episodes of a store; an action of the model is a `block` of so many."""
    known, watched = (
        Clips(store, some, config.length, size, config.seed, block, model.reads(store.spec))
        for some, size in ((learn, config.batch), (held_out, WATCHED))
    )

    def old(step: int, size: int) -> Clip:
        return known.cut(known.draw(step, size))

    return OnTheJob(model, config, old, watched.batch(0), critic, memory)
