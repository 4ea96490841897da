"""`repair`: keep every good episode of a damaged store; what is bad is moved aside, and nothing is deleted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from innerworld.data.store.commit import set_aside
from innerworld.data.store.examine import Examined, Progress, examine_all
from innerworld.data.store.files import Folder
from innerworld.data.store.manifest import read_manifest, write_manifest
from innerworld.data.store.meta import FORMAT, Meta, read_meta, write_meta
from innerworld.data.store.part import SHARDS, Part, read_part, write_part
from innerworld.data.store.record import Record
from innerworld.data.store.scan import MENDING, numbers_in, shard_file
from innerworld.data.store.statistics import STATISTICS
from innerworld.disk import reason, write_atomic
from innerworld.errors import UserError
from innerworld.lock import lock

PLAN = f"{MENDING}/plan.json"


@dataclass
class Repaired:
    """What `repair` did."""

    episodes: int = 0  # that are there and good
    lost: list[str] = field(default_factory=list)  # what is wrong, one for each episode or file
    moved: list[str] = field(default_factory=list)  # files that went to damaged/
    new: list[str] = field(default_factory=list)  # shards that were written


def repair(path: str | Path, progress: Progress | None = None) -> Repaired:
    """Mend a store in place: the good episodes of damaged files go into new shards, the damaged files to `damaged/`.

    It may be killed at any moment, and then called again. Raises `UserError` where `meta.json` cannot be read (write
    one like it: it says what the world is like), while another process writes, and for a full disk.
    """
    root = Path(path)
    meta = read_meta(Folder(root))
    with lock(root, "store"):
        try:
            return _repair(root, meta, progress)
        except OSError as error:
            raise UserError(f"cannot repair {root}: {reason(error)}") from error


def _repair(root: Path, meta: Meta, progress: Progress | None) -> Repaired:
    done = Repaired()
    if (root / PLAN).exists():  # an earlier one was interrupted after everything had been written
        _put_in_place(root, json.loads((root / PLAN).read_bytes()), done)
    _clear(root)
    kept: list[Part] = []
    bad: list[str] = []
    number = max([-1, *numbers_in(Folder(root).names(SHARDS)), *_listed_numbers(root)]) + 1
    for found in examine_all(root, meta, progress):
        done.episodes += len(found.good)
        done.lost += map(str, found.faults)
        if found.part is not None and not found.faults:
            kept += [] if found.part.loose else [found.part]
            continue
        bad.append(found.file)
        for run in _runs(found):
            (root / MENDING).mkdir(exist_ok=True)
            write_part(root / MENDING, Path(shard_file(number)).name, run[0][0], [record for _, record in run])
            number += 1
    _finish(root, meta, bad, kept, done)
    return done


def _finish(root: Path, meta: Meta, bad: list[str], kept: list[Part], done: Repaired) -> None:
    plan = {"bad": bad, "new": sorted(file.name for file in (root / MENDING).glob("*.safetensors"))}
    if bad:
        (root / MENDING).mkdir(exist_ok=True)
        write_atomic(root / PLAN, [json.dumps(plan).encode()])
    _put_in_place(root, plan, done)
    meta = meta.model_copy(update={"format": FORMAT})
    new = [read_part(root / file, file, meta) for file in done.new]
    write_manifest(root, sorted([*kept, *new], key=lambda part: part.first))
    write_meta(root, meta)
    if bad:
        (root / STATISTICS).unlink(missing_ok=True)  # they count what is lost
    _clear(root)


def _put_in_place(root: Path, plan: dict[str, list[str]], done: Repaired) -> None:
    """Every step can be done again: what was done is skipped."""
    for file in plan["bad"]:
        if (root / file).exists():
            done.moved.append(str(set_aside(root, file).relative_to(root)))
    for name in plan["new"]:
        if (root / MENDING / name).exists():
            (root / MENDING / name).rename(root / SHARDS / name)
        done.new.append(f"{SHARDS}/{name}")


def _clear(root: Path) -> None:
    """Take away what a repair had begun to write; the plan goes last but one, the folder last."""
    if (root / MENDING).exists():
        for file in sorted((root / MENDING).iterdir(), key=lambda file: file.name == "plan.json"):
            file.unlink()
        (root / MENDING).rmdir()


def _runs(found: Examined) -> list[list[tuple[int, Record]]]:
    """Good episodes whose numbers follow one another: a shard says the number of its first alone."""
    runs: list[list[tuple[int, Record]]] = []
    for number, record in found.good:
        if not runs or number != runs[-1][-1][0] + 1:
            runs.append([])
        runs[-1].append((number, record))
    return runs


def _listed_numbers(root: Path) -> list[int]:
    return numbers_in(file.rpartition("/")[2] for file in read_manifest(Folder(root))[0])
