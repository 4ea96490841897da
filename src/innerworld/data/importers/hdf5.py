"""HDF5 in three layouts: D4RL (flat, ends marked), robomimic (`data/demo_0`, ...), stable-worldmodel (`ep_len`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from innerworld.data.importers.bring import measured
from innerworld.data.importers.h5 import child, is_h5, leaves, length, open_h5, place, rows
from innerworld.data.importers.inside import inside
from innerworld.data.importers.recording import Episode, ImportConfig, Recording, Take
from innerworld.data.store.store import About
from innerworld.errors import UserError

MOST_STEPS = 1_000_000_000
SUFFIXES = (".hdf5", ".h5", ".hdf")
NO_SENSORS = ("infos", "metadata", "ep_idx", "ep_len", "ep_offset", "episode_idx", "step_idx")
"""What stands beside the sensors and is none."""


class Hdf5Config(ImportConfig):
    """A file, or a folder of them."""

    action: str | None = Field(
        default=None, description="name of the actions; null: actions or action, whichever is there"
    )
    choices: int | None = Field(default=None, ge=2, description="actions are whole numbers below this; null: floats")
    episode_length: int | None = Field(
        default=None, ge=1, description="flat files without timeouts: a new episode after this many steps"
    )
    env: str = Field(default="", description="name of the world; empty: that of the file")
    fps: float | None = Field(default=None, gt=0, description="observations per second")


@dataclass(frozen=True)
class Layout:
    """Where the parts of an episode lie in one file. Sensors and the rest are paths from the root."""

    sensors: Sequence[str]
    action: str | None
    reward: str | None
    terminated: str | None
    after: Sequence[str] = ()  # what came after every step, as the sensors: then the last action has an outcome
    beside: bool = False  # reward and terminated stand beside the observation that they came with


def open_hdf5(path: Path, config: Hdf5Config) -> Recording:
    """Open one file or all `.hdf5` and `.h5` of a folder; each says by what it holds which layout it has."""
    files = _files(path, config.follow_links)
    episodes: list[Episode] = []
    actions: list[Any] = []
    for file in files:
        with open_h5(file) as root:
            found = _episodes(file, root, config)
        episodes += [Episode(name, partial(_take, file, layout, span, config)) for name, layout, span in found]
        actions += [partial(_action, file, layout, span, config) for _, layout, span in found if layout.action]
    about = About(env=config.env or path.stem, fps=config.fps, more={"source": path.name})
    bounds = None if config.choices is not None or not actions else lambda: measured(actions)
    return Recording(about, episodes, config.choices, bounds)


def looks_like_hdf5(path: Path) -> bool:
    return is_h5(path) if path.is_file() else any(is_h5(file) for s in SUFFIXES for file in path.glob(f"*{s}"))


def _files(path: Path, follow_links: bool) -> list[Path]:
    if path.is_file():
        return [path]
    names = sorted(file.name for suffix in SUFFIXES for file in path.glob(f"*{suffix}"))
    if not names:
        raise UserError(f"{path} has no HDF5 files ({', '.join(SUFFIXES)})")
    return [inside(path, name, follow_links) for name in names]


Found = tuple[str, Layout, tuple[int, int]]
"""What to call an episode, its layout, its first row and the one after its last."""


def _episodes(file: Path, root: Any, config: Hdf5Config) -> list[Found]:
    if "ep_len" in root and "ep_offset" in root:
        return _by_length(file, root, config)
    if "data" in root and any(name.startswith("demo") for name in _names(root, "data")):
        return _demos(file, root, config)
    return _flat(file, root, config)


def _names(root: Any, name: str) -> list[str]:
    import h5py

    group = child(root, name)
    return list(group) if isinstance(group, h5py.Group) else []


# ---------------------------------------------------------------------- flat: D4RL


def _flat(file: Path, root: Any, config: Hdf5Config) -> list[Found]:
    action = _action_name(root, config)
    total = length(_dataset(root, action))
    if not 0 < total <= MOST_STEPS:
        raise UserError(f"{place(root, action)} says that it has {total} steps")
    sensors = [name for name in root if name.rstrip("s") == "observation"]
    sensors = sensors or [
        name for name in root if name not in NO_SENSORS and name not in (action, *FLAT) and not name.startswith("next_")
    ]
    if not sensors:
        raise UserError(f"{file} has no 'observations'; there are: {', '.join(root)}")
    ends = np.zeros(total, np.bool_)
    for name in ("terminals", "timeouts", "dones"):
        if name in root:
            ends |= rows(_dataset(root, name), 0, total, MOST_STEPS).reshape(total, -1)[:, 0].astype(np.bool_)
    if config.episode_length is not None:
        ends = _every(ends, config.episode_length)
    elif not ends.any() and "timeouts" not in root:
        raise UserError(f"{file} does not say where episodes end (terminals, timeouts): give episode_length")
    stops = sorted({*(np.flatnonzero(ends) + 1).tolist(), total})
    after = [f"next_{name}" for name in sensors]
    layout = Layout(
        sensors,
        action,
        "rewards" if "rewards" in root else None,
        "terminals" if "terminals" in root else None,
        after if all(name in root for name in after) else (),
    )
    spans = zip([0, *stops[:-1]], stops, strict=True)
    return [(f"{file.name} episode {i}", layout, span) for i, span in enumerate(spans)]


FLAT = ("rewards", "terminals", "timeouts", "dones", "masks", "reward")


def _every(ends: np.ndarray, steps: int) -> np.ndarray:
    """An end after every so many steps since the last one, too."""
    ends, since = ends.copy(), 0
    for i in range(len(ends)):
        since += 1
        if ends[i] or since == steps:
            ends[i], since = True, 0
    return ends


# ---------------------------------------------------------------------- robomimic


def _demos(file: Path, root: Any, config: Hdf5Config) -> list[Found]:
    names = sorted(_names(root, "data"), key=lambda name: (len(name), name))  # demo_2 before demo_10
    found: list[Found] = []
    for name in names:
        here = f"data/{name}"
        try:
            demo = _group(root, here)
            action = _action_name(demo, config)
            parts = {key: f"{here}/{key}" if key in demo else None for key in ("rewards", "dones")}
            after = [f"{here}/next_obs"] if "next_obs" in demo else []
            layout = Layout([f"{here}/obs"], f"{here}/{action}", parts["rewards"], parts["dones"], after)
            span = (0, length(_dataset(demo, action)))
        except UserError:  # told when it is read, as the fault of this episode alone
            layout, span = Layout([f"{here}/obs"], f"{here}/actions", None, None), (0, 0)
        found.append((f"{file.name} {name}", layout, span))
    return found


# ---------------------------------------------------------------------- stable-worldmodel


def _by_length(file: Path, root: Any, config: Hdf5Config) -> list[Found]:
    sizes, offsets = (
        rows(_dataset(root, name), 0, length(_dataset(root, name)), MOST_STEPS) for name in ("ep_len", "ep_offset")
    )
    if (
        sizes.ndim != 1
        or sizes.shape != offsets.shape
        or sizes.dtype.kind not in "iu"
        or offsets.dtype.kind not in "iu"
    ):
        raise UserError(f"{file}: ep_len and ep_offset are not two lists of whole numbers of one length")
    if not len(sizes) or sizes.min() < 1 or not np.array_equal(offsets, np.cumsum(sizes, dtype=np.int64) - sizes):
        raise UserError(f"{file}: ep_offset does not follow from ep_len")
    action = _action_name(root, config)
    known = {action, "reward", "terminated", "truncated", *NO_SENSORS}
    layout = Layout(
        [name for name in root if name not in known],
        action,
        "reward" if "reward" in root else None,
        "terminated" if "terminated" in root else None,
        beside=True,
    )
    starts = offsets.astype(np.int64).tolist()
    spans = [(start, start + size) for start, size in zip(starts, sizes.tolist(), strict=True)]
    return [(f"{file.name} episode {i}", layout, span) for i, span in enumerate(spans)]


# ---------------------------------------------------------------------- reading


def _take(file: Path, layout: Layout, span: tuple[int, int], config: Hdf5Config) -> Take:
    start, stop = span
    with open_h5(file) as root:
        if start == stop:
            _action_name(_group(root, str(Path(layout.sensors[0]).parent)), config)
            raise UserError("it has no steps")
        read = partial(rows, start=start, stop=stop, most=config.most_bytes)
        obs = {name: read(dataset) for name, dataset in _sensors(root, layout.sensors, config).items()}
        last = {name: rows(dataset, stop - 1, stop, config.most_bytes)
                for name, dataset in _sensors(root, layout.after, config).items()}  # fmt: skip
        kept = stop - start - (0 if layout.after else 1)  # what came of the last action may not be recorded
        if layout.after:
            obs = {name: _longer(name, value, last) for name, value in obs.items()}
        beside = slice(1, None) if layout.beside else slice(0, kept)
        action = None if layout.action is None else read(_dataset(root, layout.action))[:kept]
        reward = None if layout.reward is None else _flat_row(read(_dataset(root, layout.reward)))[beside]
        ended = None if layout.terminated is None else _flat_row(read(_dataset(root, layout.terminated)))[beside]
    return Take(obs, action, reward, ended)


def _action(file: Path, layout: Layout, span: tuple[int, int], config: Hdf5Config) -> np.ndarray:
    with open_h5(file) as root:
        assert layout.action is not None
        last = max(span[0], span[1] - (0 if layout.after else 1))
        return rows(_dataset(root, layout.action), span[0], last, config.most_bytes)


def _sensors(root: Any, names: Sequence[str], config: Hdf5Config) -> Mapping[str, Any]:
    """Data sets by the names of sensors: below a group, the names that they have there."""
    found: dict[str, Any] = {}
    for name in names:
        parent, _, last = name.rpartition("/")
        for below, dataset in leaves(_group(root, parent), last).items():
            found[below.replace("/", ".") or last] = dataset
    if config.sensors is not None and all(name in found for name in config.sensors):
        return {name: found[name] for name in config.sensors}
    # Texts are no sensors; whoever asks for one by name is told so.
    return {name: dataset for name, dataset in found.items() if dataset.dtype.kind in "biuf"} or found


def _longer(name: str, value: np.ndarray, last: Mapping[str, np.ndarray]) -> np.ndarray:
    row = last[f"next_{name}"] if f"next_{name}" in last else last.get(name)
    if row is None or row.shape[1:] != value.shape[1:]:
        raise UserError(f"sensor {name!r} has nothing that fits it in what came after")
    return np.concatenate([value, row.astype(value.dtype)])


def _flat_row(value: np.ndarray) -> np.ndarray:
    return value[:, 0] if value.ndim == 2 and value.shape[1] == 1 else value


def _group(root: Any, path: str) -> Any:
    import h5py

    at = root
    for part in filter(None, path.split("/")):
        found = child(at, part)
        if not isinstance(found, h5py.Group):
            raise UserError(f"{place(at)} has no group {part!r}")
        at = found
    return at


def _dataset(root: Any, path: str) -> Any:
    parent, _, name = path.rpartition("/")
    found = leaves(_group(root, parent), name)
    if "" not in found:
        raise UserError(f"{place(root, path)} is a group, expected numbers")
    return found[""]


def _action_name(group: Any, config: Hdf5Config) -> str:
    names = ["actions", "action"] if config.action is None else [config.action]
    for name in names:
        if name in group:
            return name
    raise UserError(f"{place(group)} has no {' or '.join(map(repr, names))}; there are: {', '.join(group) or 'none'}")
