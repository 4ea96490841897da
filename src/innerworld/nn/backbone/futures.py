"""Attention of imagined futures: a past that they may share, and the steps of each, kept in buffers of fixed size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from innerworld.errors import UserError

AT_ONCE = 64  # futures along a sliding past that look together: each row of scores then has few that are not looked at


@dataclass(frozen=True)
class Past:
    """Keys and values before the first imagined step, and where in them each future looks.

    Future k sees `slots` of them, from `shift` × k on: a shift of 0 is one past for all futures of a row, 1 a window
    that slides over a clip by one token from future to future.
    """

    keys: Tensor  # b head l d
    values: Tensor  # b head l d
    age: Tensor  # b k     how many of a future's slots are filled, the last ones
    slots: int
    shift: int


def past(keys: Tensor, values: Tensor, age: Tensor) -> Past:
    """Find by their strides what futures share: windows `b k head slot d` with ages `b k`.

    Nothing is copied where they share storage. Where they do not, every future becomes a row of its own.
    """
    shift = _shift(keys)
    if shift is not None and shift == _shift(values):
        return Past(_base(keys, shift), _base(values, shift), age, keys.shape[3], shift)
    return Past(keys.flatten(0, 1), values.flatten(0, 1), age.reshape(-1, 1), keys.shape[3], 0)


class Futures:
    """k futures of b rows: each step looks at the `window - 1` tokens before it, of the past or of its own, and itself.

    At most `min(horizon, window)` own steps are kept, in place (`held` numbers). With gradients they are lists instead,
    for what the graph needs must not be written over.
    """

    def __init__(self, past: Past, window: int, horizon: int) -> None:
        self.past, self.window, self.horizon, self.steps = past, window, horizon, 0
        self.all_seen = past.shift == 0 and bool((past.age >= past.slots).all())
        length = min(horizon, window)
        self.own = _Listed(length) if torch.is_grad_enabled() else _Ring(past.keys, past.age.shape[1], length)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and futures as they are computed here: where nothing is shared, every future is a row."""
        return self.past.age.shape[0], self.past.age.shape[1]

    def attend(self, q: Tensor, key: Tensor, value: Tensor, far: Tensor | None = None) -> Tensor:
        """The next step of each future: `b head k d` → what it saw, `b head k d`.

        `far` `b head k window` is added to the scores of tokens by their distance. Raises `UserError` beyond the
        horizon.
        """
        if self.steps == self.horizon:
            raise UserError(f"{self.horizon} steps were asked for and all are imagined: ask for a longer horizon")
        self.own.append(key, value)
        q = q * q.shape[-1] ** -0.5
        own = self.own.scores(q)
        if far is not None:
            own = own + far.index_select(-1, self.own.distance(q.device))
        begin = max(self.past.slots + self.steps + 1 - self.window, 0)  # slots before it have left the window
        weights, seen = [], []
        for group in self._groups():
            weight = own[:, :, group]
            if begin < self.past.slots:
                scores = self._scores(q[:, :, group], group, begin, None if far is None else far[:, :, group])
                weight = torch.cat([scores, weight], dim=-1)
            weight = weight.softmax(dim=-1)
            past, weight = weight.split([weight.shape[-1] - own.shape[-1], own.shape[-1]], dim=-1)
            seen.append(past @ self.past.values[:, :, self._span(group, begin)])
            weights.append(weight)
        self.steps += 1
        return self.own.mixed(_joined(weights), _joined(seen))

    def forget(self) -> None:
        """Take the last step back: it was only tried. What it wrote over had left the window."""
        self.own.drop()
        self.steps -= 1

    def _groups(self) -> Iterator[slice]:
        """Futures that look at one stretch of the past together."""
        k = self.past.age.shape[1]
        size = max(max(AT_ONCE, self.past.slots) // self.past.shift, 1) if self.past.shift else max(k, 1)
        for start in range(0, k, size):
            yield slice(start, min(start + size, k))

    def _span(self, group: slice, begin: int) -> slice:
        """Of the past, what a group sees from slot `begin` of its first future to the last slot of its last."""
        if begin >= self.past.slots:
            return slice(0, 0)
        return slice(self.past.shift * group.start + begin, self.past.shift * (group.stop - 1) + self.past.slots)

    def _scores(self, q: Tensor, group: slice, begin: int, far: Tensor | None) -> Tensor:
        """Queries `b head g d` over the group's stretch of the past: `b head g l`."""
        keys = self.past.keys[:, :, self._span(group, begin)]
        scores = q @ keys.mT
        if self.all_seen and far is None:
            return scores
        futures = torch.arange(q.shape[2], device=q.device)
        slot = begin + torch.arange(keys.shape[2], device=q.device) - self.past.shift * futures[:, None]  # g l
        if far is not None:
            distance = (self.past.slots + self.steps - slot).clamp(0, self.window - 1)
            scores = scores + far.gather(-1, distance.expand(*scores.shape))
        age = self.past.age[:, group, None]  # b g 1
        seen = (slot >= begin) & (slot < self.past.slots) & (slot >= self.past.slots - age)  # b g l
        return scores.masked_fill(~seen[:, None], float("-inf"))


class _Ring:
    """The last `length` own steps in buffers that are written in turn, for imagination without gradients."""

    def __init__(self, like: Tensor, k: int, length: int) -> None:
        b, heads, _, d = like.shape
        self.keys, self.values = like.new_empty(2, b, heads, k, length, d).unbind()
        self.length, self.count = length, 0

    def append(self, key: Tensor, value: Tensor) -> None:
        slot = self.count % self.length
        self.keys[..., slot, :] = key
        self.values[..., slot, :] = value
        self.count += 1

    def drop(self) -> None:
        self.count -= 1

    def scores(self, q: Tensor) -> Tensor:
        keys = self.keys[..., : self._filled, :]
        return (q.to(keys.dtype)[..., None, :] @ keys.mT).squeeze(-2)  # on the right they take four times as long

    def mixed(self, weight: Tensor, seen: Tensor) -> Tensor:
        return seen + (weight[..., None, :] @ self.values[..., : self._filled, :]).squeeze(-2)

    def distance(self, device: torch.device) -> Tensor:
        return (self.count - 1 - torch.arange(self._filled, device=device)) % self.length

    @property
    def _filled(self) -> int:
        return min(self.count, self.length)


class _Listed:
    """The last `length` own steps, one tensor each: nothing is written over or copied for the backward pass."""

    def __init__(self, length: int) -> None:
        self.own: list[tuple[Tensor, Tensor]] = []
        self.length = length

    def append(self, key: Tensor, value: Tensor) -> None:
        self.own = [*self.own, (key, value)][-self.length :]

    def drop(self) -> None:
        self.own = self.own[:-1]

    def scores(self, q: Tensor) -> Tensor:
        return torch.cat([(q * key).sum(-1, keepdim=True) for key, _ in self.own], dim=-1)

    def mixed(self, weight: Tensor, seen: Tensor) -> Tensor:
        for i, (_, value) in enumerate(self.own):
            seen = torch.addcmul(seen, weight[..., i, None], value)
        return seen

    def distance(self, device: torch.device) -> Tensor:
        return torch.arange(len(self.own) - 1, -1, -1, device=device)


def held(b: int, k: int, window: int, horizon: int, inner: int) -> int:
    """Numbers of keys and values that `Futures` keeps, `inner` channels each."""
    return 2 * b * k * min(horizon, window) * inner


def _shift(windows: Tensor) -> int | None:
    """By how many slots the window `b k head slot d` slides from future to future; none where they do not share."""
    _, k, _, slots, _ = windows.shape
    if not slots:
        return 0
    if k == 1:
        return None
    apart, slot = windows.stride(1), windows.stride(3)
    if apart == 0:
        return 0
    if not slot or apart % slot:
        return None
    shift = apart // slot
    return shift if shift < max(slots, 2) else None


def _base(windows: Tensor, shift: int) -> Tensor:
    """The storage `b head l d` that windows `b k head slot d` slide over."""
    b, k, heads, slots, d = windows.shape
    stride = windows.stride()
    size = (b, heads, (k - 1) * shift + slots, d)
    return windows.as_strided(size, (stride[0], stride[2], stride[3], stride[4]), windows.storage_offset())


def _joined(groups: list[Tensor]) -> Tensor:
    return groups[0] if len(groups) == 1 else torch.cat(groups, dim=2)
