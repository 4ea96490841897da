"""`Bar` and `progress`: one line that says what is done, how fast, how long it will take and what was measured last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console

from innerworld.log.log import Row
from innerworld.log.meter import Meter

SHOWN = ("stage", "loss", "effective_rank", "probe_r2")
"""What a bar shows of the last measurements, if it is measured."""


class Bar:
    """Show how far training is: the last metrics, steps per second and time left; use it in `with`, and as the `log`.

    A bar that redraws itself on a terminal, a plain line every `every_s` seconds elsewhere, nothing when `quiet`. It
    draws from a thread of its own and so tells also that nothing has happened for a while, and what is being done.
    """

    def __init__(
        self,
        total: int,
        quiet: bool = False,
        console: Console | None = None,
        every_s: float = 5.0,
        title: str = "train",
        shown: Sequence[str] = SHOWN,
    ) -> None:
        self._meter = Meter(title, " steps/s", total, quiet, console, every_s, first="at the first step")
        self._last = dict.fromkeys(shown, "")
        self._note = ""

    def __call__(self, step: int, row: Row) -> None:
        if row:
            for name in self._last.keys() & row.keys():
                self._last[name] = f"{name} {row[name]:.4g}"
            self._note = "  ".join(text for text in self._last.values() if text)
        self._meter.show(step + 1, self._note)

    def __enter__(self) -> Bar:
        self._meter.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._meter.stop()


@contextmanager
def progress(
    title: str, total: int, quiet: bool = False, console: Console | None = None, every_s: float = 5.0
) -> Iterator[Callable[[int], None]]:
    """Show how far something is: gives a function to call with how many of `total` are done by now."""
    meter = Meter(title, "/s", total, quiet, console, every_s, first="begun")
    meter.start()
    try:
        yield lambda done: meter.show(done, "")
    finally:
        meter.stop()
