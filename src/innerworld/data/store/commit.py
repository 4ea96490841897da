"""`Desk`: what a writer does while it holds a store's lock: put what a kill left in order, commit, compact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from innerworld.data.store.manifest import append_manifest, trim_manifest, write_manifest
from innerworld.data.store.meta import FORMAT, Meta, write_meta
from innerworld.data.store.part import EPISODES, SHARDS, Part, records_of, write_part
from innerworld.data.store.record import Record
from innerworld.data.store.scan import DAMAGED, Found, episode_file, shard_file
from innerworld.data.store.shard import map_columns, read_columns
from innerworld.disk import reason
from innerworld.errors import UserError


class Desk:
    """Knows which numbers come next. Everything it does survives a kill at any moment, without repetition or loss.

    1. An episode: written beside, renamed to `episodes/<number>`.
    2. Compaction: the shard is written, flushed to the disk and renamed; its line is added to the manifest; the loose
       files go. A shard knows the number of its first episode, so loose ones that it holds are known, too.
    """

    def __init__(self, root: Path, meta: Meta, found: Found) -> None:
        self.root = root
        self.meta = meta
        self.next_episode = found.next_episode
        self.next_shard = found.next_shard
        try:
            self._tidy(found)
        except OSError as error:
            raise UserError(f"cannot write {root}: {reason(error)}") from error

    def episode(self, record: Record) -> Part:
        """Commit one episode as a loose file."""
        part = write_part(self.root, episode_file(self.next_episode), self.next_episode, [record], durable=False)
        self.next_episode += 1
        return part

    def shard(self, records: Sequence[Record], first: int | None = None) -> Part:
        """Commit episodes as one shard: new ones, or (`first`) such as have their numbers."""
        number = self.next_episode if first is None else first
        self.next_shard += 1
        part = write_part(self.root, shard_file(self.next_shard - 1), number, records)
        self.next_episode = max(self.next_episode, part.stop)
        append_manifest(self.root, part)
        return part

    def compact(self, loose: Sequence[Part]) -> Part:
        """Commit loose episodes, whose numbers follow one another, as one shard; then their files go."""
        records = []
        for part in loose:
            path = self.root / part.file
            records += records_of(map_columns(path, read_columns(path)), part)
        shard = self.shard(records, loose[0].first)
        for part in loose:
            (self.root / part.file).unlink(missing_ok=True)
        return shard

    def _tidy(self, found: Found) -> None:
        """Put in order what was found, so that the folder looks as if nobody had been killed."""
        for name in (EPISODES, SHARDS):
            (self.root / name).mkdir(exist_ok=True)
            for leftover in (self.root / name).glob("*.tmp"):
                leftover.unlink(missing_ok=True)
        if self.meta.format < FORMAT:
            self._upgrade(found)
        else:
            trim_manifest(self.root)
            for part in found.unlisted:
                append_manifest(self.root, part)
        for file in found.stale:
            (self.root / file).unlink(missing_ok=True)
        for file in found.torn:
            set_aside(self.root, file)

    def _upgrade(self, found: Found) -> None:
        """From format 1, which had shards alone: they stay as they are, and get a manifest."""
        if found.faults:
            raise UserError(f"{found.faults[0]}: repair it first with innerworld data repair {self.root}")
        write_manifest(self.root, found.parts)
        self.meta = self.meta.model_copy(update={"format": FORMAT})
        write_meta(self.root, self.meta)


def set_aside(root: Path, file: str) -> Path:
    """Move a damaged file to `damaged/`, under a name that nothing there has; never delete it."""
    target = root / DAMAGED / Path(file).name
    target.parent.mkdir(exist_ok=True)
    count = 0
    while target.exists():
        count += 1
        target = root / DAMAGED / f"{Path(file).stem}.{count}{Path(file).suffix}"
    (root / file).rename(target)
    return target
