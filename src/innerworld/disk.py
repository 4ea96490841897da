"""Files that are written whole or not at all, whatever kills the writer."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from innerworld.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, parts: Iterable[bytes | memoryview], durable: bool = True) -> None:
    """Temporary file in the same folder, fsync, rename, fsync of the folder. Raises `UserError` when the disk refuses.

    What stood at `path` before is there until the new file is complete. Without `durable` there is no fsync: that
    survives the death of the process, and may not survive that of the machine.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise UserError(f"{reason(error)} while writing {path}") from error
    except BaseException:
        _remove(temporary)
        raise
    if durable:
        sync(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file and wait until the disk has it. Raises `UserError` when the disk refuses.

    A kill may leave half a line: readers must take only what ends in a newline, and writers cut the rest off first.
    """
    try:
        fresh = not path.exists()
        with path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{reason(error)} while writing {path}") from error
    if fresh:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk has it: a file, or a folder's list of names."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder, and a rename there is durable already
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: OSError) -> str:
    """Why the disk refused, in words that a user can act on."""
    return "no space left: make room" if error.errno in FULL else error.strerror or str(error)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # the folder itself is gone or closed to us; the first error tells more
