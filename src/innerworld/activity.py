"""What this process is busy with, in words: the work says it, a progress line shows it while nothing else happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Activity:
    what: str
    since: float  # time.monotonic()


_now: list[Activity] = []  # the innermost is last


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say that the main thread does `what` inside the `with`; other threads only help, and are not shown."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _now.append(Activity(what, time.monotonic()))
    try:
        yield
    finally:
        _now.pop()


def current() -> Activity | None:
    """What the main thread does now, if it said so."""
    return _now[-1] if _now else None
