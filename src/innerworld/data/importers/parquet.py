"""Parquet files of strangers: some columns and rows of one, read with an eye on how much it declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerworld.data.importers.inside import check_room
from innerworld.errors import UserError

if TYPE_CHECKING:
    import pyarrow

MOST_BYTES = 16_000_000_000


def read_parquet(
    path: Path,
    columns: Sequence[str] | None = None,
    leave: Callable[[str], bool] = lambda column: False,
    where: tuple[str, int] | None = None,
    most: int = MOST_BYTES,
) -> pyarrow.Table:
    """Columns of a file, and the rows where one of them has a value; None: all, less those to `leave`.

    Raises `UserError` that names the file: missing, damaged, without a column, or above `most` bytes unpacked.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f'{path} is a Parquet table, which needs pyarrow: pip install "innerworld[data]"') from error
    if not path.is_file():
        raise UserError(f"{path} is missing")
    rows = None if where is None else [(where[0], "=", where[1])]
    try:
        with path.open("rb") as opened:
            file = parquet.ParquetFile(opened)
            known = file.schema_arrow.names
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            check_room(str(path), (sum(max(group.total_byte_size, 0) for group in groups),), 1, most)
            check_room(str(path), (file.metadata.num_rows, file.metadata.num_columns), 1, most)
            chosen = [name for name in known if not leave(name)] if columns is None else list(columns)
            for name in chosen:
                if name not in known:
                    raise UserError(f"{path} has no column {name!r}; there are: {', '.join(known)}")
            opened.seek(0)
            table = parquet.read_table(opened, columns=chosen, filters=rows, use_threads=False)
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return table


def numbers(path: Path, name: str, column: Any) -> np.ndarray:
    """A column of numbers, or of lists of equally many: `t ...`. Raises `UserError` for holes and ragged lists."""
    from pyarrow import ChunkedArray, compute, types

    array = column.combine_chunks()
    if isinstance(array, ChunkedArray):  # of no chunks, or of more than fit one
        raise UserError(f"{path}: {name} has no rows, or too many")
    shape = [len(array)]
    while types.is_nested(array.type):
        if not (types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type)):
            raise UserError(f"{path}: {name} is of type {array.type}, expected numbers")
        if array.null_count:
            raise UserError(f"{path}: {name} has no value in some rows")
        lengths = compute.call_function("list_value_length", [array]).unique().to_pylist()
        if len(lengths) != 1:
            raise UserError(f"{path}: {name} has {min(lengths, default=0)} to {max(lengths, default=0)} numbers a row")
        shape.append(lengths[0])
        array = array.flatten()
    if array.null_count:
        raise UserError(f"{path}: {name} has no value in some rows")
    value = array.to_numpy(zero_copy_only=False)
    if value.dtype.kind not in "fiub":
        raise UserError(f"{path}: {name} is of type {array.type}, expected numbers")
    return value.reshape(shape)
