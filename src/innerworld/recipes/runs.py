"""Which runs lie below a folder and how they stand: read from their own small files, without torch, without a lock."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from innerworld.errors import UserError

DEPTH = 6  # folders below the one that is asked for
TAIL = 1 << 16  # bytes of the log that are read from its end
ROWS = 20  # of the log, over which speed is measured
ALIKE = ("step", "time", "loss", "grad_norm", "lr")  # in every row of every family
STALE_S = 600.0  # a run on another machine that has not written for so long may be gone
SLACK_S = 60.0  # between two clocks that tell when a process began


@dataclass(frozen=True)
class RunState:
    """One run, as its files tell it."""

    folder: Path
    family: str
    data: str  # folder of its store; empty where it learns in a world
    world: str  # that world
    state: str  # running, done, interrupted, failed, killed, stopped, or lost (on another machine, silent)
    reason: str  # why it is not running, where that is known
    step: int  # done, as far as the log or the state tells
    steps: int  # in all
    resumable: int | None  # step of the newest whole checkpoint
    metrics: dict[str, float]  # as last measured; the loss is among them
    steps_per_s: float | None
    updated: float  # seconds since 1970
    bytes: int


def find_runs(folder: Path) -> list[RunState]:
    """The runs in and below `folder`, the one that wrote last comes first. Raises `UserError` without a folder."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give the one that your runs are in")
    return sorted((read_state(path) for path in _run_folders(folder)), key=lambda run: -run.updated)


def read_state(folder: Path) -> RunState:
    """How the run in `folder` stands; what cannot be read is empty."""
    about = _read(folder / "run.json")
    lesson = about.get("lesson", about.get("practice"))
    lesson = lesson if isinstance(lesson, dict) else {}
    online = lesson.get("online")
    train = lesson.get("train")
    steps = _whole(train.get("steps")) if isinstance(train, dict) else 0
    noted, rows, saved = _read(folder / "state.json"), _last_rows(folder / "log.jsonl"), _newest_checkpoint(folder)
    done = max(_whole(noted.get("step")), saved or 0, _whole(rows[-1]["step"]) + 1 if rows else 0)
    state, reason = _standing(noted, saved, steps)
    return RunState(
        folder=folder,
        family=str(lesson.get("family", "")),
        data=os.path.normpath(folder / str(lesson["data"])) if lesson.get("data") else "",
        world=str(online.get("env", "")) if isinstance(online, dict) else "",
        state=state,
        reason=reason,
        step=min(done, steps) if steps else done,
        steps=steps,
        resumable=None if state in ("done", "running") else saved,
        metrics=_last_metrics(rows),
        steps_per_s=_speed(rows),
        updated=_updated(noted, rows, folder),
        bytes=sum(_sizes(folder)),
    )


def _run_folders(top: Path) -> Iterator[Path]:
    """Folders with a `run.json`. Links are followed, but no folder is looked at twice."""
    seen: set[str] = set()
    for at, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(at)
        below = len(Path(at).relative_to(top).parts)
        if real in seen or "meta.json" in files:  # a store
            folders.clear()
            continue
        seen.add(real)
        if "run.json" in files:
            folders.clear()
            yield Path(at)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if below < DEPTH else []


def _standing(noted: dict[str, Any], saved: int | None, steps: int) -> tuple[str, str]:
    state, reason = str(noted.get("state", "")), " ".join(str(noted.get("reason") or "").split())
    if not state:  # a run of before there was such a note, or one that never began
        return ("done", "") if saved is not None and saved >= steps > 0 else ("stopped", "")
    if state != "running":
        return state, reason
    host, pid = str(noted.get("host", "")), _whole(noted.get("pid"))
    updated = _number(noted.get("updated"))
    if host != socket.gethostname():
        silent = time.time() - updated > STALE_S
        return ("lost", f"on {host}, and silent since") if silent else ("running", f"on {host}")
    return ("running", "") if _alive(pid, updated) else ("killed", f"process {pid} is gone")


def _alive(pid: int, updated: float) -> bool:
    """Does the process still run, and is it not another one that got the same number since?"""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but alive
    began = _began(pid)
    return began is None or began <= updated + SLACK_S


def _began(pid: int) -> float | None:
    """When a process began, seconds since 1970, never for one that is dead and only not buried yet (a container often
    has nobody who does); None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if state in "ZX":
            return math.inf
        ticks = int(fields[18])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def _newest_checkpoint(folder: Path) -> int | None:
    """The step of the newest checkpoint that was finished: its manifest comes last."""
    steps = [_whole(path.parent.name.partition("-")[2]) for path in folder.glob("checkpoints/step-*/manifest.json")]
    return max(steps, default=None)


def _last_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:  # the first may be cut by us, the last by a kill
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _last_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of each number, the loss first; not all are measured in every row."""
    last = {name: value for row in rows for name, value in row.items() if isinstance(value, int | float)}
    order = sorted(last, key=lambda name: ALIKE.index(name) if name in ALIKE else len(ALIKE))
    return {name: last[name] for name in order if name not in ("step", "time")}


def _speed(rows: list[dict[str, Any]]) -> float | None:
    """Over the last rows; a clock that jumped back, or a row of before the last pause, says nothing."""
    last = rows[-ROWS:]
    if len(last) < 2:
        return None
    gaps = [(_number(b.get("time")) - _number(a.get("time")), b["step"] - a["step"]) for a, b in pairwise(last)]
    sound = sorted((seconds / steps, seconds, steps) for seconds, steps in gaps if seconds > 0 and steps > 0)
    usual = [gap for gap in sound if gap[0] <= 5 * sound[len(sound) // 2][0]]
    seconds = sum(gap[1] for gap in usual)
    return sum(gap[2] for gap in usual) / seconds if seconds else None


def _updated(noted: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> float:
    """When it last wrote, as it says itself; a folder that was copied has young files."""
    said = max(_number(noted.get("updated")), _number(rows[-1].get("time")) if rows else 0.0)
    try:
        return said or (folder / "run.json").stat().st_mtime
    except OSError:
        return 0.0


def _sizes(folder: Path) -> Iterator[int]:
    for at, _, files in os.walk(folder):
        for name in files:
            try:
                yield os.lstat(os.path.join(at, name)).st_size
            except OSError:  # deleted meanwhile
                continue


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
