"""`Shelf`: the files of a store that a reader knows, each under a number that stays good, and what lies in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innerworld.data.store.files import Files, Folder
from innerworld.data.store.index import Index, index_of
from innerworld.data.store.maps import Columns, Maps
from innerworld.data.store.meta import Meta
from innerworld.data.store.part import Part, one_of, place_of, read_part, readable, records_of
from innerworld.data.store.record import Record
from innerworld.data.store.scan import Found, scan
from innerworld.data.store.shard import Column, map_columns, open_map, read_columns, view_columns
from innerworld.errors import UserError


class Shelf:
    """`see` and `take` tell it what there is; `arrays`, `place` and `record` look inside."""

    def __init__(self, files: Files, meta: Meta) -> None:
        self.files = files
        self.meta = meta
        self.loose: list[Part] = []  # those that are in no shard yet
        self._parts: list[Part] = []  # only ever grows
        self._known: dict[str, int] = {}  # their numbers, by file
        self._order: list[int] = []  # the numbers of those that count, in the order of their episodes
        self._index: Index | None = None
        self._maps = Maps()
        self._last: tuple[int, int, list[Record]] | None = None  # the file whose records were asked for last
        self._seen_elsewhere: list[Part] = []  # where loose episodes went

    @property
    def index(self) -> Index:
        """Made when it is asked for: a writer adds many episodes without."""
        if self._index is None:
            self._index = index_of([self._parts[i] for i in self._order], self._order)
        return self._index

    def see(self, found: Found) -> None:
        """Take what is in the folder for all there is."""
        self._order, self.loose = [], []
        self.take(found.parts)

    def take(self, parts: Sequence[Part]) -> None:
        """Take these for committed; loose ones that a shard among them holds are that shard's now."""
        for part in parts:
            number = self._known.get(part.file)
            if number is None or not _same(self._parts[number], part):
                number = self._known[part.file] = len(self._parts)
                self._parts.append(part)
            if part.loose:
                self.loose.append(part)
            elif any(part.holds(each.first) for each in self.loose):
                self.loose = [each for each in self.loose if not part.holds(each.first)]
                self._order = [i for i in self._order if not part.holds(self._parts[i].first)]
            self._order.append(number)
        self._order.sort(key=lambda i: self._parts[i].first)
        self._index = None

    def arrays(self, number: int) -> Columns:
        """The columns of one file, to be sliced."""
        found = self._maps.get(number)
        return self._map(number) if found is None else found

    def touched(self, count: int) -> None:
        """See `Maps.touched`."""
        self._maps.touched(count)

    def place(self, number: int) -> tuple[Path, Mapping[str, Column]]:
        """Where unpacked columns lie."""
        path, whole, part = self._locate(number)
        return path, place_of(
            self._columns(path, whole), whole, range(part.first - whole.first, part.stop - whole.first)
        )

    def record(self, number: int, episode: int) -> Record:
        """One episode as it lies in its file."""
        if self._last is None or self._last[0] != number:
            path, whole, _ = self._locate(number)
            records = records_of(map_columns(path, self._columns(path, whole)), whole)
            self._last = number, whole.first, records
        return self._last[2][episode - self._last[1]]

    def _locate(self, number: int) -> tuple[Path, Part, Part]:
        """A file on this disk, what it holds, and which part of that was asked for."""
        part = self._parts[number]
        path = self.files.local(part.file)
        if not part.loose or path.exists():
            return path, part, part
        for parts in (self._seen_elsewhere, scan(self.files, self.meta).parts):  # a writer has put it into a shard
            for whole in parts:
                if whole.holds(part.first) and not whole.loose:
                    self._seen_elsewhere = list(parts)
                    return self.files.local(whole.file), whole, part
        raise UserError(f"cannot read {path}: it is gone, and no shard has episode {part.first}")

    def _map(self, number: int) -> Columns:
        for _ in range(3):  # a loose file may go between two lines
            path, whole, part = self._locate(number)
            try:
                memory = open_map(path)
            except FileNotFoundError:
                continue
            columns: Columns = readable(path, view_columns(path, memory, self._columns(path, whole)), self.meta)
            if whole is not part:
                columns = one_of(columns, whole, part.first - whole.first)
            self._maps.put(number, columns, memory)
            return columns
        raise UserError(f"cannot read {self.files.name}/{self._parts[number].file}: it is gone")

    def _columns(self, path: Path, part: Part) -> Mapping[str, Column]:
        """Where the columns of a file lie; one that was fetched is looked at now, others were when we opened."""
        if not isinstance(self.files, Folder) and not _same(read_part(path, part.file, self.meta, part.first), part):
            raise UserError(f"{path} is corrupt: it holds other episodes than the manifest says")
        return read_columns(path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None, "_last": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps = Maps()


def _same(one: Part, other: Part) -> bool:
    return one.first == other.first and np.array_equal(one.lengths, other.lengths)
