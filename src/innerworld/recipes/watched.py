"""What there is to watch: an episode, what a model believed along it, and its dreams from some moments of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from gymnasium.vector import VectorEnv
from torch import Tensor

from innerworld import envs
from innerworld.data import POLICIES, Clips, Remembers, Store
from innerworld.data.lives import Lives
from innerworld.data.stepping import Sensors
from innerworld.errors import UserError, choose
from innerworld.recipes.lesson import episodes, read
from innerworld.report.content import Image
from innerworld.types import Clip, State, each
from innerworld.world import WorldModel

STARTS = 2  # moments at which a model shuts its eyes
SETTLED = 5  # steps after which belief has settled
AS_SEEN = "pixels"  # the sensor in which the adapter draws a world
Onlooker = Callable[[Image, float], None]
"""Told of every step while it is played: the picture of the world, `y x c`, and the return so far."""


@dataclass(frozen=True)
class Episode:
    """One episode: the clip as the model saw it (b = 1), its beliefs, pictures of the world."""

    clip: Clip
    beliefs: State  # each t+1 ...
    pictures: Image | None  # t+1 y x c; none where the world cannot be drawn
    truncated: bool  # time ran out
    starts: dict[int, State] = field(default_factory=dict)  # whole beliefs (b = 1), where those above are bare
    by: str = "policy"  # who acted

    @property
    def score(self) -> float:
        """The sum of its rewards."""
        return float(self.clip.reward.sum())

    def belief(self, start: int) -> State:
        """What was believed at a moment, to go on from: b = 1."""
        return self.starts.get(start) or each(lambda value: value[start : start + 1], self.beliefs)


@dataclass(frozen=True)
class Seen:
    """An episode that no model has looked at yet; the fields are those of `Episode`."""

    clip: Clip
    pictures: Image | None
    truncated: bool
    by: str


@dataclass(frozen=True)
class Dream:
    """From one moment of an episode on: what was imagined of the same actions, and what the policy dreams by itself."""

    start: int
    told: dict[str, Tensor]  # of the same actions: each sensor, "reward", "continue", `h ...`
    dreamt: dict[str, Tensor] | None = None  # of its own: likewise; none without a policy


@dataclass
class Lived:
    """An episode of one world as it comes: what was seen, each sensor `1 ...`, and done."""

    sights: list[dict[str, np.ndarray]] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)
    terminated: list[np.ndarray] = field(default_factory=list)
    ended: bool = False

    def clip(self, sensors: list[str]) -> Clip:
        return Clip(
            {name: torch.from_numpy(np.stack([sight[name] for sight in self.sights], 1)) for name in sensors},
            torch.from_numpy(np.stack(self.actions, 1)),
            torch.from_numpy(np.stack(self.rewards, 1)),
            torch.from_numpy(np.stack(self.terminated, 1)),
        )

    def pictures(self) -> Image | None:
        return np.stack([sight[AS_SEEN][0] for sight in self.sights]) if AS_SEEN in self.sights[0] else None

    @property
    def truncated(self) -> bool:
        return self.ended and not bool(self.terminated[-1][0])


def live(lives: Lives, steps: int, act: Callable[[Lives], np.ndarray], onlooker: Onlooker | None = None) -> Lived:
    """One episode of at most `steps` steps in the one world of `lives`."""
    lived = Lived()
    lived.sights.append(_look(lives, 0.0, onlooker))
    while not lived.ended and len(lived.actions) < steps:
        lived.actions.append(act(lives))
        outcome = lives.step(lived.actions[-1])
        lived.rewards.append(outcome.reward)
        lived.terminated.append(outcome.terminated)
        lived.ended = bool(outcome.ended[0])
        lived.sights.append(_look(lives, float(np.sum(lived.rewards)), onlooker))
    return lived


def by_chance(
    world: VectorEnv,
    sensors: list[str],
    policy: str,
    steps: int,
    seed: int = 0,
    frame_skip: int = 1,
    onlooker: Onlooker | None = None,
) -> Seen:
    """What a policy without a goal does in the one `world`.

    `steps` counts actions as a model takes them, of `frame_skip` of the world's. Raises `UserError` for an unknown
    policy.
    """
    shown = envs.spec_of(world.single_observation_space, world.single_action_space)
    chance, rng = choose("policy", policy, POLICIES)(shown), np.random.default_rng([seed, 22])
    act = chance  # the next line narrows its type to something that cannot be called
    if isinstance(chance, Remembers):
        chance.begin(np.ones(1, np.bool_), rng)
    lived = live(Lives(world, shown, seed), steps * frame_skip, lambda now: act(dict(now.obs), rng), onlooker)
    pictures = lived.pictures()
    if pictures is not None:
        pictures = pictures[: len(lived.actions) // frame_skip * frame_skip + 1 : frame_skip]
    return Seen(_in_blocks(lived.clip(sensors), frame_skip), pictures, lived.truncated, policy)


def recorded(
    model: WorldModel, folder: Path, steps: int, data: Path | None = None, number: int = 0
) -> tuple[Seen, str]:
    """A held-out episode of the store that a run was taught from (or of the one at `data`), and the world's name.

    Raises `UserError` for a run without a store, and where there is no such episode.
    """
    taught = read(folder)
    store = Store.open(taught.data if data is None else data)
    held = episodes(taught, store)[1]
    if not 0 <= number < len(held):
        raise UserError(f"there is no held-out episode {number}: they go from 0 to {len(held) - 1}")
    episode, k = int(held[number]), taught.frame_skip
    length = min(steps, int(store.lengths[episode]) // k)
    if length < 1:
        raise UserError(f"held-out episode {number} has no step of {k} actions: choose another with --episode")
    clip = Clips(store, [episode], length, 1, 0, k, model.reads(store.spec)).cut(np.zeros(1, np.int64))
    images = [name for name in model.spec.images() if name in clip.obs]
    pictures = clip.obs[images[0]][0].numpy() if images else None
    return Seen(clip, pictures, False, "recorded"), store.meta.about.env or "a log"


@torch.no_grad()
def watch(model: WorldModel, seen: Seen, horizon: int) -> Episode:
    """What a model believes along an episode: whole where it will shut its eyes, else what can be drawn of it.

    Of a family whose beliefs are large, a whole one for each step would not find room.
    """
    model.eval()
    clip = seen.clip
    here = moments(clip.length, horizon)
    starts: dict[int, State] = {}
    bare: list[State] = []
    state: State | None = None
    for t in range(clip.length + 1):
        state = model.encode(clip.at(t), state, clip.action[:, t - 1] if t else None)
        bare.append(model.bare(state))
        if t in here:
            starts[t] = state
    beliefs = {name: torch.cat([belief[name] for belief in bare]) for name in bare[0]}
    return Episode(clip, beliefs, seen.pictures, seen.truncated, starts, seen.by)


def moments(length: int, horizon: int) -> list[int]:
    """Where to shut the eyes: after the first steps, when belief has settled, and in the middle of the episode."""
    latest = length - min(horizon, max(1, length // 2))
    return sorted({min(SETTLED, latest), min(length // 2, latest)})[:STARTS]


def _look(lives: Lives, score: float, onlooker: Onlooker | None) -> dict[str, np.ndarray]:
    """What is seen now, kept; and shown, where somebody looks on and there is a picture."""
    seen: Sensors = lives.obs
    if onlooker is not None and AS_SEEN in seen:
        onlooker(seen[AS_SEEN][0], score)
    return {name: value.copy() for name, value in seen.items()}


def _in_blocks(clip: Clip, k: int) -> Clip:
    """Every k-th sight, the actions in between joined; what is left over at the end is dropped."""
    if k == 1:
        return clip
    whole = clip.cut(0, clip.length // k * k)
    return Clip(
        {name: value[:, ::k] for name, value in whole.obs.items()},
        rearrange(whole.action, "b (t k) a -> b t (k a)", k=k),
        rearrange(whole.reward, "b (t k) -> b t k", k=k).sum(-1),
        rearrange(whole.terminated, "b (t k) -> b t k", k=k).any(-1),
    )
