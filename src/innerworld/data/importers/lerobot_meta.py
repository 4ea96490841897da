"""What a LeRobot dataset says of itself (v2.0, v2.1, v3.0): features, tasks, and where each episode is to be found."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from innerworld.data.importers.inside import inside
from innerworld.data.importers.parquet import read_parquet
from innerworld.errors import UserError

FIELD = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
MOST_EPISODES = 10_000_000


@dataclass(frozen=True)
class Feature:
    """A column of the table, or a camera."""

    key: str  # observation.images.front
    sensor: str  # front
    kind: Literal["video", "image", "vector"]
    shape: tuple[int, ...]
    names: Any = None


@dataclass(frozen=True)
class Stretch:
    """The part of a video file that belongs to one episode, in seconds from the file's first frame."""

    file: str
    start: float = 0.0
    stop: float | None = None  # None: all that follows
    last: float | None = None  # where the last episode in the file stops


@dataclass(frozen=True)
class Place:
    """Where an episode is. Files are named relative to the dataset."""

    index: int
    length: int  # rows of the table
    table: str
    videos: Mapping[str, Stretch]  # by feature
    seed: int | None = None
    fault: str = ""  # why the metadata cannot be believed


@dataclass(frozen=True)
class Dataset:
    """`meta/` of a dataset."""

    root: Path
    version: str
    robot: str
    fps: float
    features: Mapping[str, Feature]
    tasks: tuple[str, ...]  # by task_index
    places: tuple[Place, ...]

    def sensors(self) -> dict[str, Feature]:
        """What is observed, by the name of the sensor."""
        return {f.sensor: f for f in self.features.values() if f.key.startswith("observation.")}


def read_dataset(root: Path, data_path: str | None, video_path: str | None, follow_links: bool) -> Dataset:
    """Read and check `meta/`. `data_path` and `video_path` replace the templates of `info.json`.

    Raises `UserError` that names the file. Whether the files of an episode are there is found when it is read.
    """
    info = read_json(root, "meta/info.json", follow_links)
    version = str(info.get("codebase_version", "")).removeprefix("v")
    if version.partition(".")[0] not in ("2", "3"):
        raise UserError(f"{root}/meta/info.json is of version {version or 'unknown'}: v2.0, v2.1 and v3.0 are read")
    fps = info.get("fps")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= 10_000:
        raise UserError(f"{root}/meta/info.json: fps is {fps!r}, expected frames per second")
    features = _features(root, info.get("features"))
    data, video = (_template(root, info, *each) for each in (("data_path", data_path), ("video_path", video_path)))
    cameras = [f.key for f in features.values() if f.kind == "video"]
    if cameras and not video:
        raise UserError(f"{root}/meta/info.json names videos but no video_path")
    if version.startswith("3"):
        places, tasks = _places_3(root, data, video, cameras, follow_links), _tasks_3(root, follow_links)
    else:
        places, tasks = _places_2(root, info, data, video, cameras, follow_links), _tasks_2(root, follow_links)
    places = sorted([*_doubted(places, fps), *_gaps(places, info.get("total_episodes"))], key=lambda place: place.index)
    return Dataset(root, version, str(info.get("robot_type") or ""), float(fps), features, tasks, tuple(places))


def read_json(root: Path, name: str, follow_links: bool) -> dict[str, Any]:
    """An object. Raises `UserError` that names the file."""
    values = _json(root, name, follow_links)[0]
    if not isinstance(values, dict):
        raise UserError(f"{root / name} holds no JSON object")
    return values


def read_lines(root: Path, name: str, follow_links: bool) -> list[dict[str, Any]]:
    """JSON lines. Raises `UserError` that names the file."""
    lines = _json(root, name, follow_links, lines=True)
    if not all(isinstance(line, dict) for line in lines):
        raise UserError(f"{root / name}: not every line is a JSON object")
    return lines


def fill(root: Path, template: str, **values: int | str) -> str:
    """A template such as `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet`, of fields that are known."""

    def field(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UserError(f"{root}: the path {template!r} asks for {match[1]}; known: {', '.join(values)}")
        return str(values[match[1]]).zfill(int(match[2] or 0))

    filled = FIELD.sub(field, template)
    if "{" in filled or "}" in filled:
        raise UserError(f"{root}: the path {template!r} is not understood")
    return filled


def _json(root: Path, name: str, follow_links: bool, lines: bool = False) -> list[Any]:
    path = inside(root, name, follow_links)
    try:
        text = path.read_text(encoding="utf-8")
        return [json.loads(part) for part in (text.splitlines() if lines else [text]) if part.strip() or not lines]
    except FileNotFoundError as error:
        raise UserError(f"{root} is no LeRobot dataset: it has no {name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _features(root: Path, values: Any) -> dict[str, Feature]:
    if not isinstance(values, dict) or not values:
        raise UserError(f"{root}/meta/info.json names no features")
    found = {}
    for key, value in values.items():
        shape = value.get("shape") if isinstance(value, dict) else None
        if not isinstance(shape, list) or not all(isinstance(s, int) and s >= 0 for s in shape):
            raise UserError(f"{root}/meta/info.json: feature {key!r} has no shape")
        dtype = str(value.get("dtype"))
        if dtype == "string" or any(part in ("", ".", "..") for part in key.split("/")):
            continue  # words are no sensor, and a key becomes part of a path
        kind: Literal["video", "image", "vector"] = (
            "video" if dtype == "video" else "image" if dtype == "image" else "vector"
        )
        found[key] = Feature(key, key, kind, tuple(shape), value.get("names"))
    short = {key: key.removeprefix("observation.").removeprefix("images.") for key in found}
    unique = {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}
    return {key: replace(feature, sensor=unique[key]) for key, feature in found.items()}


def _template(root: Path, info: dict[str, Any], name: str, given: str | None) -> str:
    template = info.get(name) if given is None else given
    if template is not None and not isinstance(template, str):
        raise UserError(f"{root}/meta/info.json: {name} is not a text")
    if name == "data_path" and not template:
        raise UserError(f"{root}/meta/info.json has no data_path")
    return template or ""


def _places_2(
    root: Path, info: dict[str, Any], data: str, video: str, cameras: list[str], follow_links: bool
) -> list[Place]:
    chunk = info.get("chunks_size", 1000)
    if not isinstance(chunk, int) or chunk < 1:
        raise UserError(f"{root}/meta/info.json: chunks_size is {chunk!r}")
    places = []
    for line in read_lines(root, "meta/episodes.jsonl", follow_links):
        index = _whole(line, "episode_index", f"{root}/meta/episodes.jsonl")
        at = {"episode_index": index, "episode_chunk": index // chunk}
        places.append(
            Place(
                index,
                _whole(line, "length", f"{root}/meta/episodes.jsonl"),
                fill(root, data, **at),
                {key: Stretch(fill(root, video, **at, video_key=key)) for key in cameras},
            )
        )
    return places


def _places_3(root: Path, data: str, video: str, cameras: list[str], follow_links: bool) -> list[Place]:
    places = []
    for file in sorted((root / "meta/episodes").glob("*/*.parquet")):
        name = file.relative_to(root).as_posix()
        table = read_parquet(inside(root, name, follow_links), leave=lambda column: column.startswith("stats/"))
        places += [_place_3(root, row, data, video, cameras, str(file)) for row in table.to_pylist()]
    return places


def _place_3(root: Path, row: dict[str, Any], data: str, video: str, cameras: list[str], file: str) -> Place:
    index = _whole(row, "episode_index", file)
    at = {name: _whole(row, f"data/{name}", file) for name in ("chunk_index", "file_index")}
    videos = {}
    for key in cameras:
        where = {name: _whole(row, f"videos/{key}/{name}", file) for name in ("chunk_index", "file_index")}
        start, stop = (_seconds(row, f"videos/{key}/{name}_timestamp", file) for name in ("from", "to"))
        path = fill(root, video, **where, video_key=key, episode_index=index)
        videos[key] = Stretch(path, start, stop)
    seed = row.get("innerworld/seed")
    path = fill(root, data, **at, episode_index=index)
    return Place(index, _whole(row, "length", file), path, videos, seed if isinstance(seed, int) else None)


def _tasks_2(root: Path, follow_links: bool) -> tuple[str, ...]:
    if not (root / "meta/tasks.jsonl").exists():
        return ()
    lines = read_lines(root, "meta/tasks.jsonl", follow_links)
    return _in_order({_whole(line, "task_index", f"{root}/meta/tasks.jsonl"): str(line.get("task")) for line in lines})


def _tasks_3(root: Path, follow_links: bool) -> tuple[str, ...]:
    if not (root / "meta/tasks.parquet").exists():
        return ()
    file = str(root / "meta/tasks.parquet")
    rows = read_parquet(inside(root, "meta/tasks.parquet", follow_links)).to_pylist()
    texts = [next((value for value in row.values() if isinstance(value, str)), "") for row in rows]
    return _in_order({_whole(row, "task_index", file): text for row, text in zip(rows, texts, strict=True)})


def _in_order(tasks: dict[int, str]) -> tuple[str, ...]:
    if max(tasks, default=0) > 1_000_000:
        raise UserError(f"task_index {max(tasks)} is beyond any number of tasks")
    return tuple(tasks.get(i, "") for i in range(max(tasks, default=-1) + 1))


def _doubted(places: list[Place], fps: float) -> tuple[Place, ...]:
    """In order, each with what is wrong with it: told twice, a stretch of the wrong length, or of another episode."""
    places = sorted(places, key=lambda place: place.index)
    taken: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for place in places:
        for key, stretch in place.videos.items():
            if stretch.stop is not None:
                taken.setdefault((key, stretch.file), []).append((stretch.start, stretch.stop, place.index))
    faults = {}
    for stretches in taken.values():
        stretches.sort()
        for (_, stop, one), (start, _, other) in pairwise(stretches):
            if start < stop - 0.5 / fps:
                faults[one] = f"its video overlaps that of episode {other}"
                faults[other] = f"its video overlaps that of episode {one}"
    for one, other in pairwise(places):
        if one.index == other.index:
            faults[one.index] = "the metadata name it twice"
    for place in places:
        for key, stretch in place.videos.items():
            if stretch.stop is not None and abs((stretch.stop - stretch.start) * fps - place.length) > 1.01:
                seconds = stretch.stop - stretch.start
                faults[place.index] = f"{key} is said to last {seconds:.6g} s, but it has {place.length} rows"
    lasts = {file: max(stop for _, stop, _ in stretches) for (_, file), stretches in taken.items()}
    return tuple(
        replace(
            place,
            fault=faults.get(place.index, ""),
            videos={key: replace(each, last=lasts.get(each.file)) for key, each in place.videos.items()},
        )
        for place in places
    )


def _gaps(places: list[Place], total: object) -> list[Place]:
    """Episodes that the numbers of the others skip or that info.json counts, unless it counts no more than there are:
    a place without files for each stretch of them."""
    known = sorted({place.index for place in places})
    end = max(known, default=-1) + 1
    if isinstance(total, int) and not isinstance(total, bool):
        if total <= len(known):
            return []
        end = max(end, total)
    gaps = []
    for before, after in pairwise([-1, *known, end]):
        if after > before + 1:
            which = f"episode {before + 1}" if after == before + 2 else f"the episodes {before + 1} to {after - 1}"
            gaps.append(Place(before + 1, 0, "meta", {}, fault=f"nothing is said of {which}"))
    return gaps


def _whole(values: Mapping[str, Any], name: str, file: str) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise UserError(f"{file}: {name} is {value!r}, expected a whole number")
    return value


def _seconds(values: Mapping[str, Any], name: str, file: str) -> float:
    value = values.get(name)
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UserError(f"{file}: {name} is {value!r}, expected seconds")
    return float(value)


def read_bounds(dataset: Dataset, action: str, follow_links: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """The smallest and the largest action, each `a`, as the statistics say; None without statistics."""
    if (dataset.root / "meta/stats.json").exists():
        stats = [read_json(dataset.root, "meta/stats.json", follow_links)]
    elif (dataset.root / "meta/episodes_stats.jsonl").exists():
        stats = [
            line.get("stats") or {} for line in read_lines(dataset.root, "meta/episodes_stats.jsonl", follow_links)
        ]
    else:
        return None
    size = math.prod(dataset.features[action].shape)
    try:
        low, high = (np.array([np.ravel(s[action][end]) for s in stats], np.float64) for end in ("min", "max"))
    except (KeyError, TypeError, ValueError):
        return None
    if low.shape != (len(stats), size) or high.shape != low.shape or not np.isfinite(low + high).all():
        return None
    return low.min(0), high.max(0)
