"""What a run leaves in its folder while it trains: a lock, `state.json`, checkpoints; and what if that fails."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch

from innerworld import checkpoint
from innerworld.activity import doing
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.training.config import FREE_ON_RESUME
from innerworld.training.learner import Learner

EVERY_S = 30.0  # between two writings of state.json
logger = logging.getLogger(__name__)


class Keeper:
    """Saves a learner into the run's `folder` (None: nothing is saved) and says how the run is."""

    def __init__(self, folder: Path | None, learner: Learner) -> None:
        self.folder, self.learner = folder, learner
        self.config, self.team = learner.config, learner.team
        self.skipped = 0  # steps in a row that were not taken
        self.done = 0  # steps that are in the weights
        self.saved = -1  # as many of them as the newest checkpoint has
        self._writer = checkpoint.Background()
        self._scores: list[float] = []
        self._told_at = 0.0

    # ------------------------------------------------------------------ before the first step

    @contextmanager
    def holding(self, resume: bool) -> Iterator[None]:
        """Hold the folder for this run alone, and leave in `state.json` how it ended.

        Raises `UserError` where there is nothing to resume, something to overwrite, another process at work, or a name
        that safetensors could write to and not read from.
        """
        if self.folder is not None and not _is_utf8(self.folder.absolute()):
            raise UserError(f"the name of the folder {os.fsencode(self.folder)!r} is not UTF-8: choose another")
        if resume and (self.folder is None or not self.folder.is_dir()):
            where = f"there is no folder {self.folder}" if self.folder else "give the run's folder"
            raise UserError(f"cannot resume: {where}")
        if not resume and self.folder is not None and checkpoint.exists(self.folder):
            raise UserError(f"{self.folder} already holds a run: continue it with --resume, or give another folder")
        with self._locked():
            try:
                yield
            except KeyboardInterrupt:  # the second: at once, without waiting for the writer
                self._tell("interrupted", "at once, by a second Ctrl-C")
                raise
            except Exception as error:
                self._writer.wait(20)  # a writer that waits for a process that is gone
                stopped = isinstance(error, UserError) and error.code in (130, 143)
                self._tell("interrupted" if stopped else "failed", " ".join(str(error).split()) or type(error).__name__)
                raise
            self._tell("done")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only the first process holds the lock; what it is told, all are."""
        held = lock(self.folder, "run") if self.folder is not None and self.team.rank == 0 else nullcontext()
        with self.team.together():
            held.__enter__()
        try:
            yield
        finally:
            held.__exit__(None, None, None)

    def begin(self, resume: bool) -> int:
        """How many steps are done; at none, seed and save, for a folder that cannot be written should fail now."""
        self._tell("running")
        if resume and self.folder is not None:
            with doing("reading the last checkpoint"):
                found = checkpoint.restore(
                    self.folder, self.learner.model, self.learner.optimiser, self.config, FREE_ON_RESUME, self._extra()
                )
            if found is not None:
                self._go_on(*found)
                return self.done
            self.warn("nothing to resume in %s: starting at step 0", self.folder)
        _seed(self.config.seed + self.team.rank)
        self.save(0, wait=True)
        return 0

    def _go_on(self, header: checkpoint.Header, knows_random: bool) -> None:
        self.done = self.saved = header.step
        self.skipped = header.progress.get("skipped", 0)
        halved = header.progress.get("micro", 0)
        self.learner.micro = min(filter(None, (halved, self.config.micro_batch)), default=0)
        if not knows_random:  # this process is new
            _seed(self.config.seed + self.team.rank + self.team.world * header.step)
        if header.processes != self.team.world:
            text = "trained by %d processes until step %d, now by %d: same clips in the same order, other noise"
            self.warn(text, header.processes, header.step, self.team.world)

    # ------------------------------------------------------------------ while it trains

    def note(self, step: int, row: Mapping[str, float]) -> None:
        """Remember how far the run is, and what decides which checkpoint is the best."""
        self.done = step + 1
        if self.config.best in row:
            self._scores.append(row[self.config.best])
        if self.team.rank == 0 and time.monotonic() > self._told_at + EVERY_S:
            self._tell("running")

    @property
    def troubled(self) -> bool:
        """Did a checkpoint that was written meanwhile fail?"""
        return self._writer.failed

    def save(self, done: int, wait: bool = False) -> None:
        """Save the run as it is after `done` steps. Without `wait`, errors come with a later save or `settle`."""
        self.done = self.saved = done
        if self.folder is None:
            return
        self.settle()
        snapshot = checkpoint.take(self.learner.model, self.learner.optimiser, done, self.config, self._extra())
        if snapshot is not None:
            best = checkpoint.Best(self.config.best, self.config.best_is_highest) if self.config.best else None
            self._writer.start(partial(checkpoint.write, self.folder, snapshot, self.config.keep, best))
        self._scores.clear()
        if wait or not self.config.background:
            self.settle(last=wait)

    def settle(self, last: bool = False) -> None:
        """Wait for what is being written; if it failed in any process, all stop or, if so asked, go on.

        Raises `UserError`; always, if it is the `last`, without which there would be nothing to go on from.
        """
        try:
            with doing("writing a checkpoint"), self.team.together():
                self._writer.wait()
                error = self._writer.take_error()
                if error is not None:
                    raise error
        except UserError as error:
            if last or self.config.on_full == "stop":
                raise
            self.warn("%s; training goes on", error)

    def _extra(self) -> checkpoint.Extra:
        progress = {"skipped": self.skipped, "micro": self.learner.micro}
        scores = {self.config.best: sum(self._scores) / len(self._scores)} if self._scores else {}
        return checkpoint.Extra(self.learner.average, progress, scores, self.team, self.learner.sharded)

    def warn(self, text: str, *values: object) -> None:
        if self.team.rank == 0:
            logger.warning(text, *values)

    def _tell(self, state: str, reason: str = "") -> None:
        """Write `state.json`. It is for looking only, so that a full disk does not end the run here."""
        if self.folder is None or self.team.rank:
            return
        self._told_at = time.monotonic()
        values = {
            "state": state,
            "reason": reason,
            "step": self.done,
            "steps": self.config.steps,
            "processes": self.team.world,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "updated": round(time.time(), 3),
        }
        try:
            write_atomic(self.folder / "state.json", [json.dumps(values).encode()])
        except UserError as error:
            logger.warning("%s", error)


def _seed(number: int) -> None:
    """All global generators: torch's decide the noise; Python's and NumPy's are there for families that use them."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True
