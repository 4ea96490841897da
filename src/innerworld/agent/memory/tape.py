"""`Tape`: what is lived in b worlds at once, in tensors that grow up to a limit; `Episode`: one world's part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.types import each

FIRST = 64  # moments for which there is room at first
FORGOTTEN = 4  # one part in so many is forgotten at once, so that forgetting costs next to nothing a step


@dataclass(frozen=True)
class Episode:
    """What one world went through, in order, as far as it is remembered."""

    number: int  # of all episodes that the memory has seen begin
    ended: bool  # the world ended, or was done: no cost comes after (not: time ran out)
    time: Tensor  # t
    features: Tensor  # t d
    action: Tensor  # t a
    cost: Tensor  # t
    foreseen: Tensor  # t
    surprise: Tensor  # t
    goal: Tensor | None = None  # t d   features of what was pursued; none: that was never told
    sight: Tensor | None = None  # t     number of what was seen, NaN: none; None: nobody learnt on the job
    version: Tensor | None = None  # t   of the features, see `ShortTermMemory.refresh`

    def __len__(self) -> int:
        return len(self.time)

    def columns(self) -> dict[str, Tensor]:
        """What it holds beside the times, each `t ...`, as a tape names it."""
        known = {
            "features": self.features,
            "action": self.action,
            "cost": self.cost,
            "foreseen": self.foreseen,
            "surprise": self.surprise,
        }
        more = {"goal": self.goal, "sight": self.sight, "version": self.version}
        return known | {name: value for name, value in more.items() if value is not None}


class Tape:
    """Columns `b t ...` of named numbers. What it has given out is never changed later.

    `begins` is where in it each row's present episode begins, and `number` what that episode is called.
    """

    def __init__(self, number: Tensor) -> None:
        self.times: list[int] = []
        self.number = number  # b
        self.begins = torch.zeros_like(number)  # b
        self.ended = torch.zeros_like(number, dtype=torch.bool)  # b   no moment comes after
        self._columns: dict[str, Tensor] = {}  # b room ...

    def __len__(self) -> int:
        return len(self.times)

    @property
    def worlds(self) -> int:
        return len(self.number)

    @property
    def room(self) -> int:
        """Moments for which there is room: what it occupies."""
        return next(iter(self._columns.values())).shape[1] if self._columns else 0

    def columns(self) -> dict[str, Tensor]:
        """All that it holds, each `b t ...`."""
        return each(lambda column: column[:, : len(self)], self._columns)

    def append(self, time: int, values: Mapping[str, Tensor], limit: int) -> None:
        """One more moment, each value `b ...`; a value that was never there before is NaN in the moments before.

        At the `limit` the oldest are forgotten.
        """
        if len(self) >= limit:
            self.forget(len(self) - limit + max(1, limit // FORGOTTEN), min(limit, self.room))
        for name, value in values.items():
            if name not in self._columns:
                room = self.room or min(FIRST, limit)
                self._columns[name] = value.new_full((len(value), room, *value.shape[1:]), torch.nan)
        if len(self) == self.room:
            self.forget(0, min(limit, 2 * self.room))
        for name, value in values.items():
            self._columns[name][:, len(self)] = value
        self.times.append(time)

    def forget(self, count: int, room: int) -> None:
        """Let go of the oldest moments, and have that much room from here on."""
        left = each(lambda column: column[:, count:], self.columns())
        self.times = self.times[count:]
        self.begins = (self.begins - count).clamp(min=0)
        self._columns = each(lambda column: _in_room(column, room), left)

    def keep(self, rows: Tensor) -> None:
        self.number, self.begins, self.ended = self.number[rows], self.begins[rows], self.ended[rows]
        self._columns = each(lambda column: column[rows], self._columns)

    def to(self, device: torch.device) -> None:
        self.number, self.begins, self.ended = (x.to(device) for x in (self.number, self.begins, self.ended))
        self._columns = each(lambda column: column.to(device), self._columns)

    def fill(self, times: list[int], columns: Mapping[str, Tensor], room: int) -> None:
        """Hold this instead of what it held."""
        self.times, self._columns = times, each(lambda column: _in_room(column, room), columns)

    def replace(self, columns: Mapping[str, Tensor]) -> None:
        """Hold these columns, each `b t ...`, instead of those of the same names."""
        self._columns = self._columns | each(lambda column: _in_room(column, self.room), columns)

    def episodes(self, rows: Tensor) -> list[Episode]:
        """Copies of what these rows (`b` bool) went through; none of a row that has not lived a moment."""
        found, columns = [], self.columns()
        time = torch.tensor(self.times)
        for row in rows.nonzero().flatten().tolist():
            begin = int(self.begins[row])
            if begin < len(self):
                lived = each(lambda column: column[row, begin:].clone(), columns)  # noqa: B023  used at once
                found.append(Episode(int(self.number[row]), bool(self.ended[row]), time[begin:].clone(), **lived))
        return found


def _in_room(column: Tensor, room: int) -> Tensor:
    """A copy of `b t ...` with room for more moments."""
    roomy = column.new_full((len(column), room, *column.shape[2:]), torch.nan)
    roomy[:, : column.shape[1]] = column
    return roomy
