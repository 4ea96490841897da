"""Import experience that others recorded: the human Push-T demonstrations, and folders of one .npz per episode."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from innerworld.data.store import About, Store, check_episode
from innerworld.data.writer import Writer
from innerworld.data.zarr import ZarrArray
from innerworld.envs.adapter import shrink
from innerworld.errors import UserError
from innerworld.types import Clip, Spec

OnBad = Literal["stop", "skip"]

Episode = tuple[str, Callable[[], Clip]]
"""What to call an episode in an error, and how to read it."""

Scale = tuple[np.ndarray, np.ndarray]
"""What -1 and +1 stand for, each `a`."""

PUSHT_SIDE = 512.0
"""Pixels of the simulation: an action is a place on a square table of this side."""


def import_pusht(path: str | Path, out: str | Path, size: int = 64, on_bad: OnBad = "stop") -> tuple[Store, list[str]]:
    """Import the human Push-T demonstrations of Diffusion Policy (arXiv 2303.04137): the store, and what was skipped.

    `path` is `pusht_cchi_v7_replay.zarr`. Sensors: `pixels` (size, size, 3), shrunk from 96 by area averaging, and
    `state` (agent x y, block x y, angle). Actions, targets of 0 to 512 pixels, become [-1, 1]. An episode of T frames
    gives T - 1 actions: what came of its last action was not recorded, so that action is dropped. Reward is 0 and
    terminated false, for the log has neither. A bad episode (not finite, out of bounds, a single frame) stops the
    import with a `UserError` that names it, or is left out with `on_bad="skip"`.
    """
    root = Path(path)
    pixels, state, action = (ZarrArray(root / "data" / name) for name in ("img", "state", "action"))
    ends = ZarrArray(root / "meta" / "episode_ends")
    stops = ends.read(0, len(ends)).astype(np.int64)
    _check_pusht(root, pixels, state, action, stops, size)
    about = About(
        env="pusht",
        policy="human",
        action_low=(0.0, 0.0),
        action_high=(PUSHT_SIDE, PUSHT_SIDE),
        fps=10.0,
        more={"source": root.name, "paper": "arXiv 2303.04137"},
    )

    def clip_of(start: int, stop: int) -> Clip:
        frames = pixels.read(start, stop)  # t+1 y x c
        if not np.all((frames >= 0) & (frames <= 255)):
            raise UserError("pixels are not all between 0 and 255")
        small = np.stack([shrink(frame, size) for frame in np.rint(frames).astype(np.uint8)])
        seen = {"pixels": small, "state": state.read(start, stop).astype(np.float32)}
        return _clip(seen, action.read(start, stop - 1).astype(np.float32) / (PUSHT_SIDE / 2) - 1)

    starts = [0, *stops[:-1].tolist()]
    episodes = [
        (f"{root.name} episode {i}", partial(clip_of, start, stop))
        for i, (start, stop) in enumerate(zip(starts, stops.tolist(), strict=True))
    ]
    return _write(out, Spec({"pixels": (size, size, 3), "state": (5,)}, 2), about, episodes, on_bad)


def import_npz(
    folder: str | Path,
    out: str | Path,
    action_low: Sequence[float] | None = None,
    action_high: Sequence[float] | None = None,
    choices: int | None = None,
    about: About = About(),
    on_bad: OnBad = "stop",
) -> tuple[Store, list[str]]:
    """Import a folder of one .npz per episode, in the order of their names: the store, and what was skipped.

    Each holds `action` (t a), optionally `reward` (t) and `terminated` (t), and every other key is a sensor: `uint8`
    (t+1 y x c) or float (t+1 n). The first file says what the world is like. `action_low` and `action_high` scale
    actions to [-1, 1]; without, they must lie there. With `choices`, actions are whole numbers (t) below it. A bad
    file (lengths, types, values, pickled objects) stops the import with a `UserError` that names it, or is left out
    with `on_bad="skip"`.
    """
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        raise UserError(f"{folder} has no .npz files")
    scale = _scale(action_low, action_high)
    if scale is not None and choices is not None:
        raise UserError("give either choices or action_low and action_high: a choice has no scale")
    if scale is not None and action_low is not None and action_high is not None:
        about = about.model_copy(update={"action_low": tuple(action_low), "action_high": tuple(action_high)})
    episodes = [(file.name, partial(_npz_clip, file, scale, choices)) for file in files]
    return _write(out, _first_spec(episodes, choices is not None, on_bad), about, episodes, on_bad)


# ---------------------------------------------------------------------- Push-T


def _check_pusht(
    root: Path, pixels: ZarrArray, state: ZarrArray, action: ZarrArray, stops: np.ndarray, size: int
) -> None:
    total = int(stops[-1]) if len(stops) else 0
    if not total or np.diff(stops, prepend=0).min() < 1:
        raise UserError(f"{root}: meta/episode_ends does not grow from episode to episode")
    side = pixels.shape[1]
    for name, array, shape in (("img", pixels, (side, side, 3)), ("state", state, (5,)), ("action", action, (2,))):
        if array.shape[1:] != shape:
            raise UserError(
                f"{root}: data/{name} has shape {array.shape}, expected (steps, {', '.join(map(str, shape))})"
            )
        if len(array) < total:
            raise UserError(f"{root}: data/{name} has {len(array)} steps, the episodes end at {total}")
    if not 1 <= size <= side:
        raise UserError(f"size must be between 1 and the log's own {side}, got {size}")


# ---------------------------------------------------------------------- .npz


def _scale(low: Sequence[float] | None, high: Sequence[float] | None) -> Scale | None:
    if low is None and high is None:
        return None
    if low is None or high is None or len(low) != len(high) or not np.all(np.less(low, high)):
        raise UserError(f"action_low and action_high are needed together, low below high in every axis: {low}, {high}")
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def _first_spec(episodes: Sequence[Episode], discrete: bool, on_bad: OnBad) -> Spec:
    """The world as the first episode shows it that can be read."""
    for name, read in episodes:
        try:
            clip = read()
            return Spec({sensor: tuple(v.shape[2:]) for sensor, v in clip.obs.items()}, clip.action.shape[2], discrete)
        except UserError as error:
            if on_bad == "stop":
                raise UserError(f"{name}: {error}") from error
    raise UserError(f"none of the {len(episodes)} files can be read, among them {episodes[0][0]}")


def _npz_clip(file: Path, scale: Scale | None, choices: int | None) -> Clip:
    values = _load(file)
    if "action" not in values:
        raise UserError(f"no key 'action'; there are: {', '.join(values) or 'none'}")
    action = _actions(values.pop("action"), scale, choices)
    t = len(action)
    reward = values.pop("reward", np.zeros(t, np.float32))
    terminated = values.pop("terminated", np.zeros(t, np.bool_))
    for name, value, length in (("reward", reward, t), ("terminated", terminated, t)):
        if value.shape != (length,):
            raise UserError(f"{name!r} has shape {value.shape}, but action has length {t}: expected ({length},)")
    for name, value in values.items():
        if value.ndim < 2 or len(value) != t + 1:
            raise UserError(
                f"sensor {name!r} has shape {value.shape}, but action has length {t}: expected ({t + 1}, ...)"
            )
    seen = {name: value if value.dtype == np.uint8 else _floats(name, value) for name, value in values.items()}
    return _clip(seen, action, _floats("reward", reward), terminated.astype(np.bool_))


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because numpy leaves a torn file open.
        with file.open("rb") as opened:
            archive = np.load(opened, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array without a name")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"cannot be read: {error}") from error


def _actions(action: np.ndarray, scale: Scale | None, choices: int | None) -> np.ndarray:
    """As the library wants them: float32 `t a` in [-1, 1], or one-hot."""
    if choices is not None:
        if action.ndim != 1 or action.dtype.kind not in "iu":
            raise UserError(f"'action' has shape {action.shape} and type {action.dtype}, expected whole numbers (t)")
        if len(action) and not 0 <= action.min() <= action.max() < choices:
            raise UserError(f"'action' lies between {action.min()} and {action.max()}, expected 0 to {choices - 1}")
        return np.eye(choices, dtype=np.float32)[action]
    action = _floats("action", action)
    if action.ndim != 2:
        raise UserError(f"'action' has shape {action.shape}, expected (t, a)")
    if scale is None:
        return action
    low, high = scale
    if action.shape[1] != len(low):
        raise UserError(f"'action' has {action.shape[1]} numbers, action_low has {len(low)}")
    return ((action - low) / (high - low) * 2 - 1).astype(np.float32)


def _floats(name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype.kind not in "fiub":
        raise UserError(f"{name!r} is of type {value.dtype}, expected numbers")
    return value.astype(np.float32)


# ---------------------------------------------------------------------- both


def _clip(
    obs: Mapping[str, np.ndarray],
    action: np.ndarray,
    reward: np.ndarray | None = None,
    terminated: np.ndarray | None = None,
) -> Clip:
    t = len(action)
    return Clip(
        {sensor: torch.from_numpy(value)[None] for sensor, value in obs.items()},
        torch.from_numpy(action)[None],
        torch.zeros(1, t) if reward is None else torch.from_numpy(reward)[None],
        torch.zeros(1, t, dtype=torch.bool) if terminated is None else torch.from_numpy(terminated)[None],
    )


def _write(
    out: str | Path, spec: Spec, about: About, episodes: Sequence[Episode], on_bad: OnBad
) -> tuple[Store, list[str]]:
    """Import all or nothing: into a folder beside `out`, renamed at the end, so that no half looks like a whole."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial_out = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from error
    try:
        store = Store.create(partial_out, spec, about)
        skipped = _add_each(store, episodes, on_bad)
        if not len(store):
            raise UserError(f"none of the {len(episodes)} episodes can be imported, the first because {skipped[0]}")
        partial_out.chmod(0o755)  # mkdtemp shuts everybody else out
        partial_out.replace(out)
    except BaseException:
        shutil.rmtree(partial_out, ignore_errors=True)
        raise
    return Store.open(out), skipped


def _add_each(store: Store, episodes: Sequence[Episode], on_bad: OnBad) -> list[str]:
    skipped = []
    with Writer(store) as writer:
        for name, read in episodes:
            try:
                clip = read()
                check_episode(store.spec, clip)
            except UserError as error:
                if on_bad == "stop":
                    raise UserError(f"{name}: {error}") from error
                skipped.append(f"{name}: {error}")
            else:
                writer.add(clip)
    return skipped
