"""Tables beside videos: CSV, Parquet or .npz with a row for each frame, read into an array for each name."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from innerworld.data.importers.inside import check_room
from innerworld.data.importers.npz import read_npz
from innerworld.data.importers.parquet import read_parquet
from innerworld.errors import UserError

SUFFIXES = (".parquet", ".csv", ".npz")
NUMBERED = re.compile(r"(.+)[._](\d+)")

Table = dict[str, np.ndarray]
"""Each name's rows; columns `action.0`, `action.1`, ... are together as `action`."""


def read_table(file: Path, most: int) -> Table:
    """Every column of a table. Raises `UserError` that says what is wrong with it."""
    if file.suffix == ".parquet":
        return _joined(_parquet(file, most))
    try:
        match file.suffix:
            case ".npz":
                return read_npz(file, most)
            case ".csv":
                return _joined(_csv(file, most))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    raise UserError(f"{file} is no table: expected {', '.join(SUFFIXES)}")


def _csv(file: Path, most: int) -> Table:
    """Numbers where all of a column are, an empty field being NaN; texts elsewhere."""
    try:
        check_room("it", (file.stat().st_size * 8,), 1, most)
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = [line for line in csv.reader(opened, strict=True) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot be read: {error}") from error
    if not lines:
        raise UserError("it is empty")
    names = [name.strip() for name in lines[0]]
    if len(set(names)) != len(names) or not all(names):
        raise UserError(f"its first line has to name every column, each once: {', '.join(names)}")
    for i, line in enumerate(lines[1:], start=2):
        if len(line) != len(names):
            raise UserError(f"line {i} has {len(line)} fields, the first has {len(names)}")
    return {name: _column([line[i] for line in lines[1:]]) for i, name in enumerate(names)}


def _column(fields: list[str]) -> np.ndarray:
    truth = {"true": "1", "false": "0", "": "nan"}
    try:
        return np.array([float(truth.get(field.strip().lower(), field)) for field in fields])
    except ValueError:
        return np.array(fields)


def _parquet(file: Path, most: int) -> Table:
    table = read_parquet(file, most=most)
    from pyarrow import ArrowException  # late: an extra, which has just been found to be here

    try:
        return {name: _array(table.column(name)) for name in table.column_names}
    except (ArrowException, ValueError, TypeError, MemoryError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _array(column) -> np.ndarray:
    """A column of numbers, of lists of numbers of one length, or of anything else as it is."""
    import pyarrow

    if pyarrow.types.is_nested(column.type):
        rows = column.to_pylist()
        sizes = {len(row) if isinstance(row, list) else -1 for row in rows}
        if len(sizes) > 1 or sizes == {-1}:
            raise UserError("a column has lists of different lengths, or something other than lists")
        return np.array(rows)
    if column.null_count and pyarrow.types.is_integer(column.type):
        raise UserError("a column of whole numbers has holes")
    return column.to_numpy()


def _joined(table: Mapping[str, np.ndarray]) -> Table:
    """`state.0`, `state.1`, ... become `state`, in the order of their numbers, where none of them is missing."""
    groups: dict[str, dict[int, str]] = {}
    for name in table:
        if found := NUMBERED.fullmatch(name):
            groups.setdefault(found[1], {})[int(found[2])] = name
    out = dict(table)
    for stem, parts in groups.items():
        if stem in table or sorted(parts) != list(range(len(parts))):
            continue
        columns = [out.pop(parts[i]) for i in range(len(parts))]
        out[stem] = np.stack(columns, axis=1)
    return out
