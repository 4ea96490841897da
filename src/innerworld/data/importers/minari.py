"""Minari data sets (minari.farama.org): a group for each episode in HDF5, spaces in `metadata.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from innerworld.data.importers.bring import measured
from innerworld.data.importers.h5 import child, leaves, length, open_h5, place, rows
from innerworld.data.importers.inside import inside
from innerworld.data.importers.recording import Bounds, Episode, ImportConfig, Recording, Take
from innerworld.data.store.store import About
from innerworld.errors import UserError

PREFIX = "episode_"
MOST_JSON = 50_000_000


class MinariConfig(ImportConfig):
    """The folder of a data set, or its `data` folder."""

    fps: float | None = Field(
        default=None, gt=0, description="observations per second, which the data set does not say"
    )


def open_minari(path: Path, config: MinariConfig) -> Recording:
    """Open a data set in the HDF5 format. Nested observations become `robot.arm`, nested actions are joined.

    Actions are scaled by the space that the data set declares, and by their own smallest and largest values where
    that has no bounds.
    """
    folder = path / "data" if (path / "data").is_dir() else path
    about = _metadata(folder, config)
    if about.get("data_format", "hdf5") != "hdf5":
        raise UserError(
            f"{path} has data_format {about['data_format']!r}; only hdf5 can be read: export it with Minari"
        )
    files = [inside(folder, file.name, config.follow_links) for file in sorted(folder.glob("*.hdf5"))]
    if not files:
        raise UserError(f"{path} has no .hdf5 files")
    where = [(file, name) for file in files for name in _names(file, [each.name for each in files])]
    where.sort(key=lambda each: (int(each[1].removeprefix(PREFIX)), each[0].name))
    if not where:
        raise UserError(f"{path} has no groups {PREFIX}0, {PREFIX}1, ...")
    space = _space(about.get("action_space"))
    choices = _choices(space)
    start = int(space.get("start", 0)) if choices is not None else 0
    episodes = [
        Episode(f"{file.name} {name}", partial(_take, file, name, choices is not None, start, config))
        for file, name in where
    ]
    declared = _declared(space)
    bounds = lambda: declared or measured(partial(_actions_of, file, name, config) for file, name in where)
    told = About(
        env=_env(about) or path.name,
        policy=str(about.get("algorithm_name", "")),
        fps=config.fps,
        more={"source": str(about.get("dataset_id", path.name))},
    )
    return Recording(told, episodes, choices, None if choices is not None else bounds)


def looks_like_minari(path: Path) -> bool:
    return any((folder / "main_data.hdf5").is_file() for folder in (path, path / "data"))


def _names(file: Path, known: list[str]) -> list[str]:
    """The episodes of one file. One that links to another file of this folder is found there."""
    import h5py

    with open_h5(file) as root:
        found = []
        for name in root:
            if not name.startswith(PREFIX) or not name.removeprefix(PREFIX).isdecimal() or len(name) > 30:
                continue
            link = root.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink) and Path(link.filename).name in known:
                continue
            found.append(name)
        return found


def _take(file: Path, name: str, discrete: bool, start: int, config: MinariConfig) -> Take:
    with open_h5(file) as root:
        episode = _episode(root, name)
        found = {below.replace("/", "."): dataset for below, dataset in leaves(episode, "observations").items()}
        named = {_readable(below) or "observation": dataset for below, dataset in found.items()}
        kept = {sensor: dataset for sensor, dataset in named.items() if dataset.dtype.kind in "biuf"} or named
        if config.sensors is not None and all(sensor in kept for sensor in config.sensors):
            kept = {sensor: kept[sensor] for sensor in config.sensors}
        obs = {sensor: rows(dataset, 0, length(dataset), config.most_bytes) for sensor, dataset in kept.items()}
        action = _actions(episode, config)
        reward, ended = (_row(episode, key, config) for key in ("rewards", "terminations"))
        seed = episode.attrs.get("seed")
    if discrete:
        action = action.reshape(len(action), -1)
        if action.shape[1] != 1 or action.dtype.kind not in "iu":
            raise UserError(f"actions have shape {action.shape} and type {action.dtype}, expected one choice each")
        action = action[:, 0].astype(np.int64) - start
    return Take(obs, action, reward, ended, _seed(seed))


def _episode(root: Any, name: str) -> Any:
    import h5py

    episode = child(root, name)
    if not isinstance(episode, h5py.Group):
        raise UserError(f"{place(root, name)} is no group")
    return episode


def _actions_of(file: Path, name: str, config: MinariConfig) -> np.ndarray:
    with open_h5(file) as root:
        return _actions(_episode(root, name), config)


def _actions(episode: Any, config: MinariConfig) -> np.ndarray:
    parts = [rows(each, 0, length(each), config.most_bytes) for each in leaves(episode, "actions").values()]
    if not parts or len({len(part) for part in parts}) != 1:
        raise UserError(f"{place(episode, 'actions')} has parts of different lengths, or none")
    if len(parts) == 1 and parts[0].ndim == 1:
        return parts[0][:, None]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _row(episode: Any, key: str, config: MinariConfig) -> np.ndarray | None:
    if key not in episode:
        return None
    found = leaves(episode, key).get("")
    return None if found is None else rows(found, 0, length(found), config.most_bytes)


def _readable(name: str) -> str:
    """Minari calls the parts of a tuple `_index_0`, ..."""
    return ".".join(part.removeprefix("_index_") for part in name.split("."))


def _seed(value: Any) -> int | None:
    """What the episode was reset with; Minari writes the text "None" where that is unknown."""
    return int(value) if isinstance(value, np.integer | int) and 0 <= int(value) < 2**63 else None


# ---------------------------------------------------------------------- metadata.json


def _metadata(folder: Path, config: MinariConfig) -> dict[str, Any]:
    """What the data set says of itself; an old one, without the file, says nothing."""
    file = inside(folder, "metadata.json", config.follow_links)
    if not file.is_file():
        return {}
    if file.stat().st_size > MOST_JSON:
        raise UserError(f"{file} is too large: {file.stat().st_size} bytes")
    return _json(file.read_bytes(), str(file))


def _space(text: Any) -> dict[str, Any]:
    return (
        _json(text, "metadata.json: action_space") if isinstance(text, str) else text if isinstance(text, dict) else {}
    )


def _json(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is corrupt: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{where} is corrupt: it is no JSON object")
    return values


def _choices(space: Mapping[str, Any]) -> int | None:
    if space.get("type") != "Discrete":
        return None
    n, start = space.get("n"), space.get("start", 0)
    if not isinstance(n, int) or not isinstance(start, int) or not 1 <= n <= 1_000_000 or abs(start) > 2**40:
        raise UserError(f"metadata.json: action_space has {n!r} choices from {start!r}")
    return n


def _declared(space: Mapping[str, Any]) -> Bounds | None:
    if space.get("type") != "Box":
        return None
    try:
        low, high = (np.asarray(space[key], np.float64).reshape(-1) for key in ("low", "high"))
    except (KeyError, TypeError, ValueError):
        return None
    if len(low) != len(high) or not len(low) or not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
        return None
    return low, high


def _env(about: Mapping[str, Any]) -> str:
    spec = about.get("env_spec")
    try:
        values = json.loads(spec) if isinstance(spec, str) else spec
    except (ValueError, RecursionError):
        return ""
    return str(values.get("id") or "") if isinstance(values, dict) else ""
