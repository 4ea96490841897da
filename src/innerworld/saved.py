"""Tensors and what is told of them, in a folder, whole or not at all: how what was learnt outlives the program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from innerworld.disk import reason, write_atomic
from innerworld.errors import UserError

FORMAT = 1


def write(folder: Path | str, name: str, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write `name.json`, which names the file of tensors and its checksum: with it all of it is there, or nothing new.

    Raises `UserError` when the disk refuses; what was saved before is intact then.
    """
    folder = Path(folder)
    data = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    sha256 = hashlib.sha256(data).hexdigest()
    file = f"{name}-{sha256[:12]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{reason(error)} while making {folder}") from error
    write_atomic(folder / file, [data])
    told = {"format": FORMAT, "tensors": file, "bytes": len(data), "sha256": sha256, "told": dict(told)}
    write_atomic(folder / f"{name}.json", [(json.dumps(told, indent=2) + "\n").encode()])
    for old in folder.glob(f"{name}-{'[0-9a-f]' * 12}.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)


def read(folder: Path | str, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and what is told of them. Raises `UserError` that names the file which is missing or broken."""
    index = Path(folder) / f"{name}.json"
    try:
        found = json.loads(_bytes(index))
        version, told = found["format"], found["told"]
        path, length, sha256 = index.parent / Path(found["tensors"]).name, int(found["bytes"]), str(found["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{index} is broken: delete it, or take a copy of it from elsewhere") from None
    if version != FORMAT:
        raise UserError(f"{index}: format {version!r} is not the one that this innerworld reads ({FORMAT})")
    data = _bytes(path)
    if len(data) != length or hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path} is broken: it is not what {index.name} says was written")
    try:
        return safetensors.torch.load(data), told
    except SafetensorError as error:
        raise UserError(f"{path} is broken: {error}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
