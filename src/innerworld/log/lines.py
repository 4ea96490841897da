"""Where a run reports to: a log is a function `(step, row) -> None`, such as a file, a progress bar, or both."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from innerworld.errors import UserError

Row = Mapping[str, float]
Log = Callable[[int, Row], None]
"""Gets the step (the first is 0) and what was measured in it."""


def silent(step: int, row: Row) -> None:
    """Forget everything."""


def tee(*logs: Log) -> Log:
    """Report to each of the `logs`, in their order."""

    def log(step: int, row: Row) -> None:
        for each in logs:
            each(step, row)

    return log


class JsonLines:
    """Append each row to a file as one line of JSON, with `step` and `time` (seconds since 1970); usable in `with`.

    The first row of a resumed run is a step that the file may already hold, written after the last checkpoint and
    before the kill: that row and all later ones are dropped first, so that no step stands there twice. Numbers that
    are not finite become null. Raises `UserError` when the file cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"cannot write the log {self.path}: {error.strerror}") from None
        self._fresh = True

    def __call__(self, step: int, row: Row) -> None:
        if self._fresh:
            os.truncate(self.path, _bytes_before(self.path, step))
            self._fresh = False
        values = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _bytes_before(path: Path, step: int) -> int:
    """The length of the file up to its first row of `step` or later; a line torn by a kill ends it, too."""
    kept = 0
    with path.open("rb") as file:
        for line in file:
            at = _step_of(line)
            if at is None or at >= step:
                break
            kept += len(line)
    return kept


def _step_of(line: bytes) -> int | None:
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


class Bar:
    """Show how far training is: steps per second, time left and the loss; use it in `with`, and as the `log`.

    A bar that redraws itself on a terminal, a plain line every `every_s` seconds elsewhere, nothing when `quiet`.
    """

    def __init__(
        self,
        total: int,
        quiet: bool = False,
        console: Console | None = None,
        every_s: float = 5.0,
        title: str = "train",
    ) -> None:
        self._meter = _Meter(title, " steps/s", total, quiet, console, every_s)
        self._loss = ""

    def __call__(self, step: int, row: Row) -> None:
        if "loss" in row:
            self._loss = f"loss {row['loss']:.4g}"
        self._meter.show(step + 1, self._loss)

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
    meter = _Meter(title, "/s", total, quiet, console, every_s)
    meter.start()
    try:
        yield lambda done: meter.show(done, "")
    finally:
        meter.stop()


class _Meter:
    """Done of total, speed and time left, as a bar or as lines. Speed counts from the first report of this process."""

    def __init__(self, title: str, unit: str, total: int, quiet: bool, console: Console | None, every_s: float) -> None:
        self.title, self.unit, self.total, self.every_s = title, unit, total, every_s
        self.console = Console(stderr=True) if console is None else console
        self.plain = not quiet and not self.console.is_terminal
        self.bar = _bar(self.console) if not quiet and self.console.is_terminal else None
        self.task = self.bar.add_task(title, total=total, text="") if self.bar else None
        self.first: tuple[int, float] | None = None  # how many were done when, at the first report
        self.printed_at = -math.inf

    def start(self) -> None:
        if self.bar:
            self.bar.start()

    def stop(self) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, done: int, note: str) -> None:
        now = time.monotonic()
        self.first = self.first or (done, now)
        text = "  ".join(part for part in (note, *self._pace(done, now)) if part)
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=done, text=text)
        if self.plain and (now - self.printed_at >= self.every_s or done >= self.total):
            self.printed_at = now
            self.console.print(
                f"{self.title} {done}/{self.total}  {text}".rstrip(), markup=False, highlight=False, soft_wrap=True
            )

    def _pace(self, done: int, now: float) -> tuple[str, ...]:
        done_first, then = self.first or (done, now)
        if done <= done_first or now <= then:
            return ()
        per_s = (done - done_first) / (now - then)
        left = max(0, self.total - done) / per_s
        return f"{per_s:.3g}{self.unit}", f"{_clock(left)} left"


def _bar(console: Console) -> Progress:
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    return Progress(*columns, TextColumn("{task.fields[text]}", markup=False), console=console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
