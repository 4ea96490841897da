"""`Prefetched`: the next batches, read by threads while the model learns from this one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch

from innerworld.data.clips.replay import Prioritised, Recent
from innerworld.data.clips.sampler import Sampler
from innerworld.errors import UserError
from innerworld.types import Clip, each


class Prefetched:
    """A sampler's batches, `ahead` of them read by `workers` threads and on their way to the `device`.

    The same batches in the same order for any number of workers; the position is the step, so there is no state to
    save, and asking for another step than the next begins anew there. Threads suffice, because reading and decoding let
    go of Python's lock. What goes wrong in a thread is raised where its batch is asked for. With 0 workers nothing runs
    beside. Use it as a context, or `close` it. `rows` = (start, stop) reads these rows of each batch only: one
    process's share.

    Raises `UserError` for samplers that learn from what was drawn before (`Recent`, `Prioritised`).
    """

    def __init__(
        self,
        clips: Sampler,
        ahead: int = 2,
        workers: int = 1,
        device: torch.device | str = "cpu",
        rows: tuple[int, int] | None = None,
    ) -> None:
        if isinstance(clips, Recent | Prioritised):
            raise UserError(f"{type(clips).__name__} cannot be prefetched: what is drawn ahead would miss the news")
        if ahead < 1 or workers < 0:
            raise UserError(f"prefetching needs ahead of at least 1 and workers of at least 0, got {ahead}, {workers}")
        self.clips = clips
        self.size = clips.size
        self.spec = clips.spec
        self.ahead = ahead
        self.device = torch.device(device)
        self._part = rows or (0, clips.size)
        self._pool = ThreadPoolExecutor(workers, "prefetch") if workers else None
        self._coming: dict[int, Future[Clip]] = {}

    def batch(self, step: int) -> Clip:
        """The clips of training step `step` (of its `rows`, if so made), on the device."""
        return self._ready(step).to(self.device)

    def rows(self, step: int, start: int, stop: int) -> Clip:
        """The rows that this was made to read. Raises `UserError` for others."""
        if (start, stop) != self._part:
            raise UserError(f"these batches are prefetched in rows {self._part}, not {(start, stop)}: give rows=")
        return self.batch(step)

    def origin(self, step: int) -> list[str]:
        return self.clips.origin(step)

    def close(self) -> None:
        """Stop the threads, after the batches that they are reading. Calling it again does nothing."""
        pool, self._pool = self._pool, None
        self._coming.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self, step: int) -> Clip:
        if self._pool is None:
            return _read(self.clips, step, self._part, False)
        if step not in self._coming:
            for future in self._coming.values():
                future.cancel()
            self._coming.clear()
        for at in range(step, step + self.ahead + 1):
            if at not in self._coming:
                pinned = self.device.type == "cuda"
                self._coming[at] = self._pool.submit(_read, self.clips, at, self._part, pinned)
        # Taken out only when it is there: after Ctrl-C during the wait the same step can be asked for again.
        future = self._coming[step]
        try:
            return future.result()
        finally:
            if future.done():
                self._coming.pop(step, None)


def _read(clips: Sampler, step: int, part: tuple[int, int], pinned: bool) -> Clip:
    """A function, not a method: a thread that knew the `Prefetched` would keep it, and so itself, alive."""
    clip = clips.rows(step, *part)
    return _pinned(clip) if pinned else clip


def _pinned(clip: Clip) -> Clip:
    """In memory from which a device copies by itself, while we go on."""
    return Clip(
        each(torch.Tensor.pin_memory, clip.obs),
        clip.action.pin_memory(),
        clip.reward.pin_memory(),
        clip.terminated.pin_memory(),
    )
