"""`Store`: a folder of experience; whole episodes in shards, each committed by a rename, read by memory map."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from innerworld.config import Config, build
from innerworld.data.shard import Column, map_columns, read_columns, write_shard
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.types import Clip, Spec
from innerworld.version import VERSION

FORMAT = 1
OPEN_SHARDS = 128
"""Memory maps held open at once: each costs a file handle, of which many systems grant only 256."""

NO_SEED = -1

log = logging.getLogger(__name__)


class About(Config):
    """Where experience comes from."""

    env: str = Field(default="", description="id of the environment, or name of the log")
    policy: str = Field(default="", description="who acted")
    seed: int | None = Field(default=None, description="seed of the collection")
    action_low: tuple[float, ...] | None = Field(
        default=None, description="what -1 stands for, per axis, in original units"
    )
    action_high: tuple[float, ...] | None = Field(
        default=None, description="what +1 stands for, per axis, in original units"
    )
    fps: float | None = Field(default=None, description="observations per second")
    more: dict[str, Any] = Field(default={}, description="anything else that JSON can hold")


class Meta(Config):
    """What `meta.json` says."""

    format: int = Field(default=FORMAT, description="version of the folder's layout")
    innerworld: str = Field(default="", description="version of the library that wrote it")
    created: str = Field(default="", description="date and time, ISO 8601, UTC")
    spec: Spec = Field(description="sensors and action")
    about: About = Field(default=About(), description="provenance")


@dataclass(frozen=True)
class Shard:
    """A committed file of whole episodes."""

    path: Path
    columns: Mapping[str, Column]
    lengths: np.ndarray  # e    actions in each episode
    seeds: np.ndarray  # e      NO_SEED where unknown


class Store:
    """A folder of experience: `meta.json` and `shards/000000.safetensors`, ... One process may write, many may read.

    Make one with `Store.create` or `Store.open`.
    """

    def __init__(self, path: Path, meta: Meta, shards: list[Shard], next_number: int) -> None:
        self.path = path
        self.meta = meta
        self._shards = shards
        self._next_number = next_number
        self._swept = False
        self._map = lru_cache(OPEN_SHARDS)(self._map_shard)
        self._index()

    @classmethod
    def create(cls, path: str | Path, spec: Spec, about: About = About()) -> Store:
        """Begin an empty store. Raises `UserError` if the folder has content or cannot be written."""
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists already: choose another folder, or open it to add to it")
        meta = Meta(innerworld=VERSION, created=datetime.now(UTC).isoformat("T", "seconds"), spec=spec, about=about)
        try:
            (path / "shards").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {path}: {error.strerror}") from error
        write_atomic(path / "meta.json", [meta.model_dump_json(indent=2).encode() + b"\n"])
        return cls(path, meta, [], 0)

    @classmethod
    def open(cls, path: str | Path, skip_corrupt: bool = False) -> Store:
        """Open a store to read it or add to it.

        Raises `UserError` for a folder that is no store, a newer format, and a missing or damaged shard, which
        `skip_corrupt` leaves out with one warning in the log instead.
        """
        path = Path(path)
        meta = _read_meta(path)
        numbers = sorted(int(file.stem) for file in path.glob("shards/*.safetensors") if file.stem.isdecimal())
        count = numbers[-1] + 1 if numbers else 0
        shards, faults = [], []
        for number in range(count):
            try:
                shards.append(_read_shard(_shard_path(path, number), meta.spec))
            except UserError as error:
                if not skip_corrupt:
                    raise UserError(f"{error} (open the store with skip_corrupt=True to go on without it)") from error
                faults.append(str(error))
        if faults:
            log.warning("%s: left out %d of %d shards: %s", path, len(faults), count, "; ".join(faults))
        return cls(path, meta, shards, count)

    # ------------------------------------------------------------------ what is in it

    @property
    def spec(self) -> Spec:
        return self.meta.spec

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.lengths)

    @property
    def transitions(self) -> int:
        """The number of actions in all episodes together."""
        return int(self.lengths.sum())

    @property
    def frames(self) -> int:
        """The number of observations in all episodes together."""
        return self.transitions + len(self)

    def episode(self, i: int) -> Clip:
        """Episode `i` as a clip with b = 1, copied into memory. Raises `UserError` if there is none such."""
        if not 0 <= i < len(self):
            raise UserError(f"{self.path} has no episode {i}: it has {len(self)}, counted from 0")
        rows = self.arrays(int(self.shard_of[i]))
        t, row, first = int(self.lengths[i]), int(self.action_row[i]), int(self.obs_row[i])

        def copied(name: str, start: int, stop: int) -> torch.Tensor:
            return torch.from_numpy(rows[name][start:stop].copy())[None]

        return Clip(
            {sensor: copied(f"obs.{sensor}", first, first + t + 1) for sensor in self.spec.obs},
            copied("action", row, row + t),
            copied("reward", row, row + t),
            copied("terminated", row, row + t),
        )

    def arrays(self, shard: int) -> Mapping[str, np.ndarray]:
        """The columns of one shard over a memory map: `obs.<sensor>`, `action`, `reward`, `terminated`, ..."""
        return self._map(shard)

    # ------------------------------------------------------------------ adding to it

    def add(self, clip: Clip, seed: int | None = None) -> None:
        """Commit one episode (b = 1) as a shard of its own; many short ones are better given to `Writer`."""
        self.add_all([clip], None if seed is None else [seed])

    def add_all(self, clips: Sequence[Clip], seeds: Sequence[int | None] | None = None) -> None:
        """Commit episodes (each b = 1) together as one shard: all of them or, if that fails, none.

        Raises `UserError` for an episode that does not fit the spec (see `check_episode`), and for a full disk.
        """
        if not clips:
            return
        if seeds is not None and len(seeds) != len(clips):
            raise UserError(f"{len(clips)} episodes came with {len(seeds)} seeds")
        for i, clip in enumerate(clips):
            check_episode(self.spec, clip, f"episode {i} of {len(clips)}" if len(clips) > 1 else "episode")
        self._sweep()
        path = _shard_path(self.path, self._next_number)
        if path.exists():
            raise UserError(f"{path} appeared meanwhile: only one process at a time may add to a store")
        try:
            write_shard(path, _columns(self.spec, clips, seeds))
        except UserError as error:
            raise UserError(f"{error}: the {len(self)} episodes written before are safe in {self.path}") from error
        self._shards.append(_read_shard(path, self.spec))
        self._next_number += 1
        self._index()

    def _index(self) -> None:
        """Where each episode lies: its shard, and its first row there among the actions and the observations."""
        counts = [len(shard.lengths) for shard in self._shards]
        self.lengths = _joined([shard.lengths for shard in self._shards])
        self.seeds = _joined([shard.seeds for shard in self._shards])
        self.shard_of = np.repeat(np.arange(len(counts)), counts)
        self.action_row = _joined([np.cumsum(shard.lengths) - shard.lengths for shard in self._shards])
        self.obs_row = self.action_row + _joined([np.arange(count) for count in counts])

    def _map_shard(self, shard: int) -> Mapping[str, np.ndarray]:
        return map_columns(self._shards[shard].path, self._shards[shard].columns)

    def _sweep(self) -> None:
        """Remove what a killed writer left, once, before the first write."""
        if not self._swept:
            for leftover in (self.path / "shards").glob("*.tmp"):
                leftover.unlink(missing_ok=True)
        self._swept = True


def check_episode(spec: Spec, clip: Clip, name: str = "episode") -> None:
    """Raise `UserError` unless `clip` is one episode of this world: shapes, types, finite values, actions in bounds."""
    b, t, a = clip.action.shape
    if b != 1 or t < 1:
        raise UserError(f"{name}: expected b = 1 and at least one action, got {b} x {t}")
    if a != spec.action:
        raise UserError(f"{name}: actions have {a} numbers, the spec says {spec.action}")
    if clip.obs.keys() != spec.obs.keys():
        raise UserError(f"{name}: sensors are {', '.join(clip.obs)}; the spec says {', '.join(spec.obs)}")
    for sensor, shape in spec.obs.items():
        value = clip.obs[sensor]
        if tuple(value.shape[2:]) != shape:
            raise UserError(f"{name}: sensor {sensor!r} has shape {tuple(value.shape[2:])}, the spec says {shape}")
        if (value.dtype == torch.uint8) != (len(shape) == 3):
            kind = "an image, which is uint8" if len(shape) == 3 else "a vector, which is float"
            raise UserError(f"{name}: sensor {sensor!r} is {kind}; got {value.dtype}")
        _check_finite(value, f"{name}: sensor {sensor!r}")
    _check_finite(clip.reward, f"{name}: reward")
    _check_finite(clip.action, f"{name}: action")
    _check_action(spec, clip.action[0], name)


def _check_finite(value: torch.Tensor, name: str) -> None:
    if value.is_floating_point():
        finite = torch.isfinite(value[0]).flatten(1).all(1) if value.ndim > 2 else torch.isfinite(value[0])  # t
        if not finite.all():
            raise UserError(f"{name} is not finite at time step {int((~finite).nonzero()[0])}")


def _check_action(spec: Spec, action: torch.Tensor, name: str) -> None:
    if spec.discrete:
        good = ((action == 0) | (action == 1)).all(1) & (action.sum(1) == 1)  # t
        if not good.all():
            raise UserError(f"{name}: action at time step {int((~good).nonzero()[0])} is not one-hot")
    elif action.abs().max() > 1 + 1e-6:
        step = int(action.abs().amax(1).argmax())
        raise UserError(f"{name}: action at time step {step} leaves [-1, 1]: {action[step].tolist()}; scale it first")


def _columns(spec: Spec, clips: Sequence[Clip], seeds: Sequence[int | None] | None) -> dict[str, Sequence[np.ndarray]]:
    def pieces(values: Iterable[torch.Tensor], dtype: type[np.generic]) -> list[np.ndarray]:
        return [value[0].detach().cpu().numpy().astype(dtype, copy=False) for value in values]

    columns: dict[str, Sequence[np.ndarray]] = {
        f"obs.{sensor}": pieces((clip.obs[sensor] for clip in clips), _obs_dtype(shape))
        for sensor, shape in spec.obs.items()
    }
    columns["action"] = pieces((clip.action for clip in clips), np.float32)
    columns["reward"] = pieces((clip.reward for clip in clips), np.float32)
    columns["terminated"] = pieces((clip.terminated for clip in clips), np.bool_)
    columns["length"] = [np.array([clip.length for clip in clips], np.int64)]
    if seeds is not None:
        columns["seed"] = [np.array([NO_SEED if seed is None else seed for seed in seeds], np.int64)]
    return columns


def _obs_dtype(shape: tuple[int, ...]) -> type[np.generic]:
    return np.uint8 if len(shape) == 3 else np.float32


def _read_shard(path: Path, spec: Spec) -> Shard:
    """Check one file against the spec and read its lengths and seeds."""
    columns = read_columns(path)
    if "length" not in columns:
        raise UserError(f"{path} is corrupt: it has no column 'length'")
    count = columns["length"].shape[0]
    small = map_columns(path, {name: columns[name] for name in ("length", "seed") if name in columns})
    lengths = small["length"].copy()
    t = int(lengths.sum())
    expected: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        **{f"obs.{name}": (_obs_dtype(shape), (t + count, *shape)) for name, shape in spec.obs.items()},
        "action": (np.float32, (t, spec.action)),
        "reward": (np.float32, (t,)),
        "terminated": (np.bool_, (t,)),
        "length": (np.int64, (count,)),
        **({"seed": (np.int64, (count,))} if "seed" in columns else {}),
    }
    found = {name: (column.dtype, column.shape) for name, column in columns.items()}
    if found != expected or lengths.min(initial=1) < 1:
        wrong = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
        raise UserError(f"{path} is corrupt: {', '.join(wrong or ['length'])} does not fit the spec in meta.json")
    return Shard(path, columns, lengths, small["seed"].copy() if "seed" in small else np.full(count, NO_SEED))


def _read_meta(path: Path) -> Meta:
    file = path / "meta.json"
    if not file.is_file():
        raise UserError(f"{path} is no store of experience: it has no meta.json")
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file} is corrupt: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise UserError(f"{file} is corrupt: it names no format")
    if values["format"] > FORMAT:
        raise UserError(f"{path} has format {values['format']}, this version reads up to {FORMAT}: update innerworld")
    return build(Meta, values, where=str(file))


def _shard_path(path: Path, number: int) -> Path:
    return path / "shards" / f"{number:06d}.safetensors"


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays])
