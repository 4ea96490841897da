"""`scan`: find the committed episodes of a store, whatever a killed writer left and while another one writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from innerworld.data.store.files import Files, Folder
from innerworld.data.store.manifest import MANIFEST, read_manifest
from innerworld.data.store.meta import Meta
from innerworld.data.store.part import EPISODES, SHARDS, Part, read_part
from innerworld.errors import UserError

MENDING, DAMAGED = "mending", "damaged"
"""Folders of a store: what a repair is about to put in place, and what it took away."""

SUFFIX = ".safetensors"
TRIES = 20


@dataclass
class Found:
    """What is in a store."""

    parts: list[Part] = field(default_factory=list)  # in the order of their episodes
    next_episode: int = 0
    next_shard: int = 0
    unlisted: list[Part] = field(default_factory=list)  # shards whose line a kill prevented
    stale: list[str] = field(default_factory=list)  # loose episodes that are in a shard already
    torn: dict[str, str] = field(default_factory=dict)  # loose episodes that a power cut tore, and how
    faults: list[str] = field(default_factory=list)


class _Moved(Exception):
    """A loose episode went into a shard while we looked."""


def episode_file(number: int) -> str:
    return f"{EPISODES}/{number:08d}{SUFFIX}"


def shard_file(number: int) -> str:
    return f"{SHARDS}/{number:06d}{SUFFIX}"


def scan(files: Files, meta: Meta) -> Found:
    """Look at every file. Raises `UserError` only where nothing can be said at all; damage is among the `faults`."""
    if files.names(MENDING):
        raise UserError(f"a repair of {files.name} was interrupted: finish it with innerworld data repair {files.name}")
    for _ in range(TRIES):
        try:
            return _scan(files, meta)
        except _Moved:
            continue
    raise UserError(f"{files.name} changes faster than it can be read: try again")


def _scan(files: Files, meta: Meta) -> Found:
    # In this order: what a writer moves meanwhile from the one to the other is then seen twice rather than not at all.
    loose = numbers_in(files.names(EPISODES))
    listed, faults = read_manifest(files)
    present = numbers_in(files.names(SHARDS))
    found = Found(faults=faults)
    shards = _shards(files, meta, listed, present, found)
    found.parts, taken = _in_order(files, shards, found)
    for number in loose:
        file = episode_file(number)
        if any(first <= number < stop for first, stop in taken):
            found.stale.append(file)
            continue
        try:
            found.parts.append(_read_loose(files, meta, number))
        except UserError as error:
            if not files.local(file).exists():
                raise _Moved from None
            found.torn[file] = str(error)
    found.parts.sort(key=lambda part: part.first)
    stops = [part.stop for part in (*found.parts, *listed.values())]
    found.next_episode = max([0, *stops, *(number + 1 for number in loose)])
    found.next_shard = max([-1, *present, *numbers_in(file.rpartition("/")[2] for file in listed)]) + 1
    return found


def _shards(files: Files, meta: Meta, listed: dict[str, Part], present: Sequence[int], found: Found) -> list[Part]:
    here = isinstance(files, Folder)
    names = {*listed, *map(shard_file, present if listed or meta.format > 1 else range(max(present, default=-1) + 1))}
    parts: list[Part] = []
    there = set(map(shard_file, present))
    for file in sorted(names):
        line = listed.get(file)
        if file not in there:
            found.faults.append(f"{files.name}/{file} is missing")
        elif line is not None and not here:
            parts.append(line)  # to look into it would fetch it
        else:
            count = sum(len(part.lengths) for part in parts)
            first = line.first if line else count if meta.format == 1 else None
            try:
                part = read_part(files.local(file), file, meta, first)
                _check_line(files, part, line)
            except UserError as error:
                found.faults.append(str(error))
            else:
                parts.append(part)
                if line is None:
                    found.unlisted.append(part)
    return parts


def _check_line(files: Files, part: Part, line: Part | None) -> None:
    if line is not None and (part.first, part.lengths.tolist()) != (line.first, line.lengths.tolist()):
        raise UserError(
            f"{files.name}/{part.file} is corrupt: it holds other episodes than its line in {MANIFEST} says"
        )


def _in_order(files: Files, shards: Iterable[Part], found: Found) -> tuple[list[Part], list[tuple[int, int]]]:
    """Shards by their episodes, and the stretches of numbers that they take; two may not share one."""
    parts: list[Part] = []
    taken: list[tuple[int, int]] = []
    for part in sorted(shards, key=lambda part: part.first):
        if taken and part.first < taken[-1][1]:
            found.faults.append(f"{files.name}/{part.file} is corrupt: it holds episodes that {parts[-1].file} holds")
        else:
            parts.append(part)
            taken.append((part.first, part.stop))
    return parts, taken


def _read_loose(files: Files, meta: Meta, number: int) -> Part:
    file = episode_file(number)
    part = read_part(files.local(file), file, meta)
    if (part.first, len(part.lengths)) != (number, 1):
        raise UserError(f"{files.name}/{file} is corrupt: it is not episode {number}")
    return part


def numbers_in(names: Iterable[str]) -> list[int]:
    stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdecimal())
