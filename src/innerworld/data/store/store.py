"""`Store`: a folder of experience; whole episodes, each committed by a rename, packed into shards, read by map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerworld.activity import doing
from innerworld.data.store.check import check_episode
from innerworld.data.store.commit import Desk
from innerworld.data.store.files import Files, Folder
from innerworld.data.store.index import Index
from innerworld.data.store.maps import Columns
from innerworld.data.store.meta import About, Frames, Meta, Source, new_meta, read_meta, write_meta
from innerworld.data.store.packed import check_frames
from innerworld.data.store.part import EPISODES, SHARDS
from innerworld.data.store.record import Record, record_of
from innerworld.data.store.scan import Found, scan
from innerworld.data.store.shard import Column
from innerworld.data.store.shelf import Shelf
from innerworld.data.store.statistics import Statistics, statistics_of
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.types import Clip, Spec

__all__ = ["About", "Meta", "Store", "check_episode"]

COMPACT_EPISODES = 64
COMPACT_BYTES = 64_000_000
"""Loose episodes become a shard when there are so many of them, or they are so large."""

log = logging.getLogger(__name__)


class Store:
    """A folder of experience. One process may write, many may read meanwhile.

    Make one with `Store.create` or `Store.open`. It can be pickled: the copy reads the same episodes.
    """

    def __init__(self, files: Files, meta: Meta, found: Found, skip_corrupt: bool = False) -> None:
        self.meta = meta
        self.name = files.name
        self._files = files
        self._skip_corrupt = skip_corrupt
        self._shelf = Shelf(files, meta)
        self._loose_bytes = 0
        self._desk: Desk | None = None
        self._held = False  # the lock
        self._token: str | None = None  # of our last lock
        self._shelf.see(found)

    @classmethod
    def create(
        cls,
        path: str | Path,
        spec: Spec,
        about: About = About(),
        frames: Frames = "raw",
        sources: tuple[Source, ...] = (),
    ) -> Store:
        """Begin an empty store, images packed as `frames` says ("raw", "zstd": lossless, "jpeg": lossy).

        Raises `UserError` if the folder has content or cannot be written, and for a packing that is not to be had.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists already: choose another folder, or open it to add to it")
        check_frames(frames, spec)
        meta = new_meta(spec, about, frames, sources)
        try:
            for folder in (EPISODES, SHARDS):
                (path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {path}: {error.strerror}") from error
        write_meta(path, meta)
        return cls(Folder(path), meta, Found())

    @classmethod
    def open(cls, where: str | Path | Files, skip_corrupt: bool = False) -> Store:
        """Open a store to read it or add to it: a path, an address such as s3://bucket/store, or a `Files`.

        Raises `UserError` for a folder that is no store, a newer format, and a missing or damaged shard, which
        `skip_corrupt` leaves out with one warning in the log instead.
        """
        files = _files(where)
        meta = read_meta(files)
        check_frames(meta.frames, meta.spec)
        with doing(f"opening {files.name}"):
            found = scan(files, meta)
        if found.faults and not skip_corrupt:
            raise UserError(f"{found.faults[0]} (open the store with skip_corrupt=True to go on without it)")
        left_out = [*found.faults, *found.torn.values()]
        if left_out:
            log.warning("%s: left out %d files: %s", files.name, len(left_out), "; ".join(left_out))
        return cls(files, meta, found, skip_corrupt)

    # ------------------------------------------------------------------ what is in it

    @property
    def path(self) -> Path:
        """Its folder. Raises `UserError` for a store in a bucket, which has a `name` alone."""
        if not isinstance(self._files, Folder):
            raise UserError(f"{self.name} is not on this disk: it can be read, and not be changed")
        return self._files.path

    @property
    def here(self) -> bool:
        """Is it on this disk?"""
        return isinstance(self._files, Folder)

    def text(self, file: str) -> bytes | None:
        """The content of a small file beside the shards; None where there is none such."""
        return self._files.local(file).read_bytes() if file in self._files.names(".") else None

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

    @property
    def index(self) -> Index:
        return self._shelf.index

    @property
    def lengths(self) -> np.ndarray:
        return self.index.lengths

    @property
    def seeds(self) -> np.ndarray:
        return self.index.seeds

    @property
    def numbers(self) -> np.ndarray:
        return self.index.numbers

    @property
    def shard_of(self) -> np.ndarray:
        return self.index.shard_of

    @property
    def action_row(self) -> np.ndarray:
        return self.index.action_row

    @property
    def obs_row(self) -> np.ndarray:
        return self.index.obs_row

    def episode(self, i: int) -> Clip:
        """Episode `i` as a clip with b = 1, copied into memory. Raises `UserError` if there is none such."""
        if not 0 <= i < len(self):
            raise UserError(f"{self.name} has no episode {i}: it has {len(self)}, counted from 0")
        rows = self.arrays(int(self.shard_of[i]))
        t, row, first = int(self.lengths[i]), int(self.action_row[i]), int(self.obs_row[i])

        def copied(name: str, start: int, stop: int) -> torch.Tensor:
            return torch.from_numpy(np.array(rows[name][start:stop]))[None]

        return Clip(
            {sensor: copied(f"obs.{sensor}", first, first + t + 1) for sensor in self.spec.obs},
            copied("action", row, row + t),
            copied("reward", row, row + t),
            copied("terminated", row, row + t),
        )

    def record(self, i: int) -> Record:
        """Episode `i` as it lies in its file, packed or not, with its checksum."""
        return self._shelf.record(int(self.shard_of[i]), int(self.numbers[i]))

    def arrays(self, shard: int) -> Columns:
        """The columns of one entry of `shard_of`: `obs.<sensor>`, `action`, `reward`, `terminated`, to be sliced.

        Arrays over a memory map, or `Packed`, which unpacks the rows that are asked for. Once opened they stay good
        when a writer compacts meanwhile; a number from before finds its episode in the shard.
        """
        return self._shelf.arrays(shard)

    def place(self, shard: int) -> tuple[Path, Mapping[str, Column]]:
        """The file of one entry of `shard_of`, and where its unpacked columns lie in it; fetched from a bucket."""
        return self._shelf.place(shard)

    def touched(self, count: int) -> None:
        """Say that about `count` bytes were read through `arrays`, so that a process stays small in a large store."""
        self._shelf.touched(count)

    def refresh(self) -> int:
        """See what another process has committed since; returns how many episodes are new. Old numbers stay good."""
        before = len(self)
        self._shelf.see(scan(self._files, self.meta))
        return len(self) - before

    def statistics(self, progress: Callable[[int, int], None] | None = None) -> Statistics:
        """Mean, deviation and range of every sensor, action and reward: from `statistics.json`, brought up to date."""
        return statistics_of(self, progress)

    # ------------------------------------------------------------------ adding to it

    @contextmanager
    def writing(self) -> Iterator[Desk]:
        """Hold the store's lock, so that many episodes are added without taking it for each. May be nested.

        Raises `UserError` that names the process that holds it.
        """
        if self._held:
            yield self._seated()
            return
        with lock(self.path, "store") as held:
            if held.before != self._token:  # somebody else wrote since
                self._desk = None
            self._token, self._held = held.token, True
            try:
                yield self._seated()
            finally:
                self._held = False

    def add(self, clip: Clip, seed: int | None = None) -> None:
        """Commit one episode (b = 1): it survives the death of the process when this returns.

        Raises `UserError` for an episode that does not fit the spec (see `check_episode`), and for a full disk.
        """
        check_episode(self.spec, clip)
        record = record_of(self.spec, clip, self.meta.frames, seed)
        with self._committing() as desk:
            self._shelf.take([desk.episode(record)])
            self._loose_bytes += record.bytes
            if len(self._shelf.loose) >= COMPACT_EPISODES or self._loose_bytes >= COMPACT_BYTES:
                self._compact(desk)

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
        given = [None] * len(clips) if seeds is None else seeds
        packed = [record_of(self.spec, clip, self.meta.frames, seed) for clip, seed in zip(clips, given, strict=True)]
        self.add_records(packed)

    def add_records(self, records: Sequence[Record]) -> None:
        """Commit episodes that are packed as this store packs them, as one shard."""
        with self._committing() as desk:
            self._shelf.take([desk.shard(records)])

    def compact(self) -> None:
        """Pack the loose episodes into a shard, which a power cut cannot take away."""
        if self._shelf.loose:
            with self._committing() as desk:
                self._compact(desk)

    @contextmanager
    def _committing(self) -> Iterator[Desk]:
        with self.writing() as desk:
            try:
                yield desk
            except BaseException as error:
                # What was done and what not is told by the folder alone: look at it before the next commit.
                self._desk = None
                if not isinstance(error, UserError):
                    raise
                safe = f"the {len(self)} episodes written before are safe in {self.path}"
                raise UserError(f"{error}: {safe}") from error

    def _compact(self, desk: Desk) -> None:
        while loose := self._shelf.loose:
            run = [part for i, part in enumerate(loose) if part.first == loose[0].first + i]
            self._shelf.take([desk.compact(run)])
        self._loose_bytes = 0

    def _seated(self) -> Desk:
        """Our desk, with everything in order that was found in the folder."""
        if self._desk is None:
            found = scan(self._files, self.meta)
            if found.faults and not self._skip_corrupt:
                raise UserError(found.faults[0])
            self._desk = Desk(self.path, self.meta, found)
            self.meta = self._desk.meta
            self._shelf.see(found)
            self._loose_bytes = sum((self.path / part.file).stat().st_size for part in self._shelf.loose)
        return self._desk

    def __getstate__(self) -> dict[str, Any]:
        """A copy reads what we read; it holds no lock."""
        return {**self.__dict__, "_desk": None, "_held": False, "_token": None}


def _files(where: str | Path | Files) -> Files:
    if isinstance(where, str) and "://" in where:
        from innerworld.data.store.remote import Bucket  # late: only for stores elsewhere

        return Bucket(where)
    return Folder(Path(where)) if isinstance(where, str | Path) else where
