"""`begin`: a folder that an export is written to, or one in which the same export was begun and killed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from innerworld.data.exporters.config import ExportConfig
from innerworld.data.store.store import Store
from innerworld.disk import write_atomic
from innerworld.errors import UserError


def begin(store: Store, out: Path, config: ExportConfig, name: str, more: dict[str, Any]) -> bool:
    """Make the folder and write the file `name` into it, which says what is exported; True if it was begun before.

    Raises `UserError` if the folder holds something else.
    """
    header = {
        "store": {"created": store.meta.created, "episodes": len(store), "spec": _digest(store)},
        "config": config.model_dump(mode="json"),
        **more,
    }
    file = out / name
    if file.is_file():
        try:
            before = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        if before != json.loads(json.dumps(header)):
            raise UserError(f"{out} holds another export: choose another folder, or remove it")
        return True
    if out.exists() and (not out.is_dir() or any(_visible(out))):
        raise UserError(f"{out} exists already: choose another folder")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from error
    write_atomic(file, [json.dumps(header, indent=2).encode() + b"\n"])
    return False


def _visible(out: Path) -> list[Path]:
    """What is in a folder but for what a killed beginning leaves: its lock, and the file it did not finish."""
    return [
        each for each in out.rglob("*") if each.is_file() and not each.name.startswith(".") and each.suffix != ".tmp"
    ]


def _digest(store: Store) -> str:
    """Of the lengths of all episodes and the spec: two stores that were made in the same second differ in it."""
    return hashlib.sha256(store.meta.spec.__repr__().encode() + store.lengths.tobytes()).hexdigest()[:16]
