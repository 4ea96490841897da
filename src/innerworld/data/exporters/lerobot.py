"""Export to LeRobotDataset v3.0 without the lerobot package; legal at every moment, whatever kills the export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from innerworld.data.exporters.begun import begin
from innerworld.data.exporters.config import Played, episodes_to_write, played, scaled, spec_to_write
from innerworld.data.exporters.lerobot_stats import ALL, Stats, joined, of_frames, of_vectors
from innerworld.data.exporters.tables import lists, write_parquet
from innerworld.data.exporters.video import FilmConfig, check_cameras, fps_of, write_film
from innerworld.data.importers.parquet import read_parquet
from innerworld.data.store.store import Store
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.types import Spec

VERSION = "v3.0"
FILES_PER_CHUNK = 1000
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, VIDEO = f"data/{FILE}.parquet", "videos/{video_key}/" + FILE + ".mp4"
EPISODES = f"meta/episodes/{FILE}.parquet"
OURS = "meta/innerworld.json"
ROW = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
TASK = "task"
CODECS = {"h264": ("h264", "yuv420p"), "lossless": ("h264", "gbrp"), "av1": ("av1", "yuv420p")}


class LeRobotExport(FilmConfig):
    """A LeRobot dataset."""

    task: str | None = Field(default=None, description="what the robot was told; null: as the store says")
    robot: str | None = Field(default=None, description="robot_type; null: the environment's name")


@dataclass(frozen=True)
class Export:
    """What stays the same from episode to episode."""

    store: Store
    out: Path
    config: LeRobotExport
    spec: Spec
    fps: float
    tasks: tuple[str, ...]

    @property
    def cameras(self) -> list[str]:
        return self.spec.images()

    @property
    def vectors(self) -> list[str]:
        return [name for name in self.spec.vectors() if name != TASK or len(self.tasks) == 1]

    @property
    def choices(self) -> int | None:
        return self.spec.action if self.spec.discrete else None


def write_lerobot(store: Store, out: Path, config: LeRobotExport, progress: Callable[[int], None]) -> None:
    """An episode of t actions gives t+1 rows; its last row repeats the action, which had no outcome.

    `next.done` is true where the world ended, and in the last row. Every file is renamed to its place when it is
    complete, and `info.json` counts the episode last. Raises `UserError` for what a dataset cannot hold.
    """
    spec = spec_to_write(store, config)
    check_cameras(spec)
    for name in spec.obs:
        if "/" in name:
            raise UserError(f"sensor {name!r}: a feature's name has no '/': leave it out with sensors=")
    export = Export(store, out, config, spec, fps_of(store, config), _tasks(store, spec, config))
    chosen = episodes_to_write(store, config)
    about = store.meta.about if scaled(store, config) else _unscaled(store)
    with lock(out, "export"):
        begin(store, out, config, OURS, {"about": about.model_dump(mode="json"), "choices": export.choices})
        done, rows, stats = _resumed(export)
        for number, i in list(enumerate(chosen))[done:]:
            episode = played(store, i, spec, config)
            found = _write_files(export, number, rows, episode)
            rows += episode.length + 1
            stats = joined(stats, found)
            _write_json(out / "meta/stats.json", {k: {n: v.tolist() for n, v in s.items()} for k, s in stats.items()})
            _write_json(out / "meta/info.json", _info(export, number + 1, rows))
            progress(number + 1)


def key_of(sensor: str, camera: bool) -> str:
    """The name of a sensor's feature."""
    return f"observation.images.{sensor}" if camera else f"observation.{sensor}"


# ---------------------------------------------------------------------- the dataset


def _tasks(store: Store, spec: Spec, config: LeRobotExport) -> tuple[str, ...]:
    """What `task_index` counts. Several only where a sensor says which."""
    known = store.meta.about.more.get("tasks")
    if config.task is not None:
        return (config.task,)
    if isinstance(known, list | tuple) and known:
        texts = tuple(str(text) for text in known)
        if len(texts) == 1 or spec.obs.get(TASK) == (1,):
            return tuple(f"{text} ({i})" if text in texts[:i] else text for i, text in enumerate(texts))
    return (store.meta.about.env or "unknown",)


def _unscaled(store: Store) -> Any:
    return store.meta.about.model_copy(update={"action_low": None, "action_high": None})


def _resumed(export: Export) -> tuple[int, int, dict[str, Stats]]:
    """How many episodes there are already, how many rows, and the statistics of them. Writes the tasks first."""
    file = export.out / "meta/info.json"
    if not file.exists():
        # As pandas would write an index, which readers look the tasks up in.
        note = {
            "index_columns": [TASK],
            "column_indexes": [],
            "columns": [
                {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
                {"name": TASK, "field_name": TASK, "pandas_type": "unicode", "numpy_type": "object"},
            ],
            "creator": {"library": "innerworld", "version": "1"},
            "pandas_version": "2.0.0",
        }
        columns = {"task_index": np.arange(len(export.tasks)), TASK: list(export.tasks)}
        write_parquet(export.out / "meta/tasks.parquet", columns, {b"pandas": json.dumps(note).encode()})
        return 0, 0, {}
    try:
        info = json.loads(file.read_bytes())
        done, rows = int(info["total_episodes"]), int(info["total_frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    stats: dict[str, Stats] = {}
    for number in range(done):
        stats = joined(stats, _read_stats(export, number))
    return done, rows, stats


def _info(export: Export, episodes: int, rows: int) -> dict[str, Any]:
    whole = export.fps == round(export.fps)
    return {
        "codebase_version": VERSION,
        "robot_type": export.config.robot or export.store.meta.about.env or None,
        "total_episodes": episodes,
        "total_frames": rows,
        "total_tasks": len(export.tasks),
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": round(export.fps) if whole else export.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA,
        "video_path": VIDEO if export.cameras else None,
        "features": _features(export),
    }


def _features(export: Export) -> dict[str, Any]:
    names = export.store.meta.about.more.get("names")
    known = names if isinstance(names, dict) else {}
    found: dict[str, Any] = {}
    for camera in export.cameras:
        y, x, _ = export.spec.obs[camera]
        found[key_of(camera, True)] = {
            "dtype": "video",
            "shape": [y, x, 3],
            "names": ["height", "width", "channels"],
            "info": _film_info(export, y, x),
        }
    for name in export.vectors:
        found[key_of(name, False)] = {
            "dtype": "float32",
            "shape": list(export.spec.obs[name]),
            "names": known.get(name),
        }
    if export.choices is not None:
        found["action"] = {"dtype": "int64", "shape": [1], "names": ["choice"]}
    elif export.spec.action:
        found["action"] = {"dtype": "float32", "shape": [export.spec.action], "names": known.get("action")}
    found["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
    found["next.done"] = {"dtype": "bool", "shape": [1], "names": None}
    return found | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in ROW.items()}


def _film_info(export: Export, y: int, x: int) -> dict[str, Any]:
    from innerworld.data.video.writer import keeps_colours

    codec, pix_fmt = CODECS[export.config.codec]
    return {
        "video.height": y,
        "video.width": x,
        "video.codec": codec,
        "video.pix_fmt": "yuv444p" if export.config.codec == "h264" and keeps_colours(y, x) else pix_fmt,
        "video.is_depth_map": False,
        "video.fps": export.fps,
        "video.channels": 3,
        "has_audio": False,
    }


# ---------------------------------------------------------------------- an episode


def _write_files(export: Export, number: int, first: int, episode: Played) -> dict[str, Stats]:
    """Videos, then rows, then what tells of them: a reader never follows a name to a file that is not there."""
    at = {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}
    t = episode.length + 1
    stats: dict[str, Stats] = {}
    told: dict[str, Any] = {}
    for camera in export.cameras:
        key = key_of(camera, True)
        path = export.out / VIDEO.format(video_key=key, **at)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_film(path, episode.obs[camera], export.fps, export.config)
        stats[key] = of_frames(episode.obs[camera])
        told |= {f"videos/{key}/{name}": value for name, value in at.items()}
        told |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": t / export.fps}
    rows = _rows(export, number, first, episode)
    stats |= {key: of_vectors(value.reshape(t, -1)) for key, value in rows.items()}
    tasks = sorted({int(index) for index in rows["task_index"]})
    write_parquet(
        export.out / DATA.format(**at),
        {key: lists(value) if value.ndim == 2 and value.shape[1] > 1 else value.ravel() for key, value in rows.items()},
    )
    line = {
        "episode_index": number,
        "tasks": [export.tasks[index] for index in tasks],
        "length": t,
        **{f"data/{name}": value for name, value in at.items()},
        "dataset_from_index": first,
        "dataset_to_index": first + t,
        **told,
        **{f"meta/episodes/{name}": value for name, value in at.items()},
        **{f"stats/{key}/{name}": value.tolist() for key, each in stats.items() for name, value in each.items()},
        **({} if episode.seed is None else {"innerworld/seed": episode.seed}),
    }
    write_parquet(export.out / EPISODES.format(**at), {name: [value] for name, value in line.items()})
    return stats


def _rows(export: Export, number: int, first: int, episode: Played) -> dict[str, np.ndarray]:
    """The table of an episode: `t+1` rows."""
    t = episode.length + 1
    rows = {key_of(name, False): episode.obs[name] for name in export.vectors}
    if episode.action is not None:
        rows["action"] = np.concatenate([episode.action, episode.action[-1:]])
    rows["next.reward"] = np.append(episode.reward, np.float32(0))
    rows["next.done"] = np.append(episode.terminated, True)
    rows["timestamp"] = (np.arange(t) / export.fps).astype(np.float32)
    rows["frame_index"] = np.arange(t)
    rows["episode_index"] = np.full(t, number)
    rows["index"] = first + np.arange(t)
    rows["task_index"] = np.zeros(t, np.int64)
    if len(export.tasks) > 1:
        rows["task_index"] = episode.obs[TASK].reshape(-1).astype(np.int64)
        if not 0 <= rows["task_index"].min() <= rows["task_index"].max() < len(export.tasks):
            raise UserError(f"episode {number}: sensor {TASK!r} leaves 0 to {len(export.tasks) - 1}, its tasks")
    return rows


def _read_stats(export: Export, number: int) -> dict[str, Stats]:
    at = {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}
    row = read_parquet(export.out / EPISODES.format(**at)).to_pylist()[0]
    keys = [name.removeprefix("stats/").removesuffix("/min") for name in row if name.endswith("/min")]
    return {key: {name: np.array(row[f"stats/{key}/{name}"]) for name in ALL} for key in keys}


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, [json.dumps(value, indent=4, ensure_ascii=False).encode() + b"\n"])
