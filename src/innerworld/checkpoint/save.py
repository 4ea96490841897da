"""Saving: `take` a snapshot on the host, `write` it at leisure; the folder gets its name when all of it is on disk."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.optim import Optimizer

from innerworld.checkpoint import folder as folders
from innerworld.checkpoint.folder import AVERAGE, CONFIG, MANIFEST, OPTIMISER, WEIGHTS, BrokenCheckpoint
from innerworld.checkpoint.header import Header, describe
from innerworld.checkpoint.pieces import Piece, on_host, piece, write_pieces
from innerworld.checkpoint.state import Extra, distinct, memory, random_states
from innerworld.config import Config
from innerworld.disk import FULL, reason, write_atomic
from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.team import ALONE, Team

BEST = "best.json"


class SaveFailed(UserError):
    """The disk refused; what was saved before is intact."""


@dataclass(frozen=True)
class Best:
    """Which checkpoint is never deleted: the one with the lowest or highest score."""

    metric: str
    highest: bool = False


@dataclass(frozen=True)
class Snapshot:
    """All that one process writes, on the host, so that training can go on."""

    step: int
    header: Header | None  # the first process writes it
    files: Mapping[str, Mapping[str, Piece]]  # by kind
    scalars: Mapping[str, float]
    team: Team  # whose processes all write; alone when one writes for all


def save(
    folder: Path | str,
    model: Learns,
    optimiser: Optimizer | None,
    step: int,
    train: Config | None,
    keep: int = 3,
    best: Best | None = None,
    extra: Extra = Extra(),
) -> Path | None:
    """Write the checkpoint of `step` done steps under the run's `folder`, then delete all but the newest `keep`.

    The `best` stays, too. Also sweeps what a killed process left half-written. Raises `UserError`, with all earlier
    checkpoints intact, when the disk is full or not writable, or when a weight is not finite.
    """
    snapshot = take(model, optimiser, step, train, extra)
    return write(folder, snapshot, keep, best) if snapshot is not None else None


def take(
    model: Learns, optimiser: Optimizer | None, step: int, train: Config | None, extra: Extra = Extra()
) -> Snapshot | None:
    """Copy everything to the host; None where another process writes for this one. All processes must call it.

    Raises `UserError` when a weight is not finite, or something cannot be saved.
    """
    team, sharded = extra.team, extra.sharded
    with team.together():
        _refuse_non_finite(model, step, sharded)
        remembered, scalars = memory(model, optimiser)
        states = random_states(team, gather=not sharded)
        values = {WEIGHTS: distinct(model), AVERAGE: dict(extra.average), OPTIMISER: remembered | states}
    if team.rank and not sharded:
        return None
    more = {"processes": team.world, "progress": dict(extra.progress), "scores": dict(extra.scores)}
    return Snapshot(
        step=step,
        header=None if team.rank else describe(model, step, train, **more),
        files={
            kind: on_host(_own(tensors, team, sharded))
            for kind, tensors in values.items()
            if tensors or kind != AVERAGE
        },
        scalars=scalars if team.rank == 0 else {},
        team=team if sharded else ALONE,
    )


def _own(tensors: Mapping[str, Tensor], team: Team, sharded: bool) -> dict[str, Piece]:
    """What this process writes: its rows of what is spread; of what all have alike nothing, but the first all."""
    pieces = {name: piece(value, sharded) for name, value in tensors.items()}
    return {
        name: each for name, each in pieces.items() if team.rank == 0 or not each.whole or name.startswith("random/")
    }


def _refuse_non_finite(model: Learns, step: int, sharded: bool) -> None:
    """Parameters only: a buffer may hold infinities on purpose, as an attention mask does."""
    for name, value in model.named_parameters():
        if value.is_floating_point() and not torch.isfinite(piece(value, sharded).rows).all():
            raise UserError(f"step {step}: weight {name!r} is not finite, so nothing was saved. Lower lr")


def write(run: Path | str, snapshot: Snapshot, keep: int = 3, best: Best | None = None) -> Path:
    """Write a snapshot, each process its own part, and make it a checkpoint when all parts are on the disk."""
    home, team = folders.home_of(run), snapshot.team
    final = home / folders.name(snapshot.step)
    tmp = home / f".tmp-{final.name}"
    try:
        with team.together(team.writers):
            if team.rank == 0:
                home.mkdir(parents=True, exist_ok=True)
                folders.sweep(home)
                tmp.mkdir()
        with team.together(team.writers):
            prints = _write_parts(tmp, snapshot)
        everyones = team.say(json.dumps(prints), team.writers)
        with team.together(team.writers):
            if team.rank == 0:
                _finish(
                    tmp, final, snapshot, {name: told for text in everyones for name, told in json.loads(text).items()}
                )
                _prune(home, snapshot.step, keep, best)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(tmp, ignore_errors=True)
        raise SaveFailed(
            f"cannot save the checkpoint of step {snapshot.step} in {home}: {_reason(error)}. "
            "Earlier checkpoints are intact: continue with --resume"
        ) from error
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    return final


def _write_parts(tmp: Path, snapshot: Snapshot) -> dict[str, dict[str, int | str]]:
    """This process's safetensors; their sizes and checksums."""
    names = []
    for kind, pieces in snapshot.files.items():
        names.append(folders.file_name(kind, snapshot.team.rank, snapshot.team.world))
        write_pieces(tmp / names[-1], pieces, snapshot.scalars if kind == OPTIMISER else {})
    return {name: folders.fingerprint(tmp / name) for name in names}


def _finish(tmp: Path, final: Path, snapshot: Snapshot, prints: dict[str, dict[str, int | str]]) -> None:
    assert snapshot.header is not None
    folders.write_json(tmp / CONFIG, snapshot.header.model_dump(mode="json"))
    folders.write_json(tmp / MANIFEST, {CONFIG: folders.fingerprint(tmp / CONFIG), **prints})
    folders.commit(tmp, final)


def _prune(home: Path, step: int, keep: int, best: Best | None) -> None:
    """Delete all but the `keep` newest up to `step`, which was just written and always stays, and the best.

    Later ones cannot have come from this run unless they are broken: they neither count nor go.
    """
    upto = [path for path in folders.steps(home) if folders.step_of(path) <= step]
    winner = _best_of(upto, best) if best is not None else None
    for path in upto[max(1, keep) :]:
        if path != winner:
            folders.remove(path)


def _best_of(paths: list[Path], best: Best) -> Path | None:
    """The checkpoint with the best score, whose name goes into `best.json`: a table of contents, not the authority."""
    scores: dict[Path, float] = {}
    for path in paths:
        try:
            value = folders.read_json(path / CONFIG).get("scores", {}).get(best.metric)
        except BrokenCheckpoint:
            continue
        if isinstance(value, int | float):
            scores[path] = float(value)
    if not scores:
        return None
    winner = (max if best.highest else min)(scores, key=lambda path: scores[path])
    mode = "max" if best.highest else "min"
    told = {"step": folders.step_of(winner), "metric": best.metric, "mode": mode, "value": scores[winner]}
    write_atomic(winner.parent.parent / BEST, [json.dumps(told).encode()])
    return winner


def _reason(error: Exception) -> str:
    """safetensors wraps the operating system's error into text of its own."""
    if any(f"os error {number}" in str(error) for number in FULL):
        return "no space left: make room"
    return reason(error) if isinstance(error, OSError) else str(error)


class Background:
    """Writes one checkpoint at a time beside the training; an error waits here until it is asked for."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    def start(self, job: Callable[[], object]) -> None:
        """Begin, when the one before is done."""
        self.wait()
        # A daemon: a second Ctrl-C must not wait for it. What it leaves then is swept by the next save.
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def take_error(self) -> Exception | None:
        error, self._error = self._error, None
        return error

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            self._error = error
