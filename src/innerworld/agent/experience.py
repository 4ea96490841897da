"""`Experience`: what was seen and done of late in every world, bounded: clips for who learns on the job."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.types import Clip, Obs, Spec, each

MIB = 2**20
NONE = -1  # no sight
SENSOR = "obs."


class Experience:
    """The last sights of all worlds in one ring, oldest forgotten first; each knows the one before it.

    It holds at most `steps` sights, and fewer where these would not find room in `mebibytes`. A sight with a missing or
    broken sensor is left out: what comes after it is a stretch of its own, as an episode is. It lies in main memory.
    """

    def __init__(self, spec: Spec, steps: int, mebibytes: float) -> None:
        self.spec = spec
        size = sum(value.nbytes for value in spec.blank().values()) + 4 * spec.action + 4 + 1 + 8
        self.room = max(1, min(steps, int(mebibytes * MIB) // size))
        self._rows = self._empty(0)
        self.count = 0  # sights so far
        self._now: Tensor | None = None  # b   number of the last sight of each world; none: nobody looks

    def __len__(self) -> int:
        return min(self.count, self.room)

    # ------------------------------------------------------------------ what happens

    def begin(self, obs: Obs) -> None:
        """An episode begins in every world, with what is seen first, each `b ...`."""
        b = len(next(iter(obs.values())))
        if self.room < 2 * b:
            raise UserError(f"{b} worlds, but room for {self.room} sights only: give more steps or mebibytes")
        self._now = torch.full((b,), NONE)
        self.add(obs, torch.zeros(b, self.spec.action), torch.zeros(b), torch.zeros(b, dtype=torch.bool))

    def add(self, obs: Obs, action: Tensor, reward: Tensor, terminated: Tensor) -> None:
        """What is seen after `action` `b a`, the reward and the end that came of it, `b`."""
        b = len(action)
        now = torch.full((b,), NONE) if self._now is None else self._now
        whole = self._whole(obs, b) & action.isfinite().all(dim=1).cpu()
        numbers = self.count + whole.long().cumsum(0) - 1
        self.count += int(whole.sum())
        self._now = torch.where(whole, numbers, NONE)
        if not bool(whole.any()):
            return
        self._grow()
        slots = numbers[whole] % self.room
        before = torch.where(now >= self.count - self.room, now, NONE)
        values = {"action": action, "reward": reward, "terminated": terminated, "before": before}
        values |= {SENSOR + name: obs[name] for name in self.spec.obs}
        for name, rows in self._rows.items():
            rows[slots] = values[name].detach().cpu()[whole].to(rows.dtype)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (indices)."""
        self._now = None if self._now is None else self._now[rows.cpu()]

    def look_away(self) -> None:
        """Nobody looks for a while: what comes later are stretches of their own."""
        self._now = None

    # ------------------------------------------------------------------ what is asked

    def windows(self, length: int) -> int:
        """How many different clips of so many actions there are."""
        return len(self._ends(length))

    def clips(self, length: int, size: int, rng: Generator) -> Clip:
        """`size` clips, all equally likely. There must be one at least (`windows`)."""
        ends = self._ends(length)
        return self._clip(ends[torch.randint(len(ends), (size,), generator=rng)], length)

    def lately(self, most: int) -> tuple[Clip, Tensor]:
        """What was seen up to now, of the worlds (indices) that saw something just now: clips of one length for all of
        them, `most` actions at most."""
        now = self.now
        worlds = (now >= self.oldest).nonzero()[:, 0]
        length, chain = 0, now[worlds]
        while length < most and len(worlds):
            chain = self._before(chain)
            if bool((chain == NONE).any()):
                break
            length += 1
        return self._clip(now[worlds], length), worlds

    @property
    def now(self) -> Tensor:
        """The number of the last sight of each world, `b`; -1 where it was left out."""
        return torch.zeros(0, dtype=torch.long) if self._now is None else self._now

    def stretches(self) -> list[list[int]]:
        """Numbers of all sights that are here, each stretch in order: what was seen in one world without a gap."""
        found: dict[int, list[int]] = {}  # by the number of its last sight
        numbers = torch.arange(self.oldest, self.count)
        for number, before in zip(numbers.tolist(), self._before(numbers).tolist(), strict=True):
            stretch = found.pop(before, [])
            stretch.append(number)
            found[number] = stretch
        return list(found.values())

    def sights(self, numbers: Tensor) -> tuple[Obs, Tensor]:
        """What was seen then, each `n ...`, and the actions `n a` that led there."""
        slots = numbers % self.room
        return {name: self._rows[SENSOR + name][slots] for name in self.spec.obs}, self._rows["action"][slots]

    @property
    def oldest(self) -> int:
        """The number of the first sight that is still here."""
        return self.count - len(self)

    # ------------------------------------------------------------------ how it outlives the program

    def tensors(self) -> dict[str, Tensor]:
        now = {} if self._now is None else {"now": self._now}
        return {"count": torch.tensor(self.count), **now, **each(lambda rows: rows[: len(self)], self._rows)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Be as it was when `tensors` were asked for. Raises `UserError` for those of other sights, or of less room."""
        count, kept = int(tensors["count"]), len(tensors["before"])
        if kept != min(count, self.room):
            raise UserError(f"{kept} sights were saved, here is room for {self.room}: set steps and mebibytes as then")
        for name, rows in self._empty(0).items():
            if tensors[name].shape[1:] != rows.shape[1:]:
                found = tuple(tensors[name].shape[1:])
                raise UserError(f"what was saved of {name} has shape {found}, the model takes {tuple(rows.shape[1:])}")
        self.count, self._now = count, tensors.get("now")
        self._rows = {name: tensors[name].clone() for name in self._rows}

    # ------------------------------------------------------------------ how it keeps

    def _empty(self, n: int) -> dict[str, Tensor]:
        """Room for n sights."""
        return {
            **{SENSOR + name: value.expand(n, *value.shape[1:]).clone() for name, value in self.spec.blank().items()},
            "action": torch.zeros(n, self.spec.action),  # that led to it
            "reward": torch.zeros(n),
            "terminated": torch.zeros(n, dtype=torch.bool),
            "before": torch.zeros(n, dtype=torch.long),  # number of the sight before it
        }

    def _grow(self) -> None:
        """Twice as much room, as long as there is not enough."""
        have = len(self._rows["before"])
        if have < len(self):
            more = self._empty(min(self.room, max(2 * have, len(self), 64)) - have)
            self._rows = {name: torch.cat([rows, more[name]]) for name, rows in self._rows.items()}

    def _whole(self, obs: Obs, b: int) -> Tensor:
        """Rows `b` in which every sensor is as it should be."""
        whole = torch.ones(b, dtype=torch.bool)
        for name, shape in self.spec.obs.items():
            value = obs.get(name)
            if value is None or tuple(value.shape) != (b, *shape):
                return torch.zeros(b, dtype=torch.bool)
            if value.is_floating_point():
                whole = whole & value.isfinite().flatten(1).all(dim=1).cpu()
        return whole

    def _before(self, chain: Tensor) -> Tensor:
        """The numbers of the sights before these; none stays none, and what is forgotten is none."""
        before = torch.where(chain == NONE, NONE, self._rows["before"][chain.clamp(min=0) % self.room])
        return torch.where(before >= self.oldest, before, NONE)

    def _ends(self, length: int) -> Tensor:
        """Numbers of the sights that so many actions of one stretch lead to."""
        ends = chain = torch.arange(self.oldest, self.count)
        if not len(ends):
            return ends
        for _ in range(length):
            chain = self._before(chain)
        return ends[chain != NONE]

    def _clip(self, ends: Tensor, length: int) -> Clip:
        numbers = [ends]
        for _ in range(length):
            numbers.append(self._before(numbers[-1]))
        slots = torch.stack(numbers[::-1], dim=1) % self.room  # b t+1
        after = slots[:, 1:]
        obs = {name: self._rows[SENSOR + name][slots] for name in self.spec.obs}
        rows = self._rows
        return Clip(obs, rows["action"][after], rows["reward"][after], rows["terminated"][after])
