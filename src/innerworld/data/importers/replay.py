"""Zarr replays, as Diffusion Policy writes them: all steps in `data/*`, the ends of episodes in `meta/episode_ends`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from innerworld.data.importers.bring import measured
from innerworld.data.importers.inside import check_room, inside
from innerworld.data.importers.recording import Bounds, Episode, ImportConfig, Recording, Take
from innerworld.data.importers.zarr import ZarrArray
from innerworld.data.store.store import About
from innerworld.errors import UserError

PUSHT_SIDE = 512.0
"""Pixels of the simulation: an action is a place on a square table of this side."""

PUSHT = {"pixels": ("img", (-1, -1, 3)), "state": ("state", (5,))}
"""Sensors of Push-T: the arrays they come from, and the shape of a row, -1 for any size."""


class ReplayConfig(ImportConfig):
    """A Zarr v2 folder with `data/*` and `meta/episode_ends`."""

    action: str | None = Field(default="action", description="array of actions; null: there are none")
    reward: str | None = Field(default=None, description="array of rewards; null: there are none")
    fps: float | None = Field(default=None, gt=0, description="steps per second, which the folder does not say")


class PushTConfig(ImportConfig):
    """The human Push-T demonstrations of Diffusion Policy."""

    sensors: tuple[str, ...] | None = Field(default=("pixels", "state"), description="sensors to keep; null: all")


def open_replay(path: Path, config: ReplayConfig) -> Recording:
    """Open any such folder. Every array but action and reward is a sensor, named as it is there."""
    arrays, stops = _arrays(path, config.follow_links)
    for name in (config.action, config.reward):
        if name is not None and name not in arrays:
            raise UserError(f"{path} has no array data/{name}; there are: {', '.join(arrays)}")
    sensors = {name: array for name, array in arrays.items() if name not in (config.action, config.reward)}
    about = About(env=path.stem, fps=config.fps, more={"source": path.name})
    return _recording(path, config, about, sensors, _of(arrays, config.action), _of(arrays, config.reward), stops)


def open_pusht(path: Path, config: PushTConfig) -> Recording:
    """Open `pusht_cchi_v7_replay.zarr` (arXiv 2303.04137): `pixels` 96 x 96, `state` agent x y, block x y, angle.

    Actions are targets of 0 to 512 pixels. The log has neither reward nor termination.
    """
    arrays, stops = _arrays(path, config.follow_links)
    needed = {**dict(PUSHT.values()), "action": (2,)}
    for name, shape in needed.items():
        if name not in arrays:
            raise UserError(f"{path} has no array data/{name}; there are: {', '.join(arrays)}")
        found = arrays[name].shape
        if len(found) != len(shape) + 1 or any(
            want not in (-1, got) for want, got in zip(shape, found[1:], strict=True)
        ):
            inner = ", ".join("any" if size < 0 else str(size) for size in shape)
            raise UserError(f"{path}: data/{name} has shape {found}, expected (steps, {inner})")
    named = {sensor: arrays[name] for sensor, (name, _) in PUSHT.items()}
    rest = {name: array for name, array in arrays.items() if name not in needed}
    about = About(env="pusht", policy="human", fps=10.0, more={"source": path.name, "paper": "arXiv 2303.04137"})
    opened = _recording(path, config, about, {**named, **rest}, arrays["action"], None, stops)
    return Recording(about, opened.episodes, bounds=lambda: (np.zeros(2), np.full(2, PUSHT_SIDE)))


def looks_like_replay(path: Path) -> bool:
    return (path / "meta" / "episode_ends" / ".zarray").is_file()


def _arrays(path: Path, follow_links: bool) -> tuple[dict[str, ZarrArray], np.ndarray]:
    """All arrays, each at least as long as the episodes, and where those end."""
    if not (path / "meta" / "episode_ends").is_dir() or not (path / "data").is_dir():
        raise UserError(f"{path} is not a Zarr v2 array of episodes: it has no data and meta/episode_ends")
    ends = ZarrArray(inside(path, "meta/episode_ends", follow_links), follow_links)
    if len(ends.shape) != 1 or ends.dtype.kind not in "iu" or len(ends) > 100_000_000:
        raise UserError(f"{path}: meta/episode_ends is not a list of whole numbers")
    stops = ends.read(0, len(ends)).astype(np.int64)
    if not len(stops) or np.diff(stops, prepend=0).min() < 1:
        raise UserError(f"{path}: meta/episode_ends does not grow from episode to episode")
    names = sorted(entry.name for entry in (path / "data").iterdir() if entry.is_dir())
    arrays = {name: ZarrArray(inside(path, f"data/{name}", follow_links), follow_links) for name in names}
    for name, array in arrays.items():
        if len(array) < stops[-1]:
            raise UserError(f"{path}: data/{name} has {len(array)} steps, the episodes end at {stops[-1]}")
    return arrays, stops


def _recording(
    path: Path,
    config: ImportConfig,
    about: About,
    sensors: Mapping[str, ZarrArray],
    action: ZarrArray | None,
    reward: ZarrArray | None,
    stops: np.ndarray,
) -> Recording:
    kept = {name: array for name, array in sensors.items() if config.sensors is None or name in config.sensors}
    chosen = kept if len(kept) == len(config.sensors or kept) else sensors  # an unknown name is told by who fits

    def take(start: int, stop: int) -> Take:
        for name, array in chosen.items():
            check_room(f"data/{name}", (stop - start, *array.shape[1:]), array.dtype.itemsize, config.most_bytes)
        return Take(
            {name: array.read(start, stop) for name, array in chosen.items()},
            # What came of an episode's last action was not recorded.
            None if action is None else action.read(start, stop - 1),
            None if reward is None else reward.read(start, stop - 1),
        )

    def bounds() -> Bounds:
        assert action is not None
        return measured(partial(action.read, start, stop - 1) for start, stop in spans)

    spans = list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))
    episodes: Sequence[Episode] = [
        Episode(f"{path.name} episode {i}", partial(take, start, stop)) for i, (start, stop) in enumerate(spans)
    ]
    return Recording(about, episodes, bounds=None if action is None else bounds)


def _of(arrays: Mapping[str, ZarrArray], name: str | None) -> ZarrArray | None:
    return None if name is None else arrays[name]
