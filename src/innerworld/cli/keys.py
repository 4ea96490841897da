"""Keys as they are pressed, one by one, by their names; from a terminal of Unix."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from innerworld.errors import UserError

NAMED = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left",
    b"\x1bOA": "up", b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left",
    b" ": "space", b"\x03": "q", b"\x04": "q", b"": "q",
}  # fmt: skip
"""What a terminal sends for them. The end of what is typed, and Ctrl-C, are taken for q."""
AT_MOST = 64  # bytes that one read gives; a key that is held sends many at once


def pressed(descriptor: int) -> Iterator[str]:
    """The names of keys, until the input ends. Of one that is held, the last press of what is waiting counts."""
    while True:
        sent = os.read(descriptor, AT_MOST)
        yield _last(sent)
        if not sent:
            return


@contextmanager
def listening() -> Iterator[Iterator[str]]:
    """Within, keys come at once and are not echoed. Raises `UserError` where nobody sits at a terminal."""
    try:
        import termios
        import tty
    except ImportError:
        raise UserError("--keys needs a terminal of Unix: leave it out, and watch the page") from None
    if not sys.stdin.isatty():
        raise UserError("--keys needs a terminal to press keys in: leave it out, and watch the page")
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield pressed(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _last(sent: bytes) -> str:
    if sent in NAMED:
        return NAMED[sent]
    for length in (3, 1):  # an arrow, or a letter
        if sent[-length:] in NAMED:
            return NAMED[sent[-length:]]
    return sent[-1:].decode("ascii", "replace")
