"""NumPy archives: a folder of one .npz per episode, one .npz of many, or one flat .npz whose ends a column marks.

Members are read one at a time and only after their headers were checked, so that none can claim all of the memory.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from pydantic import Field

from innerworld.data.importers.bring import measured
from innerworld.data.importers.inside import check_room, inside
from innerworld.data.importers.recording import Episode, ImportConfig, Recording, Take
from innerworld.data.store.store import About
from innerworld.errors import UserError

Arrays = dict[str, np.ndarray]


class NpzConfig(ImportConfig):
    """A folder of .npz, or one."""

    action: str | None = Field(default="action", description="key of the actions; null: there are none")
    reward: str = Field(default="reward", description="key of the rewards, if there is such")
    terminated: str = Field(default="terminated", description="key of whether the world ended, if there is such")
    ends: str | None = Field(
        default=None,
        description="key that marks an episode's last step in one flat file (OGBench: terminals); null: whole files",
    )
    many: bool = Field(default=False, description="the first axis of everything counts episodes")
    choices: int | None = Field(default=None, ge=2, description="actions are whole numbers below this; null: floats")
    env: str = Field(default="", description="name of the world; empty: that of the folder")
    fps: float | None = Field(default=None, gt=0, description="observations per second")


def open_npz(path: Path, config: NpzConfig) -> Recording:
    """Open one file, or all of a folder in the order of their names.

    Every key but action, reward and terminated is a sensor, with a row more than `action`, or as many: the last action
    has no outcome then and is left out.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if not files:
        raise UserError(f"{path} has no .npz files")
    root = path.parent if path.is_file() else path
    about = About(env=config.env or path.stem, fps=config.fps, more={"source": path.name})
    episodes: list[Episode] = []
    for file in files:
        safe = inside(root, file.name, config.follow_links) if path.is_dir() else file
        if config.many or config.ends:
            episodes += _parts(safe, config)
        else:
            episodes.append(Episode(file.name, lambda file=safe: _take(read_npz(file, config.most_bytes), config)))
    bounds = None
    if config.ends and config.choices is None:
        bounds = lambda: measured(partial(lambda read: read().action, each.read) for each in episodes)
    return Recording(about, episodes, config.choices, bounds)


def looks_like_npz(path: Path) -> bool:
    return path.suffix == ".npz" or next(path.glob("*.npz"), None) is not None


def read_npz(file: Path, most: int) -> Arrays:
    """All arrays of an archive. Raises `UserError` for what is damaged, pickled or says that it is more than `most`."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check_index(file, len(archive.infolist()))
            total, found = 0, {}
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    raise UserError(f"cannot be read: it holds {member.filename!r}, which is no array")
                total += member.file_size
                check_room(f"key {member.filename[:-4]!r}", (total,), 1, most)
                found[member.filename[:-4]] = _member(archive, member)
            return found
    except zipfile.BadZipFile as error:
        raise UserError(f"cannot be read: {_why(file, error)}") from error
    except (OSError, ValueError, EOFError, zlib.error, NotImplementedError, RuntimeError, MemoryError) as error:
        raise UserError(f"cannot be read: {error}") from error


def _check_index(file: Path, found: int) -> None:
    """Compare how many members there are with how many the archive says, which zipfile does not do."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 65_557))
        end = opened.read()
    at = end.rfind(b"PK\x05\x06")
    says = int.from_bytes(end[at + 10 : at + 12], "little")
    if says not in (found, 0xFFFF):  # which stands for more, in an archive of the newer kind
        raise UserError(f"cannot be read: it is corrupt: {found} of its {says} arrays are in its index")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as opened:
        version = npy.read_magic(opened)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        try:
            shape, fortran, dtype = header(opened)
        except Exception as error:  # the header is a Python literal, which fails in many ways
            raise UserError(f"cannot be read: the header of {member.filename!r} is damaged: {error}") from error
        if dtype.hasobject:
            raise UserError(f"cannot be read: {member.filename!r} holds pickled objects, which may run code")
        if any(size < 0 for size in shape) or dtype.itemsize == 0:
            raise UserError(f"cannot be read: {member.filename!r} has shape {shape} of type {dtype}")
        raw = opened.read()  # all of it, so that zipfile compares the checksum
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise UserError(
                f"cannot be read: {member.filename!r} has {len(raw)} bytes, which is not {shape} of {dtype}"
            )
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _why(file: Path, error: zipfile.BadZipFile) -> str:
    with file.open("rb") as opened:
        single = opened.read(6) == b"\x93NUMPY"
    return "it holds a single array without a name" if single else str(error)


def _parts(file: Path, config: NpzConfig) -> list[Episode]:
    """The episodes of one file, which is kept in memory as long as they are."""
    arrays = _named(file, lambda: read_npz(file, config.most_bytes))
    sizes = {name: len(value) if value.ndim else 0 for name, value in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise UserError(f"{file}: not all have the same first axis: {sizes}")
    count = next(iter(sizes.values()))
    if config.many:
        cuts = [(i, i) for i in range(count)]
    else:
        if config.ends not in arrays:
            raise UserError(f"{file} has no key {config.ends!r}; there are: {', '.join(arrays)}")
        last = np.flatnonzero(arrays[config.ends].reshape(count, -1)[:, 0]) + 1
        stops = sorted({*last.tolist(), count})
        cuts = list(zip([0, *stops[:-1]], stops, strict=True))

    def cut(start: int, stop: int) -> Take:
        rows = {name: value[start] if config.many else value[start:stop] for name, value in arrays.items()}
        return _take({name: value for name, value in rows.items() if name != config.ends}, config)

    return [Episode(f"{file.name} episode {i}", partial(cut, *span)) for i, span in enumerate(cuts)]


def _named(file: Path, read: Callable[[], Arrays]) -> Arrays:
    try:
        return read()
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _take(arrays: Mapping[str, np.ndarray], config: NpzConfig) -> Take:
    values = dict(arrays)
    if config.action is None:
        action = None
    elif config.action in values:
        action = values.pop(config.action)
    else:
        raise UserError(f"no key {config.action!r}; there are: {', '.join(values) or 'none'}")
    reward, terminated = values.pop(config.reward, None), values.pop(config.terminated, None)
    if action is None:
        return Take(values, None, reward, terminated)
    t = len(action) if action.ndim else 0
    if values and all(value.ndim and len(value) == t for value in values.values()):  # no outcome of the last action
        action, t = action[:-1], t - 1
        reward, terminated = (None if row is None else row[:-1] for row in (reward, terminated))
    for name, value in values.items():
        if value.ndim < 1 or len(value) != t + 1:
            raise UserError(
                f"sensor {name!r} has shape {value.shape}, but action has length {t}: expected ({t + 1}, ...)"
            )
    return Take(values, action, reward, terminated)
