"""Parquet tables, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from innerworld.disk import write_atomic
from innerworld.errors import UserError

if TYPE_CHECKING:
    import pyarrow


def write_parquet(path: Path, columns: Mapping[str, Any], metadata: Mapping[bytes, bytes] | None = None) -> None:
    """Write columns of equal length. Raises `UserError` when the disk refuses."""
    pyarrow = _pyarrow()
    from pyarrow import parquet

    table = pyarrow.table(dict(columns))
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    file = io.BytesIO()
    parquet.write_table(table, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, [file.getvalue()])


def lists(rows: np.ndarray) -> pyarrow.Array:
    """`t n` as a column of lists of n."""
    return _pyarrow().FixedSizeListArray.from_arrays(np.ascontiguousarray(rows).reshape(-1), rows.shape[1])


def _pyarrow():
    try:
        import pyarrow
    except ImportError as error:
        raise UserError('this export writes Parquet, which needs pyarrow: pip install "innerworld[data]"') from error
    return pyarrow
