"""`Part`: a committed file of whole episodes, be it a shard or one loose episode; written from `Record`s, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerworld.data.store.meta import Meta
from innerworld.data.store.packed import Packed
from innerworld.data.store.record import BYTES, ENDS, NO_CRC, NO_SEED, OBS, Record, obs_dtype
from innerworld.data.store.shard import Column, check_head, read_arrays, read_head, write_shard
from innerworld.errors import UserError

EPISODES, SHARDS = "episodes", "shards"
"""Folders of a store: of episodes that are in no shard yet, and of shards."""


@dataclass(frozen=True, eq=False)
class Part:
    """What is known of one file without reading its frames."""

    file: str  # relative to the store, with /
    first: int  # number of its first episode; the others follow
    lengths: np.ndarray  # e    actions in each
    seeds: np.ndarray  # e      NO_SEED where unknown

    @property
    def stop(self) -> int:
        """The number after its last episode."""
        return self.first + len(self.lengths)

    @property
    def loose(self) -> bool:
        return self.file.startswith(EPISODES + "/")

    def holds(self, number: int) -> bool:
        return self.first <= number < self.stop

    def starts(self) -> np.ndarray:
        """`e + 1`: the row where each episode's actions begin; its observations begin as many rows later as it has
        episodes before it."""
        return np.concatenate([[0], np.cumsum(self.lengths)])


def write_part(root: Path, file: str, first: int, records: Sequence[Record], durable: bool = True) -> Part:
    """Commit records as one file. Raises `UserError` for a full disk, and then there is no file."""
    columns: dict[str, Sequence[np.ndarray]] = {
        name: [record.payload[name] for record in records] for name in records[0].payload
    }
    for sensor in records[0].ends:
        columns[ENDS + sensor] = _joined_ends([record.ends[sensor] for record in records])
    part = Part(file, first, np.array([r.length for r in records]), np.array([r.seed for r in records]))
    columns["length"] = [part.lengths.astype(np.int64)]
    columns["seed"] = [part.seeds.astype(np.int64)]
    columns["crc"] = [np.array([record.crc for record in records], np.uint32)]
    write_shard(root / file, columns, {"first": str(first)}, _index(columns), durable)
    return part


def read_part(path: Path, file: str, meta: Meta, first: int | None = None, whole: bool = True) -> Part:
    """Check one file against the spec and read what it says of its episodes. Raises `UserError` that names it.

    `first` is for a shard of format 1, which does not know its number. Without `whole` it may be cut short.
    """
    head = read_head(path, whole)
    if "length" not in head.columns:
        raise UserError(f"{path} is corrupt: it has no column 'length'")
    index = read_arrays(path, {name: head.columns[name] for name in _index(head.columns)})
    check_head(path, head, index)
    lengths = index["length"]
    _check_columns(path, head.columns, lengths, meta)
    said = head.notes.get("first", "" if first is None else str(first))
    if not said.isdecimal():
        raise UserError(f"{path} is corrupt: it does not say which episodes it holds")
    return Part(file, int(said), lengths, index["seed"] if "seed" in index else np.full(len(lengths), NO_SEED))


def readable(path: Path, arrays: Mapping[str, np.ndarray], meta: Meta) -> dict[str, np.ndarray | Packed]:
    """Arrays of a file as readers want them: every sensor under `obs.<sensor>`, packed ones as `Packed`."""
    found: dict[str, np.ndarray | Packed] = {
        name: array for name, array in arrays.items() if not name.startswith((BYTES, ENDS))
    }
    for sensor, shape in meta.spec.obs.items():
        if ENDS + sensor in arrays:
            bounds = np.concatenate([[0], arrays[ENDS + sensor]])
            found[OBS + sensor] = Packed(meta.frames, arrays[BYTES + sensor], bounds, shape, str(path))
    return found


def one_of(columns: Mapping[str, np.ndarray | Packed], part: Part, i: int) -> dict[str, np.ndarray | Packed]:
    """The rows of one of a part's episodes, unread."""
    return {
        name: column.rows(*rows) if isinstance(column, Packed) else column[slice(*rows)]
        for name, column in columns.items()
        for rows in [_rows(name, part, i)]
    }


def place_of(columns: Mapping[str, Column], part: Part, episodes: range) -> dict[str, Column]:
    """Where the rows of some episodes of a part lie in its file; packed sensors, which have no rows, are left out."""
    found = {}
    for name, column in columns.items():
        if not name.startswith((BYTES, ENDS)):
            start, stop = _rows(name, part, episodes[0])[0], _rows(name, part, episodes[-1])[1]
            found[name] = column.rows(start, stop)
    return found


def _rows(name: str, part: Part, i: int) -> tuple[int, int]:
    """Where episode `i` of a part begins and ends in a column."""
    a, b = part.starts()[i : i + 2].tolist()
    if name.startswith(OBS):
        return a + i, b + i + 1
    return (a, b) if name in ("action", "reward", "terminated") else (i, i + 1)


def records_of(arrays: Mapping[str, np.ndarray], part: Part) -> list[Record]:
    """Every episode of a part, as views into its arrays."""
    starts = part.starts()
    crcs = arrays["crc"].tolist() if "crc" in arrays else [NO_CRC] * len(part.lengths)
    return [_record(arrays, part, starts, i, crcs[i]) for i in range(len(part.lengths))]


def _record(arrays: Mapping[str, np.ndarray], part: Part, starts: np.ndarray, i: int, crc: int) -> Record:
    a, b = int(starts[i]), int(starts[i + 1])
    payload = {name: arrays[name][a:b] for name in ("action", "reward", "terminated")}
    ends = {}
    for name, array in arrays.items():
        if name.startswith(OBS):
            payload[name] = array[a + i : b + i + 1]
        elif name.startswith(ENDS):
            sensor = name.removeprefix(ENDS)
            begin = int(array[a + i - 1]) if a + i else 0
            ends[sensor] = array[a + i : b + i + 1] - begin
            payload[BYTES + sensor] = arrays[BYTES + sensor][begin : begin + int(ends[sensor][-1])]
    return Record(payload, ends, int(part.lengths[i]), int(part.seeds[i]), crc)


def _index(names: Mapping[str, object]) -> list[str]:
    """The columns without which no episode can be found."""
    return [name for name in names if name in ("length", "seed", "crc") or name.startswith(ENDS)]


def _joined_ends(ends: Sequence[np.ndarray]) -> list[np.ndarray]:
    sizes = [int(each[-1]) for each in ends]
    return [each + before for each, before in zip(ends, np.cumsum([0, *sizes[:-1]]), strict=True)]


def _check_columns(path: Path, columns: Mapping[str, Column], lengths: np.ndarray, meta: Meta) -> None:
    expected = _expected(columns, len(lengths), int(lengths.sum()), meta)
    found = {name: (column.dtype, column.shape) for name, column in columns.items()}
    if found != expected or lengths.min(initial=1) < 1:
        wrong = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
        raise UserError(f"{path} is corrupt: {', '.join(wrong or ['length'])} does not fit the spec in meta.json")


def _expected(
    columns: Mapping[str, Column], count: int, t: int, meta: Meta
) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """What the columns of `count` episodes with `t` actions in all must be; the size of packed bytes is free."""
    expected: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "action": (np.float32, (t, meta.spec.action)),
        "reward": (np.float32, (t,)),
        "terminated": (np.bool_, (t,)),
        "length": (np.int64, (count,)),
    }
    for sensor, shape in meta.spec.obs.items():
        if meta.frames == "raw" or len(shape) != 3:
            expected[OBS + sensor] = (obs_dtype(shape), (t + count, *shape))
        else:
            packed = columns.get(BYTES + sensor)
            expected[ENDS + sensor] = (np.int64, (t + count,))
            expected[BYTES + sensor] = (np.uint8, (packed.bytes if packed else 0,))
    # A shard of format 1 has no checksums, and may lack the seeds.
    optional = {"seed": (np.int64, (count,)), "crc": (np.uint32, (count,))}
    return expected | {name: shape for name, shape in optional.items() if name in columns}
