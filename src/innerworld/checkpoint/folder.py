"""The folders of a run's checkpoints: how one appears whole, which is the newest that is whole, which one goes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from innerworld.disk import sync
from innerworld.errors import UserError

CONFIG, MANIFEST = "config.json", "manifest.json"
WEIGHTS, AVERAGE, OPTIMISER = "weights", "average", "optimiser"
_STEP = re.compile(r"step-\d+")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class BrokenCheckpoint(UserError):
    """A file of a checkpoint is missing, cut short or changed."""


# ---------------------------------------------------------------------- names


def home_of(run: Path | str) -> Path:
    return Path(run) / "checkpoints"


def name(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def steps(home: Path) -> list[Path]:
    """The checkpoints, newest first."""
    found = [path for path in home.glob("step-*") if _STEP.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def exists(folder: Path | str) -> bool:
    """Is there any checkpoint in the run's folder?"""
    return bool(steps(home_of(folder)))


def is_checkpoint(path: Path) -> bool:
    return path.is_dir() and ((path / MANIFEST).exists() or _STEP.fullmatch(path.name) is not None)


def file_name(kind: str, part: int, parts: int) -> str:
    """Of the safetensors of one kind, whole or the `part`-th of `parts`."""
    return f"{kind}.safetensors" if parts == 1 else f"{kind}-{part:05d}-of-{parts:05d}.safetensors"


# ---------------------------------------------------------------------- writing


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    sync(path)


def fingerprint(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def commit(tmp: Path, final: Path) -> None:
    """Give the finished folder its name: from here on it exists. A broken one of the same step makes way."""
    sync(tmp)
    if final.exists():
        remove(final)
    os.rename(tmp, final)
    sync(final.parent)


def remove(path: Path) -> None:
    """By way of a `.tmp` name, so that a kill in between leaves no half checkpoint."""
    away = path.with_name(f".tmp-old-{path.name}-{os.getpid()}")
    os.rename(path, away)
    shutil.rmtree(away)


def sweep(home: Path) -> None:
    """Delete what a killed process left half-written."""
    for path in home.glob(".tmp-*"):
        shutil.rmtree(path)


# ---------------------------------------------------------------------- reading


def newest_whole(path: Path, read: Callable[[Path], T]) -> T:
    """Read the checkpoint that `path` names, or the newest of a run that is not broken; older ones need a warning."""
    if is_checkpoint(path):
        return read(path)
    folders = steps(home_of(path)) or steps(path)
    broken: list[BrokenCheckpoint] = []
    for folder in folders:
        try:
            value = read(folder)
        except BrokenCheckpoint as error:
            broken.append(error)
            continue
        if broken:
            logger.warning("%s; using %s instead", "; ".join(map(str, broken)), folder.name)
        return value
    if broken:
        raise BrokenCheckpoint(f"no checkpoint in {path} is whole: {broken[0]}")
    raise UserError(f"no checkpoint in {path}: give the folder of a run, or of one of its checkpoints")


def files_of(folder: Path, kind: str) -> list[Path]:
    """The safetensors of one kind, as the manifest names them. Raises `BrokenCheckpoint` where one is missing there."""
    pattern = re.compile(rf"{kind}(?:-(\d{{5}})-of-(\d{{5}}))?\.safetensors")
    found = sorted(filter(pattern.fullmatch, read_json(folder / MANIFEST)))
    whole, parts = [file_name(kind, 0, 1)], [file_name(kind, part, len(found)) for part in range(len(found))]
    if not found or found not in (whole, parts):
        raise BrokenCheckpoint(f"{folder / MANIFEST} does not name {whole[0]}")
    return [folder / each for each in found]


def verify(path: Path) -> None:
    """Compare a file with the manifest beside it. Raises `BrokenCheckpoint` that names the file."""
    manifest = path.parent / MANIFEST
    told = read_json(manifest).get(path.name)
    try:
        found = fingerprint(path)
    except OSError:
        raise BrokenCheckpoint(f"{path} is missing or cannot be read") from None
    if not isinstance(told, dict):
        raise BrokenCheckpoint(f"{manifest} does not name {path.name}")
    if found["bytes"] != told.get("bytes"):
        raise BrokenCheckpoint(f"{path} is broken: {found['bytes']} bytes instead of {told.get('bytes')}")
    if found["sha256"] != told.get("sha256"):
        raise BrokenCheckpoint(f"{path} is broken: its sha256 is not the one in {MANIFEST}")


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError:
        raise BrokenCheckpoint(f"{path} is missing or cannot be read") from None
    except (ValueError, RecursionError):
        raise BrokenCheckpoint(f"{path} is broken: it is not JSON") from None
    if not isinstance(value, dict):
        raise BrokenCheckpoint(f"{path} is broken: it is not a JSON object")
    return value
