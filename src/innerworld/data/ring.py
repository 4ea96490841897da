"""`Ring`: the replay of online training. The last moments of several lives, in files, with what was believed in each.

A row is a moment: what was seen, what was done then, the reward and the end that came of it, whether an episode began,
and the belief. Where an episode ends its last sight has a row, too, with an action of zeros that leads nowhere: the
next row is `first`, and who learns from a clip (`Clip.first`) does not look at the step into it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerworld.data.columns import Columns, Kind
from innerworld.data.draws import Draws
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.types import Clip, Spec, State

KEPT = 8  # counters of so many savings, for the newest checkpoint may be broken
NUMBER = "number"
BELIEF = "belief."
SENSOR = "obs."


@dataclass(frozen=True)
class Moment:
    """One row for each of the lives."""

    obs: Mapping[str, np.ndarray]  # n ...
    action: np.ndarray  # n a
    reward: np.ndarray  # n
    terminated: np.ndarray  # n
    first: np.ndarray  # n
    belief: Mapping[str, np.ndarray]  # n ...


@dataclass(frozen=True)
class Places:
    """Where the rows of a batch are from: the life, and the number that its first moment has there."""

    life: np.ndarray  # b
    start: np.ndarray  # b


def kinds(spec: Spec, belief: Mapping[str, Kind]) -> dict[str, Kind]:
    """The columns of a ring for this world and this kind of packed belief."""
    seen = {SENSOR + name: Kind(shape, "uint8" if len(shape) == 3 else "float32") for name, shape in spec.obs.items()}
    return {
        **seen,
        "action": Kind((spec.action,), "float32"),
        "reward": Kind((), "float32"),
        "terminated": Kind((), "bool"),
        "first": Kind((), "bool"),
        **{BELIEF + name: kind for name, kind in belief.items()},
        NUMBER: Kind((), "int64"),
    }


def row_bytes(spec: Spec, belief: Mapping[str, Kind]) -> int:
    """What one row takes on the disk."""
    return sum(kind.bytes for kind in kinds(spec, belief).values())


class Ring:
    """The last `capacity` moments of `lives` lives together, in the files of `folder`; clips have `length` actions.

    `save` notes how far it is in `<folder>.json`, beside a step; a ring that is opened `at` a step is as it was then,
    but for what was overwritten since. Each stretch of `length` new moments is drawn once, soon after it was lived;
    otherwise all stretches that are whole are equally likely. With `tau` those that were seldom drawn are likelier,
    and new ones have no other precedence (`Draws`). No more memory than a batch is used, and the counts of `Draws`.

    Raises `UserError` where the files do not fit on the disk, or are those of another world or model.
    """

    def __init__(
        self,
        folder: Path,
        spec: Spec,
        belief: Mapping[str, Kind],
        lives: int,
        capacity: int,
        length: int,
        at: int | None = None,
        tau: float | None = None,
    ) -> None:
        self.spec, self.lives, self.length, self.rows = spec, lives, length, capacity // lives
        if self.rows <= length:
            raise UserError(
                f"a replay of {capacity} rows for {lives} worlds holds no clip of {length} actions: "
                f"it needs at least {lives * (length + 1)} rows"
            )
        self._note = folder.with_name(folder.name + ".json")
        self._belief = dict(belief)
        self._layout = {
            "columns": {name: [*kind.shape, kind.dtype] for name, kind in kinds(spec, belief).items()},
            "lives": lives,
            "rows": self.rows,
        }
        self._saved = [] if at is None else self._read(at)
        self.noted: dict[str, Any] = self._saved[-1]["noted"] if self._saved else {}
        """What was given to `save` at that step."""
        self.noted_at: int | None = self._saved[-1]["step"] if self._saved else None
        """That step: `at`, or the newest before it; None where nothing was noted."""
        self.draws = None if tau is None else Draws(lives, self.rows, tau)
        if self.draws is not None and self._saved:
            self.draws.load(self._counts_of(self._saved[-1]["step"]))
        self.columns = Columns(folder, kinds(spec, belief), lives, self.rows)
        self.count = np.zeros(lives, np.int64)  # moments lived so far
        self._floor = np.zeros(lives, np.int64)  # no moment before this one is here
        self._due = np.zeros(lives, np.int64)  # where the next new stretch begins
        self._new: deque[tuple[int, int]] = deque()  # stretches that were not drawn yet
        if self._saved:
            self._go_on(self._saved[-1])

    @property
    def bytes(self) -> int:
        """On the disk."""
        return self.columns.bytes

    @property
    def oldest(self) -> np.ndarray:
        """The number of the first moment of each life that is still here."""
        return np.maximum(self._floor, self.count - self.rows)

    def __len__(self) -> int:
        """How many moments can be drawn from."""
        return int((self.count - self.oldest).sum())

    @property
    def windows(self) -> np.ndarray:
        """How many whole clips each life has: `n`."""
        return np.maximum(0, self.count - self.oldest - self.length)

    # ------------------------------------------------------------------ write

    def append(self, moment: Moment, which: np.ndarray | None = None) -> None:
        """Add a row to each life, or to those where `which` (`n` bool) is true. Raises `UserError` when it cannot."""
        values = {
            **{SENSOR + name: moment.obs[name] for name in self.spec.obs},
            "action": moment.action,
            "reward": moment.reward,
            "terminated": moment.terminated,
            "first": moment.first,
            **{BELIEF + name: moment.belief[name] for name in self._belief},
            NUMBER: self.count,  # last: a row that a kill tore has still the number of the one before it there
        }
        for name, value in values.items():
            kind = self.columns.kinds[name]
            if value.shape != (self.lives, *kind.shape):
                raise UserError(f"replay: {name} has shape {value.shape}, expected {(self.lives, *kind.shape)}")
            rows = np.ascontiguousarray(value, kind.dtype)
            for life in range(self.lives):
                if which is None or which[life]:
                    self.columns.write(name, life, int(self.count[life]), rows[life : life + 1])
        self._come(np.ones(self.lives, np.bool_) if which is None else which)

    def write_back(self, places: Places, beliefs: Mapping[str, np.ndarray]) -> None:
        """Put what is believed by now into the rows of a batch: packed, each `b t+1 ...`, of which the first is left.

        Rows that were overwritten since are left alone.
        """
        oldest = self.oldest
        for name, kind in self._belief.items():
            values = np.ascontiguousarray(beliefs[name], kind.dtype)
            for row, (life, start) in enumerate(zip(places.life.tolist(), places.start.tolist(), strict=True)):
                skip = max(1, int(oldest[life]) - start)
                self.columns.write(BELIEF + name, life, start + skip, values[row, skip:])

    # ------------------------------------------------------------------ read

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[Clip, Places]:
        """`batch` clips: those that are new, or seldom drawn, first. Raises `UserError` while there is none."""
        windows = self.windows
        if windows.sum() == 0:
            raise UserError(f"the replay has no clip of {self.length} actions yet: act longer before (prefill)")
        if self.draws is None:
            chosen = self._take_new(batch)
            chosen += self._draw_any(rng, batch - len(chosen))
        else:
            chosen = self.draws.draw(rng, self.oldest, windows, batch)
        places = Places(*np.array(chosen, np.int64).T)
        return self._clip(places), places

    def _draw_any(self, rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
        """Lives and starts, all equally likely."""
        windows, oldest = self.windows, self.oldest
        ends = np.cumsum(windows)
        numbers = rng.integers(ends[-1], size=n)
        lives = np.searchsorted(ends, numbers, side="right")
        starts = oldest[lives] + numbers - (ends - windows)[lives]
        return list(zip(lives.tolist(), starts.tolist(), strict=True))

    def _clip(self, places: Places) -> Clip:
        t = self.length
        past: State = {name: self._read_rows(BELIEF + name, places, 1)[:, 0] for name in self._belief}
        return Clip(
            {name: self._read_rows(SENSOR + name, places, t + 1) for name in self.spec.obs},
            self._read_rows("action", places, t),
            self._read_rows("reward", places, t),
            self._read_rows("terminated", places, t),
            self._read_rows("first", places, t + 1),
            past or None,
        )

    def _read_rows(self, name: str, places: Places, count: int) -> Tensor:
        """`b count ...`"""
        kind = self.columns.kinds[name]
        values = np.empty((len(places.life), count, *kind.shape), kind.dtype)
        for row, (life, start) in enumerate(zip(places.life.tolist(), places.start.tolist(), strict=True)):
            self.columns.read(name, life, start, values[row])
        return torch.from_numpy(values)

    # ------------------------------------------------------------------ what is new

    def _come(self, which: np.ndarray) -> None:
        """Another moment was written of these lives, `n` bool."""
        if self.draws is None:
            self.count += which
            self._queue()
            return
        for life in np.flatnonzero(which).tolist():
            self.draws.forget(life, int(self.count[life]))
        self.count += which

    def _queue(self) -> None:
        """Note the stretches that are whole by now: one begins with the last moment of the one before."""
        for life in np.flatnonzero(self.count > self._due + self.length).tolist():
            self._new.append((life, int(self._due[life])))
            self._due[life] += self.length

    def _take_new(self, most: int) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        oldest = self.oldest
        while self._new and len(taken) < most:
            life, start = self._new.popleft()
            if start >= oldest[life]:
                taken.append((life, start))
        return taken

    # ------------------------------------------------------------------ save and go on

    def save(self, step: int, noted: Mapping[str, Any]) -> None:
        """Note how far it is at this step, with whatever else is to be known then. Raises `UserError`."""
        oldest = self.oldest
        entry = {
            "step": step,
            "count": self.count.tolist(),
            "due": self._due.tolist(),
            "new": [[life, start] for life, start in self._new if start >= oldest[life]],
            "noted": dict(noted),
        }
        before = [each for each in self._saved if each["step"] < step]
        self._saved = [*before[-KEPT + 1 :], entry]
        if self.draws is not None:
            self.draws.save(self._counts_of(step))
        write_atomic(self._note, [json.dumps({"layout": self._layout, "saved": self._saved}).encode()])
        self._tidy()

    def close(self) -> None:
        self.columns.close()

    def _read(self, at: int) -> list[dict[str, Any]]:
        """What was noted up to that step. Raises `UserError` if it is of other rows."""
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
            layout, saved = found["layout"], [entry for entry in found["saved"] if entry["step"] <= at]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {self._note}: {error}. Delete it to begin with an empty replay") from None
        if layout != self._layout:
            raise UserError(f"{self._note} is of a replay with other rows: give the run's own settings, or delete it")
        return saved

    def _counts_of(self, step: int) -> Path:
        return self._note.with_name(f"{self._note.stem}.draws-{step:08d}.npy")

    def _tidy(self) -> None:
        """Counts of steps that are no longer noted are of no use."""
        kept = {self._counts_of(entry["step"]) for entry in self._saved}
        for path in self._note.parent.glob(f"{self._note.stem}.draws-*.npy"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _go_on(self, entry: Mapping[str, Any]) -> None:
        self.count = np.array(entry["count"], np.int64)
        self._due = np.array(entry["due"], np.int64)
        self._floor = np.array([self._first_whole(life) for life in range(self.lives)], np.int64)
        self._new.extend((life, start) for life, start in entry["new"] if start >= self._floor[life])

    def _first_whole(self, life: int) -> int:
        """The moment from which on all up to `count` are here: later ones, which were not noted, have overwritten some.

        Once the ring was full, also if only after the note, the one that comes last of these may be torn and still have
        the number of the moment that was there before.
        """
        count = int(self.count[life])
        start = max(0, count - self.rows)
        numbers, last = np.empty(count - start, np.int64), np.empty(1, np.int64)
        self.columns.read(NUMBER, life, start, numbers)
        self.columns.read(NUMBER, life, self.rows - 1, last)
        lost = np.flatnonzero(numbers != np.arange(start, count))
        torn = int(last[0] >= self.rows - 1)
        return min(count, start + (int(lost[-1]) + 1 if len(lost) else 0) + torn)
