"""HDF5, read with suspicion: nothing outside of the file, nothing larger than it may be, numbers only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.data.importers.inside import check_room
from innerworld.errors import UserError

DEPTH = 16
MAGIC = b"\x89HDF\r\n\x1a\n"
MOST_CHUNK = 1_000_000_000
"""Bytes of a chunk, which is unpacked as a whole to read a part of it."""


@contextmanager
def open_h5(file: Path) -> Iterator[Any]:
    """The file's root group. Whatever h5py raises while it is open becomes a `UserError` that names the file."""
    try:
        import h5py
    except ImportError as error:
        raise UserError('reading HDF5 needs h5py: pip install "innerworld[data]"') from error
    try:
        with h5py.File(file, "r") as root:
            yield root
    except BlockingIOError as error:
        raise UserError(f"{file} is being written by another process: try again when it has ended") from error
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read: it is damaged, or no HDF5: {told}") from error


def is_h5(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def child(group: Any, name: str) -> Any:
    """What lies in a group under `name`, None if nothing does. Raises `UserError` for a link to elsewhere."""
    import h5py

    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{place(group, name)} is a link to elsewhere, which is not followed")
    return group[name]


def leaves(group: Any, name: str, depth: int = 0) -> dict[str, Any]:
    """The data sets at or below `name`, by their path from there (`""` where it is one itself).

    Raises `UserError` for links to elsewhere and for groups that hold themselves.
    """
    import h5py

    found = child(group, name)
    if found is None:
        raise UserError(f"{place(group)} has no {name!r}; there are: {', '.join(group) or 'none'}")
    if isinstance(found, h5py.Dataset):
        return {"": found}
    if not isinstance(found, h5py.Group):
        raise UserError(f"{place(group, name)} is neither a data set nor a group")
    if depth == DEPTH:
        raise UserError(f"{place(group, name)} lies deeper than {DEPTH} groups")
    return {
        "/".join(filter(None, (key, rest))): dataset
        for key in list[str](found)
        for rest, dataset in leaves(found, key, depth + 1).items()
    }


def rows(dataset: Any, start: int, stop: int, most: int) -> np.ndarray:
    """Rows `start` to `stop` of a data set. Raises `UserError` if they are no numbers, missing, elsewhere, too many."""
    name = place(dataset)
    if dataset.is_virtual or dataset.external:
        raise UserError(f"{name} keeps its numbers in another file, which is not followed")
    if dataset.shape is None or dataset.ndim < 1:
        raise UserError(f"{name} has no rows")
    if dataset.dtype.kind not in "biuf":
        raise UserError(f"{name} is of type {dataset.dtype}, expected numbers")
    if not 0 <= start <= stop <= len(dataset):
        raise UserError(f"{name} has {len(dataset)} rows, expected {stop}")
    check_room(name, (stop - start, *dataset.shape[1:]), dataset.dtype.itemsize, most)
    if dataset.chunks is not None:
        check_room(f"a chunk of {name}", dataset.chunks, dataset.dtype.itemsize, max(most, MOST_CHUNK))
    _check_unpacking(dataset, name)
    return np.asarray(dataset[start:stop])


def _check_unpacking(dataset: Any, name: str) -> None:
    import h5py

    pipeline = dataset.id.get_create_plist()
    for i in range(pipeline.get_nfilters()):
        number, _, _, label = pipeline.get_filter(i)
        if not h5py.h5z.filter_avail(number):
            told = label.decode(errors="replace") or number
            raise UserError(
                f"{name} is compressed with {told}, which h5py does not know: install hdf5plugin, or repack it"
            )


def length(dataset: Any) -> int:
    return dataset.shape[0] if dataset.shape else 0


def place(group: Any, name: str = "") -> str:
    """What to call a group, a data set or something in it."""
    path = f"{group.name or ''}/{name}" if name else group.name or ""
    return f"{Path(group.file.filename).name}:{path.replace('//', '/')}"
