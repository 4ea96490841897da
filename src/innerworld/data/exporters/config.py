"""`ExportConfig`: what all exporters understand, and what every one of them needs of a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from innerworld.config import Config
from innerworld.data.store.store import Store
from innerworld.errors import UserError
from innerworld.types import Clip, Spec


class ExportConfig(Config):
    """What all exporters understand; one with more to ask extends this."""

    sensors: tuple[str, ...] | None = Field(default=None, description="sensors to write; null: all")
    episodes: tuple[int, ...] | None = Field(default=None, description="numbers of the episodes; null: all")
    original: bool = Field(
        default=True, description="actions in the units of the log they came from, where the store knows them"
    )


@dataclass(frozen=True)
class Played:
    """One episode as it is written: `t` actions, `t+1` observations."""

    obs: dict[str, np.ndarray]  # t+1 ...
    action: np.ndarray | None  # t a in the units asked for, t whole numbers where there are choices; None: video only
    reward: np.ndarray  # t
    terminated: np.ndarray  # t
    seed: int | None

    @property
    def length(self) -> int:
        return len(self.reward)


def spec_to_write(store: Store, config: ExportConfig) -> Spec:
    """The chosen sensors, or all but tokens, which eyes can make again. Raises `UserError` for one that it lacks."""
    kept = [sensor for sensor, shape in store.spec.obs.items() if len(shape) != 2]
    return store.spec.only(*(kept if config.sensors is None else config.sensors))


def episodes_to_write(store: Store, config: ExportConfig) -> list[int]:
    """Their numbers in the store. Raises `UserError` for none, and for one that the store lacks."""
    chosen = list(range(len(store))) if config.episodes is None else list(config.episodes)
    for i in chosen:
        if not 0 <= i < len(store):
            raise UserError(f"{store.name} has no episode {i}: it has {len(store)}, counted from 0")
    if not chosen:
        raise UserError(f"{store.name} has no episodes to export")
    return chosen


def played(store: Store, i: int, spec: Spec, config: ExportConfig) -> Played:
    """Episode `i`. Raises `UserError` if it is damaged."""
    clip = store.episode(i)
    seed = int(store.seeds[i])
    return Played(
        {sensor: clip.obs[sensor][0].numpy() for sensor in spec.obs},
        _action(store, clip, config),
        clip.reward[0].numpy(),
        clip.terminated[0].numpy(),
        seed if seed >= 0 else None,
    )


def scaled(store: Store, config: ExportConfig) -> bool:
    """Whether actions are written in other units than those of the store."""
    about = store.meta.about
    return (
        config.original and not store.spec.discrete and about.action_low is not None and about.action_high is not None
    )


def _action(store: Store, clip: Clip, config: ExportConfig) -> np.ndarray | None:
    if not store.spec.action:
        return None
    action = clip.action[0].numpy()  # t a
    if store.spec.discrete:
        return action.argmax(1).astype(np.int64)
    if not scaled(store, config):
        return action
    low, high = (np.asarray(end, np.float64) for end in (store.meta.about.action_low, store.meta.about.action_high))
    return (low + (action.astype(np.float64) + 1) / 2 * (high - low)).astype(np.float32)
