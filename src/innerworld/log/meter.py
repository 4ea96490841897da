"""`Meter`: done of total, speed and time left, as a bar or lines, drawn by a thread that also tells of a wait."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from innerworld import activity

TICK_S = 0.25
FIRST_S = 0.5  # without a report, before a bar is drawn at all
PATIENCE_S = 3.0  # without a report, before the line says what it waits for
SLOWEST_S = 60.0  # between two plain lines that only say that nothing happens
WINDOW_S = 60.0  # over which speed is measured


class Meter:
    """`start`, `show` as often as you like (it notes two values and looks at the clock), `stop`.

    Speed counts from the first report of this process, later over the last minute.
    """

    def __init__(
        self, title: str, unit: str, total: int, quiet: bool, console: Console | None, every_s: float, first: str
    ) -> None:
        self.title, self.unit, self.total, self.every_s, self.first = title, unit, total, every_s, first
        self.console = Console(stderr=True) if console is None else console
        self.quiet = quiet
        self._bar = None if quiet or not self.console.is_terminal else _bar(self.console)
        self._task = None if self._bar is None else self._bar.add_task(title, total=total, text="")
        self._drawn = False
        self._done, self._note = 0, ""
        self._seen_at = self._printed_at = -math.inf
        self._idle_s = every_s  # until the next line of a wait
        self._marks: deque[tuple[int, float]] = deque()  # how many were done when
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="innerworld progress", daemon=True)
        self._began_at = time.monotonic()

    def start(self) -> None:
        self._began_at = time.monotonic()
        if self.quiet:
            return
        self._ticker.start()

    def show(self, done: int, note: str) -> None:
        """This many are done; the thread draws it, but a plain line that is due comes at once."""
        self._done, self._note = done, note
        self._seen_at = now = time.monotonic()
        if not self._marks:
            self._marks.append((done, now))
        if self._bar is None and not self.quiet and (now - self._printed_at >= self.every_s or done >= self.total):
            self._print(now)

    def stop(self) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join(timeout=1)
        if self._bar is not None and (self._marks or self._drawn):
            self._redraw(time.monotonic())
            self._bar.stop()

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            now = time.monotonic()
            try:
                if self._bar is not None:
                    if self._marks or now - self._began_at >= FIRST_S:  # what fails at once needs no bar
                        self._redraw(now)
                elif self._waits(now) and now - max(self._printed_at, self._began_at) >= self._idle_s:
                    self._idle_s = min(SLOWEST_S, 2 * self._idle_s)
                    self._print(now)
            except (OSError, ValueError):  # nobody reads any more
                return

    def _redraw(self, now: float) -> None:
        assert self._bar is not None and self._task is not None
        with self._lock:
            if not self._drawn:
                self._bar.start()
                self._drawn = True
            self._bar.update(self._task, completed=self._done, text=self._text(now))
            self._bar.refresh()

    def _print(self, now: float) -> None:
        with self._lock:
            if not self._waits(now):
                self._idle_s = self.every_s
            self._printed_at = now
            line = f"{self.title} {self._done}/{self.total}  {self._text(now)}".rstrip()
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _text(self, now: float) -> str:
        return "  ".join(part for part in (self._note, *self._pace(now), self._wait(now)) if part)

    def _pace(self, now: float) -> tuple[str, ...]:
        if not self._marks:
            return ()
        done, at = self._done, self._seen_at
        if done > self._marks[-1][0]:
            self._marks.append((done, at))
        while len(self._marks) > 2 and self._marks[1][1] <= now - WINDOW_S:
            self._marks.popleft()
        done_first, then = self._marks[0]
        if done <= done_first or at <= then:
            return ()
        per_s = (done - done_first) / (at - then)
        return f"{per_s:.3g}{self.unit}", f"{clock(max(0, self.total - done) / per_s)} left"

    def _waits(self, now: float) -> bool:
        return self._done < self.total and now - max(self._seen_at, self._began_at) >= PATIENCE_S

    def _wait(self, now: float) -> str:
        """What is being done, if it takes long."""
        doing = activity.current()
        if doing is not None and now - doing.since >= 1:
            return f"{doing.what} for {clock(now - doing.since)}"
        if not self._waits(now):
            return ""
        if not self._marks:
            return f"{self.first} for {clock(now - self._began_at)}"
        return f"no news for {clock(now - self._seen_at)}"


def _bar(console: Console) -> Progress:
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    return Progress(*columns, TextColumn("{task.fields[text]}", markup=False), console=console, auto_refresh=False)


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
