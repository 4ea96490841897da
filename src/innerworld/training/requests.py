"""Signals as requests that the loop heeds between two steps: stop (SIGINT, SIGTERM), or save and go on (SIGUSR1)."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType

PARENT = "INNERWORLD_PARENT"
"""Names the process that launched this one in the environment: without it, this one stops, too."""
SAVE = getattr(signal, "SIGUSR1", None)  # Windows has none
STOP = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Requests:
    """What was asked since it was last heeded; `stop` is the signal's number, or 0."""

    stop: int = 0
    save: int = 0
    parent: int = int(os.environ.get(PARENT, "0"))

    def look(self) -> tuple[int, int]:
        """Both, after a look whether the launcher is still there."""
        if self.parent and os.getppid() != self.parent:
            self.stop = self.stop or signal.SIGTERM
        return self.stop, self.save


@contextmanager
def requests() -> Iterator[Requests]:
    """Turn signals into requests; one more SIGINT or SIGTERM, a second later, acts at once.

    `timeout` and other launchers send the same signal twice in a row and mean it once. Python allows this in the main
    thread only; elsewhere signals keep their meaning.
    """
    asked = Requests(parent=int(os.environ.get(PARENT, "0")))
    asked_at = math.inf
    owner = os.getpid()

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if os.getpid() != owner:  # a forked worker of a loader: it must die when told to
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if number == SAVE:
            asked.save = 1
            return
        if monotonic() > asked_at + 1:
            raise KeyboardInterrupt
        asked_at = min(asked_at, monotonic())
        asked.stop = asked.stop or number

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = STOP if SAVE is None else (*STOP, SAVE)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
