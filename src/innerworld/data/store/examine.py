"""`examine` and `verify`: is every byte of a store what was written? Bad episodes are named one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from innerworld.activity import doing
from innerworld.data.store.files import Folder
from innerworld.data.store.manifest import read_manifest
from innerworld.data.store.meta import Meta, read_meta
from innerworld.data.store.part import Part, read_part, records_of
from innerworld.data.store.record import BYTES, NO_CRC, OBS, Record, crc_of
from innerworld.data.store.scan import MENDING, episode_file, numbers_in, shard_file
from innerworld.data.store.shard import Column, map_columns, read_head
from innerworld.errors import UserError

Progress = Callable[[int, int], None]
"""(files done, files in all), called after each."""


@dataclass(frozen=True)
class Fault:
    """Something that is not what was written."""

    file: str  # relative to the store
    episode: int | None  # its number; None: the file as a whole, or its index
    what: str

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.what}" if self.episode is None else f"{self.file}: episode {self.episode} {self.what}"
        )


@dataclass
class Examined:
    """One file: what can be taken from it, and what is wrong with it."""

    file: str
    part: Part | None = None  # None: nothing can be found in it
    good: list[tuple[int, Record]] = field(default_factory=list)  # by number; views into the file
    faults: list[Fault] = field(default_factory=list)
    unchecked: int = 0  # episodes of format 1, which have no checksum


@dataclass(frozen=True)
class Verified:
    """What `verify` found."""

    files: int
    episodes: int  # good ones
    unchecked: int  # of these, those without a checksum
    faults: list[Fault]


def verify(path: str | Path, progress: Progress | None = None) -> Verified:
    """Read everything and compare every checksum. Raises `UserError` for what is no store at all."""
    root = Path(path)
    meta = read_meta(Folder(root))
    faults = [Fault(MENDING, None, "a repair was interrupted")] if Folder(root).names(MENDING) else []
    _, lines = read_manifest(Folder(root))
    faults += [Fault("manifest.jsonl", None, line.rpartition(": ")[2]) for line in lines]
    files = episodes = unchecked = 0
    with doing(f"verifying {root}"):
        for found in examine_all(root, meta, progress):
            files += 1
            episodes += len(found.good)
            unchecked += found.unchecked
            faults += found.faults
    return Verified(files, episodes, unchecked, faults)


def examine_all(root: Path, meta: Meta, progress: Progress | None = None) -> Iterator[Examined]:
    """Every shard that is there or should be, then the loose episodes that are in no shard."""
    files = Folder(root)
    loose = numbers_in(files.names("episodes"))  # before the shards, into which a writer may put them meanwhile
    listed, _ = read_manifest(files)
    present = numbers_in(files.names("shards"))
    expected = range(max(present, default=-1) + 1) if meta.format == 1 else present
    shards = sorted({*map(shard_file, expected), *listed})
    holders: dict[int, str] = {}  # the file of each good episode
    first = 0
    for done, file in enumerate(shards, 1):
        found = examine(root, file, meta, listed.get(file), first if meta.format == 1 else None)
        if found.part is not None:
            first = found.part.stop
        yield _once(found, holders)
        if progress is not None:
            progress(done, len(shards) + len(loose))
    for done, number in enumerate(loose, len(shards) + 1):
        if number not in holders and (root / episode_file(number)).exists():
            yield _once(_examine_loose(root, number, meta), holders)
        if progress is not None:
            progress(done, len(shards) + len(loose))


def _examine_loose(root: Path, number: int, meta: Meta) -> Examined:
    found = examine(root, episode_file(number), meta, None, None)
    if found.part is not None and (found.part.first, len(found.part.lengths)) != (number, 1):
        found.faults.append(Fault(found.file, None, f"is not episode {number}"))
    return found


def _once(found: Examined, holders: dict[int, str]) -> Examined:
    """An episode counts in the first file that holds it; one that a second holds is a fault of the second."""
    again = [number for number, _ in found.good if number in holders]
    if again:
        what = f"holds episode {again[0]}, which {holders[again[0]]} holds"
        found.faults.append(Fault(found.file, None, what))
        found.good = [(number, record) for number, record in found.good if number not in holders]
    holders.update((number, found.file) for number, _ in found.good)
    return found


def examine(root: Path, file: str, meta: Meta, line: Part | None, first: int | None) -> Examined:
    """Look into one file. `line` is what the manifest says of it, which also helps where its own index is damaged."""
    found = Examined(file)
    path = root / file
    if not path.exists():
        count = f" with {len(line.lengths)} episodes" if line else ""
        found.faults.append(Fault(file, None, f"is missing{count}"))
        return found
    try:
        part = read_part(path, file, meta, line.first if line else first)
        columns = read_head(path).columns
        if line is not None and (part.first, part.lengths.tolist()) != (line.first, line.lengths.tolist()):
            raise UserError(f"{path} is corrupt: it holds other episodes than its line in the manifest says")
    except UserError as error:
        found.faults.append(Fault(file, None, str(error).replace(f"{path} ", "").replace(str(path), file)))
        try:
            columns = _clipped(path, read_head(path, whole=False).columns)
            part = line or read_part(path, file, meta, first, whole=False)
        except UserError:
            return found
    found.part = part
    _examine_episodes(found, path, columns, part)
    return found


def _examine_episodes(found: Examined, path: Path, columns: dict[str, Column], part: Part) -> None:
    try:
        records = records_of(map_columns(path, columns), part)
    except (UserError, KeyError, IndexError, ValueError) as error:
        found.faults.append(Fault(found.file, None, f"its episodes cannot be found: {error}"))
        return
    for i, record in enumerate(records):
        number = part.first + i
        if not _whole(record):
            found.faults.append(Fault(found.file, number, "is cut off"))
        elif record.crc == NO_CRC:
            found.good.append((number, record))
            found.unchecked += 1
        elif crc_of(record.payload) != record.crc:
            found.faults.append(Fault(found.file, number, "is not what was written (checksum)"))
        else:
            found.good.append((number, record))


def _clipped(path: Path, columns: dict[str, Column]) -> dict[str, Column]:
    """The rows that a file which was cut short still has."""
    size = path.stat().st_size
    clipped = {}
    for name, column in columns.items():
        row = column.bytes // column.shape[0] if column.shape[0] else 0
        have = min(column.shape[0], max(0, size - column.offset) // row) if row else column.shape[0]
        offset = min(column.offset, size)
        clipped[name] = Column(column.dtype, (have, *column.shape[1:]), offset)
    return clipped


def _whole(record: Record) -> bool:
    t = record.length
    sizes = [len(record.payload[name]) == t for name in ("action", "reward", "terminated")]
    sizes += [len(rows) == t + 1 for name, rows in record.payload.items() if name.startswith(OBS)]
    for sensor, ends in record.ends.items():
        sizes += [len(ends) == t + 1 and bool(np.all(np.diff(ends, prepend=0) >= 0))]
        sizes += [len(record.payload[BYTES + sensor]) == int(ends[-1])] if len(ends) else [False]
    return all(sizes)
