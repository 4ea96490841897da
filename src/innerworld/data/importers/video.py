"""Folders of videos or of folders of pictures, an episode each; with a table of what was done, or without actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from pydantic import Field

from innerworld.data.importers.bring import measured
from innerworld.data.importers.fit import picture
from innerworld.data.importers.inside import check_room, inside
from innerworld.data.importers.picture import decode
from innerworld.data.importers.recording import Episode, ImportConfig, Recording, Take
from innerworld.data.importers.table import SUFFIXES, Table, read_table
from innerworld.data.store.store import About
from innerworld.errors import UserError

VIDEOS = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v")
PICTURES = (".png", ".jpg", ".jpeg")
PIXELS = "pixels"
NO_SENSORS = ("episode", "episode_index", "frame", "frame_index", "index", "time", "timestamp", "task_index")
BLOCK = 64
"""Frames that are decoded before they are shrunk: a film is large, and its small copy is not."""


class VideoConfig(ImportConfig):
    """Videos `NAME.mp4`, or `NAME.SENSOR.mp4` of several cameras, or a folder `NAME` of pictures in their order."""

    table: str | None = Field(
        default=None,
        description="one table for all, with columns episode (NAME, or its number) and frame; "
        "null: NAME.parquet, NAME.csv or NAME.npz beside each video, where there is one",
    )
    fps: float | None = Field(default=None, gt=0, description="frames per second, where the videos do not say it right")


@dataclass(frozen=True)
class Films:
    """What belongs to one episode."""

    name: str
    number: int
    sensors: Mapping[str, Path]  # a video, or a folder of pictures
    table: Path | None


def open_video(path: Path, config: VideoConfig) -> Recording:
    """Open a folder of videos or of folders of pictures, or one video.

    A table has a row for each frame, of which the last action is not used, or one fewer. `action` (or `action.0`,
    `action.1`, ...), `reward` and `terminated` are what they say, and other columns of numbers are sensors. Without
    `action` the store has actions of size 0.
    """
    films = _films(path, config)
    shared = None
    if config.table is not None:
        root = path if path.is_dir() else path.parent
        shared = lru_cache(1)(partial(_shared, inside(root, config.table, config.follow_links), config))
        shared()
    episodes = [Episode(each.name, partial(_take, each, shared, config)) for each in films]
    about = About(env=path.stem, fps=config.fps or _fps(films), more={"source": path.name})
    acted = [partial(_action, each, shared, config) for each in films if shared is not None or each.table is not None]
    return Recording(about, episodes, bounds=partial(measured, acted) if acted else None)


def looks_like_video(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in VIDEOS
    return any(_is_video(file) for file in path.iterdir()) or bool(_picture_folders(path))


# ---------------------------------------------------------------------- which files


def _films(path: Path, config: VideoConfig) -> list[Films]:
    if path.is_file():
        return [Films(path.name, 0, {PIXELS: path}, _beside(path.parent, path.stem, config))]
    names = [file.name for file in path.iterdir() if _is_video(file)]
    folders = [] if names else [folder.name for folder in _picture_folders(path)]
    if not names and not folders:
        raise UserError(f"{path} has no videos ({', '.join(VIDEOS)}) and no folders of pictures")
    episodes: dict[str, dict[str, Path]] = {}
    for name in folders:
        episodes[name] = {PIXELS: inside(path, name, config.follow_links)}
    for name in names:
        episode, sensor = _split(Path(name).stem, [Path(each).stem for each in names])
        if sensor in episodes.setdefault(episode, {}):
            raise UserError(f"{path} has {name} and {episodes[episode][sensor].name}: one of them is too much")
        episodes[episode][sensor] = inside(path, name, config.follow_links)
    ordered = sorted(episodes, key=_natural)
    return [
        Films(_called(name, episodes[name]), i, episodes[name], _beside(path, name, config))
        for i, name in enumerate(ordered)
    ]


def _called(name: str, sensors: Mapping[str, Path]) -> str:
    return next(iter(sensors.values())).name if len(sensors) == 1 else name


def _split(stem: str, stems: Sequence[str]) -> tuple[str, str]:
    """`000.left` is the camera `left` of episode `000` where `000` has several; `take.2` alone is an episode's name."""
    name, dot, sensor = stem.rpartition(".")
    several = dot and sum(other.rpartition(".")[0] == name for other in stems) > 1
    return (name, sensor) if several and not sensor.isdecimal() else (stem, PIXELS)


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEOS and not file.name.startswith(".") and file.is_file()


def _picture_folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir() and any(map(_is_picture, entry.iterdir()))]


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in PICTURES and not file.name.startswith(".")


def _beside(folder: Path, name: str, config: VideoConfig) -> Path | None:
    if config.table is not None:
        return None
    found = [name + suffix for suffix in SUFFIXES if (folder / (name + suffix)).is_file()]
    if len(found) > 1:
        raise UserError(f"{folder} has {' and '.join(found)}: one of them is too much")
    return inside(folder, found[0], config.follow_links) if found else None


def _natural(name: str) -> list[tuple[int, str]]:
    """`take_2` before `take_10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


# ---------------------------------------------------------------------- reading


def _take(films: Films, shared: Callable[[], Table] | None, config: VideoConfig) -> Take:
    seen = {name: _frames(name, file, config) for name, file in films.sensors.items()}
    lengths = {name: len(frames) for name, frames in seen.items()}
    if len(set(lengths.values())) != 1:
        raise UserError(f"the cameras have different numbers of frames: {lengths}")
    frames = next(iter(lengths.values()))
    table = _table(films, shared, config)
    for name, column in table.items():
        if column.ndim < 1 or len(column) not in (frames, frames - 1):
            raise UserError(
                f"{name!r} has shape {column.shape} in the table, but there are {frames} frames: expected "
                f"{frames} rows, or {frames - 1} of them"
            )
    action, reward, terminated = (table.pop(name, None) for name in ("action", "reward", "terminated"))
    known = {name for name in (*(config.sensors or ()), *table) if name in table and name not in NO_SENSORS}
    for name in known:
        if name in seen:
            raise UserError(f"{name!r} is both a video and a column of the table")
        if table[name].dtype.kind in "biuf" or name in (config.sensors or ()):
            seen[name] = table[name]
    cut = lambda row: None if row is None else row[: frames - 1]
    acted = cut(action)
    return Take(seen, acted[:, None] if acted is not None and acted.ndim == 1 else acted, cut(reward), cut(terminated))


def _action(films: Films, shared: Callable[[], Table] | None, config: VideoConfig) -> np.ndarray | None:
    action = _table(films, shared, config).get("action")
    return action[:, None] if action is not None and action.ndim == 1 else action


def _frames(sensor: str, file: Path, config: VideoConfig) -> np.ndarray:
    if file.is_dir():
        files = sorted((each.name for each in file.iterdir() if _is_picture(each)), key=_natural)
        total = len(files)
        safe = [inside(file, name, config.follow_links) for name in files]
        read = lambda start, stop: _stacked([decode(each) for each in safe[start:stop]])
    else:
        from innerworld.data.video import Video

        video = Video(file)
        total = len(video)
        read = lambda start, stop: video.frames(range(start, stop))
    if total < 2:
        raise UserError(f"it has {total} frames: at least 2 are needed")
    first = picture(sensor, read(0, 1), config)[0]
    check_room(file.name, (total, *first.shape), 1, config.most_bytes)
    out = np.empty((total, *first.shape), np.uint8)
    for start in range(0, total, BLOCK):
        block = picture(sensor, read(start, min(start + BLOCK, total)), config)
        if block.shape[1:] != first.shape:
            raise UserError(f"its pictures change their size from {first.shape} to {block.shape[1:]}")
        out[start : start + len(block)] = block
    return out


def _stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {each.shape for each in pictures}
    if len(shapes) != 1:
        raise UserError(f"its pictures are of different sizes: {', '.join(map(str, sorted(shapes)))}")
    return np.stack(pictures)


def _fps(films: Sequence[Films]) -> float | None:
    """Of the first video that can be read: whoever reads the others is told what is wrong with them."""
    for each in films:
        file = next(iter(each.sensors.values()))
        if file.is_dir():
            return None
        from innerworld.data.video import Video

        try:
            return float(Video(file).fps)
        except UserError:
            continue
    return None


# ---------------------------------------------------------------------- the table


def _table(films: Films, shared: Callable[[], Table] | None, config: VideoConfig) -> Table:
    """The rows of one episode, by the names of columns."""
    if shared is not None:
        return _rows_of(films, shared())
    return {} if films.table is None else read_table(films.table, config.most_bytes)


def _shared(file: Path, config: VideoConfig) -> Table:
    table = read_table(file, config.most_bytes)
    for name in ("episode", "frame"):
        if name not in table:
            raise UserError(f"{file} has no column {name!r}; there are: {', '.join(table)}")
        if len({len(column) for column in table.values()}) != 1 or table[name].ndim != 1:
            raise UserError(f"{file}: its columns have different lengths")
    return table


def _rows_of(films: Films, table: Table) -> Table:
    episode = table["episode"]
    stem = Path(films.name).stem
    mine = episode == films.number if episode.dtype.kind in "biuf" else (episode == films.name) | (episode == stem)
    rows = np.flatnonzero(mine)
    frame = table["frame"][rows]
    if not len(rows):
        raise UserError(f"the table has no rows of episode {films.name} (number {films.number})")
    order = np.argsort(frame, kind="stable")
    if not np.array_equal(frame[order], np.arange(len(rows))):
        raise UserError("the table's frames of this episode are not 0, 1, 2, ...")
    return {name: column[rows[order]] for name, column in table.items()}
