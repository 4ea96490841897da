"""`lock`: one process at a time works in a folder; the second is told who does, a killed one does not block."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerworld.errors import UserError

NAME = ".lock"
OWNER = ".lock.json"
"""Who holds it, for the message alone. Beside the lock, which Windows lets nobody else read while it is held."""


@dataclass(frozen=True)
class Held:
    """A lock that is held: who came before tells whether somebody else was here since one held it last."""

    token: str
    before: str  # token of the holder before; empty for the first


@contextmanager
def lock(path: Path, what: str) -> Iterator[Held]:
    """Hold the folder `path` (made if missing), which is a `what` ("run", "store"), until the block ends or the
    process dies.

    The operating system holds the lock, so that none is left after `kill -9` or a power cut; its two small files stay.
    Raises `UserError` at once, and never waits, where another process (or another part of this one) holds it, and
    where the folder cannot be written.
    """
    import filelock  # late: it takes 40 ms, and most commands lock nothing

    held = filelock.FileLock(path / NAME, timeout=0)
    try:
        held.acquire()
    except filelock.Timeout:
        raise UserError(
            f"the {what} {path} is being written by {_owner(path)}: wait until it ends, stop it, or use another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise UserError(f"cannot lock the {what} {path}: {_reason(error)}") from error
    try:
        yield _sign(path, what)
    finally:
        held.release()


def _sign(path: Path, what: str) -> Held:
    signed = Held(secrets.token_hex(8), str(_read(path).get("token", "")))
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "what": what, "token": signed.token})
    try:
        (path / OWNER).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot lock the {what} {path}: {_reason(error)}") from error
    return signed


def _owner(path: Path) -> str:
    owner = _read(path)
    pid, host = owner.get("pid"), owner.get("host")
    if pid is None:
        return "another process"  # it has the lock, and has not signed yet
    if host != socket.gethostname():
        return f"process {pid} on {host}"
    return "another part of this program" if pid == os.getpid() else f"process {pid}"


def _read(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads((path / OWNER).read_bytes())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
