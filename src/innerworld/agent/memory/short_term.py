"""Short-term memory: what was believed, done and felt of late, asked by time or by likeness, and bounded."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from innerworld import saved
from innerworld.agent.memory.likeness import Similar, best, cosines, nothing
from innerworld.agent.memory.memory_file import pack, unpack
from innerworld.agent.memory.stale import renewed, stale
from innerworld.agent.memory.tape import Episode, Tape
from innerworld.agent.modules import Believed, Moment
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import each

MIB = 2**20
NAME = "memory"  # of its files


class MemoryConfig(Config):
    steps: int = Field(default=100_000, description="moments kept at most, those of all worlds together, steps", ge=1)
    mebibytes: float = Field(default=64.0, description="room that they may take at most, MiB", gt=0)


class ShortTermMemory:
    """Moments of every world, oldest forgotten first: whole finished episodes, then what goes on now. Row i is world i.

    It holds at most `MemoryConfig.steps` moments of single worlds, and fewer where these would not find room in
    `mebibytes`; the present moment always finds room. Moments that are not finite are kept, and never similar.
    """

    def __init__(self, config: MemoryConfig = MemoryConfig()) -> None:
        self.config = config
        self._tape = Tape(torch.zeros(0, dtype=torch.long))
        self._finished: deque[Episode] = deque()
        self._past = 0  # moments in the finished ones
        self._begun = 0  # episodes so far
        self._goal: Tensor | None = None  # b d   what is pursued now
        self._widths: dict[str, int] = {}  # bytes of each column in a moment of one world
        self._version = 0  # of the features that are remembered now
        self._again: Believed | None = None  # gives stale features anew, as soon as somebody asks for them

    # ------------------------------------------------------------------ what happens

    def begin(self, b: int) -> None:
        """An episode begins in `b` worlds; those that went on until now were cut off, and stay."""
        self._finish(torch.ones_like(self._tape.ended))
        self._tape = Tape(torch.arange(self._begun, self._begun + b))
        self._begun += b
        self._goal = None

    def begin_rows(self, rows: Tensor) -> None:
        """An episode begins in some worlds (indices), while the others go on."""
        tape, fresh = self._tape, self._some(rows)
        self._finish(fresh)
        tape.number = torch.where(fresh, self._begun - 1 + fresh.long().cumsum(0), tape.number)
        tape.begins = torch.where(fresh, len(tape), tape.begins)
        tape.ended = tape.ended & ~fresh
        self._begun += int(fresh.sum())

    def pursue(self, goal: Tensor) -> None:
        """What is pursued from here on: its features, `b d`. Only a critic of goals needs to be told."""
        self._goal = goal.detach().float()

    def remember(self, moment: Moment) -> None:
        """Keep what is true of every world now. Raises `UserError` for other worlds or features than before."""
        values = {
            "features": moment.features,
            "action": moment.action,
            "cost": moment.cost,
            "foreseen": moment.foreseen,
            "surprise": moment.surprise,
        }
        if self._goal is not None:
            values["goal"] = self._goal
        values = {name: value.detach().float() for name, value in values.items()}
        if moment.sight is not None:
            seen = moment.sight.to(moment.features.device)
            values["sight"] = seen.double().masked_fill(seen < 0, torch.nan)
            values["version"] = torch.full_like(values["cost"], self._version)
        self._check(moment.time, values)
        if self._tape.number.device != moment.features.device:
            self._tape.to(moment.features.device)
        self._tape.append(moment.time, values, max(1, self.capacity // max(1, self._tape.worlds)))
        self._forget()

    def end(self, rows: Tensor) -> None:
        """These worlds (indices) have ended: no cost comes after their last moment."""
        self._tape.ended = self._tape.ended | self._some(rows)

    def keep(self, rows: Tensor, ended: bool = True) -> None:
        """Go on with some of the worlds only (indices); the others are done, or with `ended=False` cut off."""
        rows = rows.to(self._tape.ended.device)
        gone = ~self._some(rows)
        self._tape.ended = self._tape.ended | (gone & ended)
        self._finish(gone)
        self._tape.keep(rows)
        self._goal = None if self._goal is None else self._goal[rows]

    def refresh(self, version: int, again: Believed) -> None:
        """Features mean something else from now on, if the `version` is another one than before.

        As soon as somebody asks for those of before, `again` gives them anew, of all whose sight is still known; the
        others become NaN: never similar, and nothing that a critic learns from. What was pursued then becomes NaN, too.
        """
        if version != self._version:
            self._version, self._again = version, again

    # ------------------------------------------------------------------ what is asked

    def recall(self, last: int) -> Sequence[Moment]:
        """The last moments of this episode, oldest first; fewer where there are no more.

        NaN in the rows whose episode began later.
        """
        return self._moments(max(0, len(self._tape) - last), len(self._tape))

    def at(self, time: int) -> Moment | None:
        """The moment at that time of this episode; none where it is forgotten or has not been."""
        return next(iter(self.between(time, time + 1)), None)

    def between(self, t0: int, t1: int) -> Sequence[Moment]:
        """The moments of this episode with t0 ≤ time < t1, oldest first."""
        return self._moments(bisect_left(self._tape.times, t0), bisect_left(self._tape.times, t1))

    def similar(
        self, features: Tensor, k: int = 8, within: Literal["episode", "all"] = "episode", before: int | None = None
    ) -> Similar:
        """The k moments whose features are most similar to `features` `b d`, for each row.

        They are sought in the row's own episode, or in all that is remembered of all worlds; `before` leaves out what
        came at that time or later in its own. Past moments that are not finite are never similar.
        """
        self._renew()
        query = features.detach().float()
        return self._like_own(query, k, before) if within == "episode" else self._like_any(query, k, before)

    def episodes(self, running: bool = False) -> list[Episode]:
        """Finished episodes, oldest first; with `running` those that go on, too."""
        self._renew()
        now = self._tape.episodes(torch.ones_like(self._tape.ended)) if running else []
        return [*self._finished, *now]

    @property
    def capacity(self) -> int:
        """Moments of single worlds that it may hold, given how large they are."""
        return max(1, min(self.config.steps, int(self.config.mebibytes * MIB) // self._bytes))

    @property
    def nbytes(self) -> int:
        """What it occupies, bytes."""
        return (self._past + self._tape.worlds * self._tape.room) * self._bytes

    @property
    def held(self) -> int:
        """Moments of single worlds that it holds."""
        return self._past + self._tape.worlds * len(self._tape)

    def __repr__(self) -> str:
        return (
            f"ShortTermMemory({self._tape.worlds} worlds × {len(self._tape)} moments now, "
            f"{len(self._finished)} finished episodes; {self.held:,} of at most {self.capacity:,} moments, "
            f"{self.nbytes / MIB:.1f} of at most {self.config.mebibytes:g} MiB)"
        )

    # ------------------------------------------------------------------ how it outlives the program

    def save(self, folder: Path | str) -> None:
        """Write all of it, atomically, as `memory.json` and safetensors. Raises `UserError` when the disk refuses."""
        self._renew()
        told = {"begun": self._begun, "version": self._version}
        saved.write(folder, NAME, pack(self._tape, self._finished, self._goal), told)

    def load(self, folder: Path | str) -> None:
        """Go on where `save` left off; what is more than this memory may hold is forgotten.

        Raises `UserError` that names the file which is missing or broken.
        """
        tensors, told = saved.read(folder, NAME)
        self._tape, finished, self._goal = unpack(tensors)
        self._begun, self._finished = int(told["begun"]), deque(finished)
        self._version, self._again = int(told["version"]), None
        self._past = sum(map(len, finished))
        lived = self._tape.columns() or (each(lambda column: column[None], finished[0].columns()) if finished else {})
        self._widths = {name: column[0, 0].nbytes for name, column in lived.items()}
        self._forget()

    # ------------------------------------------------------------------ how it keeps

    @property
    def _bytes(self) -> int:
        """Of a moment of one world, and the time."""
        return sum(self._widths.values()) + 8

    def _some(self, rows: Tensor) -> Tensor:
        """Indices as `b` bool."""
        return torch.zeros_like(self._tape.ended).index_fill(0, rows.to(self._tape.ended.device), True)

    def _check(self, time: int, values: dict[str, Tensor]) -> None:
        b = len(values["features"])
        if b != self._tape.worlds:
            raise UserError(f"a moment of {b} worlds, but {self._tape.worlds} go on: call begin({b}), or keep")
        if self._tape.times and time <= self._tape.times[-1]:
            raise UserError(f"time {time} does not come after {self._tape.times[-1]}: call begin for a new episode")
        for name, value in values.items():
            width = value[0].nbytes
            if self._widths.setdefault(name, width) != width:
                held = self._widths[name] // value.element_size()
                raise UserError(
                    f"{name} of {value[0].numel()} numbers, this memory holds {held}: each model needs its own memory"
                )

    def _renew(self) -> None:
        """Give all stale features anew."""
        if self._again is None:
            return
        again, self._again = self._again, None
        now, *past = renewed([self._tape.columns(), *(each.columns() for each in self._finished)], self._version, again)
        self._tape.replace(now)
        self._widths.setdefault("version", 4)
        self._finished = deque(replace(old, **new) for old, new in zip(self._finished, past, strict=True))

    def _finish(self, rows: Tensor) -> None:
        done = self._tape.episodes(rows)
        self._finished.extend(done)
        self._past += sum(map(len, done))

    def _forget(self) -> None:
        """Finished episodes, oldest first, until what is left may stay."""
        while self._finished and self._past + self._tape.worlds * self._tape.room > self.capacity:
            self._past -= len(self._finished.popleft())

    def _moments(self, first: int, end: int) -> list[Moment]:
        if first >= end:
            return []
        if self._again is not None and bool(stale(self._tape.columns(), self._version)[:, first:end].any()):
            self._renew()
        names = ("features", "action", "cost", "foreseen", "surprise")
        lived = {name: column[:, first:end] for name, column in self._tape.columns().items() if name in names}
        if bool((self._tape.begins > first).any()):
            before = torch.arange(first, end, device=self._tape.begins.device) < self._tape.begins[:, None]  # b t
            lived = {
                name: column.masked_fill(before.view(*before.shape, *[1] * (column.ndim - 2)), torch.nan)
                for name, column in lived.items()
            }
        return [
            Moment(self._tape.times[first + i], **each(lambda column: column[:, i], lived))  # noqa: B023
            for i in range(end - first)
        ]

    def _like_own(self, query: Tensor, k: int, before: int | None) -> Similar:
        tape, lived = self._tape, self._tape.columns()
        if not len(tape):
            return nothing(query, k)
        time, out = self._out(before)
        alike = cosines(query, lived["features"]).masked_fill(out, -torch.inf)  # b t
        return best(alike, lived["cost"], time[None], tape.number[:, None], k)

    def _like_any(self, query: Tensor, k: int, before: int | None) -> Similar:
        """One matrix product for each finished episode, so that nothing large is copied."""
        found = [
            (
                cosines(query, past.features.to(query.device)),
                past.cost,
                past.time,
                torch.full_like(past.time, past.number),
            )
            for past in self._finished
        ]
        if len(self._tape):
            found.append(self._like_now(query, before))
        if not found:
            return nothing(query, k)
        alike, cost, time, episode = zip(*found, strict=True)
        rest = (torch.cat([part.to(query.device) for part in column])[None] for column in (cost, time, episode))
        return best(torch.cat(alike, dim=1), *rest, k=k)

    def _like_now(self, query: Tensor, before: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How similar what all worlds live now is to each row, `b m`; its cost, time and episode, `m`."""
        tape, lived = self._tape, self._tape.columns()
        time, out = self._out(None)
        own = torch.eye(tape.worlds, dtype=torch.bool, device=time.device)[..., None]  # b b 1
        out = out | (own & self._out(before)[1])  # b b t
        alike = cosines(query, lived["features"].flatten(0, 1)).masked_fill(out.flatten(1), -torch.inf)
        episode = tape.number[:, None].expand(-1, len(tape))
        return alike, lived["cost"].flatten(), time.expand(tape.worlds, -1).flatten(), episode.flatten()

    def _out(self, before: int | None) -> tuple[Tensor, Tensor]:
        """The times `t` on the tape, and what of it does not count in each row's own episode, `b t`."""
        tape = self._tape
        time = torch.tensor(tape.times, device=tape.number.device)
        out = torch.arange(len(tape), device=time.device) < tape.begins[:, None]  # b t
        return time, out if before is None else out | (time >= before)
