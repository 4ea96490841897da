"""`meta.json`: what a store's world is like, how its frames are packed, and where its experience comes from."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from innerworld.config import Config, build
from innerworld.data.store.files import Files
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.types import Spec
from innerworld.version import VERSION

FORMAT = 2
META = "meta.json"

Frames = Literal["raw", "zstd", "jpeg"]
"""How images lie in the shards: as they are, compressed without loss, or with (q95, 4:4:4)."""


class About(Config):
    """Where experience comes from."""

    env: str = Field(default="", description="id of the environment, or name of the log")
    policy: str = Field(default="", description="who acted")
    seed: int | None = Field(default=None, description="seed of the collection")
    action_low: tuple[float, ...] | None = Field(
        default=None, description="what -1 stands for, per axis, in original units"
    )
    action_high: tuple[float, ...] | None = Field(
        default=None, description="what +1 stands for, per axis, in original units"
    )
    fps: float | None = Field(default=None, description="observations per second")
    more: dict[str, Any] = Field(default={}, description="anything else that JSON can hold")


class Made(Config):
    """Who began a store, and how."""

    who: str = Field(default="", description="user and machine")
    command: str = Field(default="", description="the command line")
    commit: str = Field(default="", description="git commit of the working folder, -dirty where it had changes")
    innerworld: str = Field(default="", description="version of the library")
    created: str = Field(default="", description="date and time, ISO 8601, UTC")


class Source(Config):
    """One of the stores that a merged store was made of."""

    name: str = Field(default="", description="name of its folder")
    episodes: int = Field(default=0, description="how many episodes came from it, in the order of the sources")
    about: About = Field(default=About(), description="its provenance")
    made: Made = Field(default=Made(), description="who made it, and how")


class Meta(Config):
    """What `meta.json` says."""

    format: int = Field(default=FORMAT, description="version of the folder's layout")
    innerworld: str = Field(default="", description="version of the library that wrote it")
    created: str = Field(default="", description="date and time, ISO 8601, UTC")
    spec: Spec = Field(description="sensors and action")
    frames: Frames = Field(default="raw", description="how images are packed")
    about: About = Field(default=About(), description="provenance")
    made: Made = Field(default=Made(), description="who made it, and how")
    sources: tuple[Source, ...] = Field(default=(), description="the stores it was made of, where it was made of some")


def new_meta(spec: Spec, about: About, frames: Frames, sources: tuple[Source, ...] = ()) -> Meta:
    """What a store that is begun here and now says of itself."""
    now = datetime.now(UTC).isoformat("T", "seconds")
    made = Made(who=_who(), command=_command(), commit=_commit(Path.cwd()), innerworld=VERSION, created=now)
    return Meta(innerworld=VERSION, created=now, spec=spec, frames=frames, about=about, made=made, sources=sources)


def read_meta(files: Files) -> Meta:
    """Raises `UserError` for a folder that is no store, a newer format, and a file that is not understood."""
    if META not in files.names("."):
        raise UserError(f"{files.name} is no store of experience: it has no {META}")
    file = f"{files.name}/{META}"
    try:
        values = json.loads(files.local(META).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is corrupt: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise UserError(f"{file} is corrupt: it names no format")
    if values["format"] > FORMAT:
        raise UserError(
            f"{files.name} has format {values['format']}, this version reads up to {FORMAT}: update innerworld"
        )
    return build(Meta, values, where=file)


def write_meta(path: Path, meta: Meta) -> None:
    """Raises `UserError` for a number that JSON does not have, and for a full disk."""
    try:
        # Not by pydantic, which refuses file names that are not UTF-8 and writes null for infinity.
        text = json.dumps(meta.model_dump(mode="json"), indent=2, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{path / META} cannot say of the store what is infinite or not a number: {error}") from error
    write_atomic(path / META, [text.encode() + b"\n"])


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        user = ""
    return f"{user}@{socket.gethostname()}"


def _command() -> str:
    if not sys.argv:
        return ""
    program = Path(sys.argv[0])
    return " ".join([program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]])


@lru_cache
def _commit(folder: Path) -> str:
    """Empty where there is no git, or nothing committed."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
