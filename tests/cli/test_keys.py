"""Keys: names of what a terminal sends, one press for many of a key that is held, only where somebody sits."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator

import pytest

from innerworld.cli.keys import listening, pressed
from innerworld.errors import UserError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


@pytest.mark.parametrize(
    ("sent", "name"),
    [(b"\x1b[A", "up"), (b"\x1bOD", "left"), (b" ", "space"), (b"3", "3"), (b"a", "a"), (b"\x03", "q")],
)
def test_names(pipe: tuple[int, int], sent: bytes, name: str):
    reader, writer = pipe
    os.write(writer, sent)
    assert next(pressed(reader)) == name
    os.close(writer)


def test_of_a_key_that_is_held_the_last_press_counts(pipe: tuple[int, int]):
    reader, writer = pipe
    os.write(writer, b"\x1b[C\x1b[C\x1b[C")
    keys = pressed(reader)
    assert next(keys) == "right"
    os.write(writer, b"ddd")
    assert next(keys) == "d"
    os.close(writer)
    assert list(keys) == ["q"]  # the end


def test_where_nobody_sits_there_are_no_keys(monkeypatch: pytest.MonkeyPatch):
    with open(os.devnull) as nothing, pytest.raises(UserError, match="--keys needs a terminal"):
        monkeypatch.setattr(sys, "stdin", nothing)
        with listening():
            pass


def test_a_terminal_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch):
    import termios

    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with os.fdopen(theirs, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with listening() as keys:
            assert not termios.tcgetattr(theirs)[3] & (termios.ECHO | termios.ICANON)
            os.write(ours, b"7")
            assert next(keys) == "7"
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
