"""`manifest.jsonl`: a line for each committed shard: a missing one is noticed, and a bucket is soon indexed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from innerworld.data.store.files import Files
from innerworld.data.store.part import Part
from innerworld.disk import append_line, reason, sync, write_atomic
from innerworld.errors import UserError

MANIFEST = "manifest.jsonl"


def read_manifest(files: Files) -> tuple[dict[str, Part], list[str]]:
    """The parts by their file, and what is wrong with lines. Half a line at the end, which a kill leaves, is not."""
    if MANIFEST not in files.names("."):
        return {}, []
    try:
        lines = files.local(MANIFEST).read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise UserError(f"cannot read {files.name}/{MANIFEST}: {error.strerror}") from error
    parts, faults = {}, []
    for number, line in enumerate(lines, 1):
        try:
            part = _part(json.loads(line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            faults.append(f"{files.name}/{MANIFEST} is corrupt: line {number} cannot be read")
        else:
            parts[part.file] = part
    return parts, faults


def append_manifest(root: Path, part: Part) -> None:
    """Add the line of a part that is committed."""
    append_line(root / MANIFEST, _line(root, part))


def write_manifest(root: Path, parts: list[Part]) -> None:
    """Write the whole manifest anew."""
    write_atomic(root / MANIFEST, [_line(root, part) + b"\n" for part in parts])


def trim_manifest(root: Path) -> None:
    """Cut off half a line at the end, before another is added to it."""
    file = root / MANIFEST
    if not file.exists():
        return
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        try:
            with file.open("r+b") as opened:
                opened.truncate(whole)
            sync(file)
        except OSError as error:
            raise UserError(f"{reason(error)} while writing {file}") from error


def _line(root: Path, part: Part) -> bytes:
    values = {
        "file": part.file,
        "first": part.first,
        "bytes": (root / part.file).stat().st_size,
        "lengths": part.lengths.tolist(),
        "seeds": part.seeds.tolist(),
    }
    return json.dumps(values, separators=(",", ":")).encode()


def _part(values: dict) -> Part:
    lengths, seeds = np.array(values["lengths"], np.int64), np.array(values["seeds"], np.int64)
    first, file = values["first"], values["file"]
    if lengths.ndim != 1 or lengths.shape != seeds.shape or lengths.min(initial=1) < 1 or not len(lengths):
        raise ValueError("lengths and seeds do not fit")
    if not isinstance(first, int) or first < 0 or not re.fullmatch(r"shards/\d+\.safetensors", file):
        raise ValueError("it names no shard")
    return Part(file, first, lengths, seeds)
