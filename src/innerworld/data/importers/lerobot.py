"""Import LeRobot datasets (v2.0, v2.1, v3.0) without the lerobot package: tables in Parquet, cameras as video."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from innerworld.config import build
from innerworld.data.importers.bring import measured
from innerworld.data.importers.lerobot_meta import Dataset, Place, read_bounds, read_dataset, read_json
from innerworld.data.importers.lerobot_rows import Reader
from innerworld.data.importers.recording import Bounds, Episode, ImportConfig, Recording
from innerworld.data.store.store import About
from innerworld.errors import UserError, nearest

OURS = "meta/innerworld.json"
"""What our own exports add: the scale of the actions, and whether they are choices."""


class LeRobotConfig(ImportConfig):
    """What can be asked of a LeRobot dataset."""

    action: str = Field(default="action", description="the feature that is the action; where there is none: video only")
    episodes: tuple[int, ...] | None = Field(default=None, description="episode_index of those to import; null: all")
    rows_per_frame: int = Field(
        default=1, ge=1, description="rows of the table for one frame of video, where that is a copy at a lower rate"
    )
    tolerance: float | None = Field(
        default=None, gt=0, description="seconds between a row and its frame at most; null: half a frame"
    )
    data_path: str | None = Field(default=None, description="template for the tables instead of that in info.json")
    video_path: str | None = Field(default=None, description="template for the videos instead of that in info.json")


def looks_like_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def open_lerobot(path: Path, config: LeRobotConfig) -> Recording:
    """Open the folder of a dataset. An episode whose files are missing is found to be bad when it is read.

    Sensors are the features `observation.*`, called by what follows (`observation.images.front` is `front`). Where a
    dataset has several tasks, a sensor `task` says which; their texts are `about.more["tasks"]`. An episode of T rows
    gives T - 1 actions. Raises `UserError` for metadata that cannot be understood.
    """
    dataset = read_dataset(path, config.data_path, config.video_path, config.follow_links)
    known = [*dataset.sensors(), *(["task"] if len(dataset.tasks) > 1 else [])]
    for name in config.sensors or ():
        if name not in known:
            raise UserError(f"{path} has no sensor {name!r}.{nearest(name, known)} There are: {', '.join(known)}")
    reader = Reader(dataset, config.action, config)
    places = _chosen(dataset, config)
    ours = read_json(path, OURS, config.follow_links) if (path / OURS).exists() else {}
    about = _about(dataset, config, ours)
    return Recording(
        about,
        [
            Episode(f"{path.name} episode {place.index} ({place.table})", partial(reader.read, place))
            for place in places
        ],
        choices=_choices(dataset, config, ours),
        bounds=_bounds(dataset, config, about, ours, places, reader),
    )


def _chosen(dataset: Dataset, config: LeRobotConfig) -> list[Place]:
    if config.episodes is None:
        return list(dataset.places)
    known = {place.index: place for place in dataset.places}
    for index in config.episodes:
        if index not in known:
            raise UserError(f"{dataset.root} has no episode {index}: it has {len(known)}")
    return [known[index] for index in config.episodes]


def _about(dataset: Dataset, config: LeRobotConfig, ours: dict[str, Any]) -> About:
    saved = build(About, ours.get("about") or {}, f"{dataset.root / OURS}: about")
    more = {
        **saved.more,
        "source": dataset.root.name,
        "format": f"LeRobot v{dataset.version}",
        "tasks": list(dataset.tasks),
        "names": {f.sensor: f.names for f in dataset.features.values() if f.kind == "vector" and f.names},
        **({"rows_per_frame": config.rows_per_frame} if config.rows_per_frame > 1 else {}),
    }
    env = saved.env or dataset.robot or dataset.root.name
    return saved.model_copy(update={"env": env, "fps": dataset.fps / config.rows_per_frame, "more": more})


def _choices(dataset: Dataset, config: LeRobotConfig, ours: dict[str, Any]) -> int | None:
    choices = ours.get("choices")
    if choices is not None and (not isinstance(choices, int) or choices < 1):
        raise UserError(f"{dataset.root / OURS}: choices is {choices!r}")
    if choices is not None and config.rows_per_frame > 1:
        raise UserError("rows_per_frame joins actions, which choices do not allow")
    return choices if config.action in dataset.features else None


def _bounds(
    dataset: Dataset, config: LeRobotConfig, about: About, ours: dict[str, Any], places: list[Place], reader: Reader
) -> Callable[[], Bounds] | None:
    """As our export says, else as the statistics say, else measured."""
    if config.action not in dataset.features:
        return None
    k = config.rows_per_frame

    def find() -> Bounds:
        if about.action_low is not None and about.action_high is not None:
            low, high = np.asarray(about.action_low), np.asarray(about.action_high)
        elif ours:
            low, high = -np.ones(1), np.ones(1)
        else:
            stated = read_bounds(dataset, config.action, config.follow_links)
            low, high = stated or measured(partial(reader.actions, place) for place in places)
        if config.actions == "sum":
            return low * k, high * k
        return (np.tile(low, k), np.tile(high, k)) if len(low) > 1 else (low, high)

    return find
