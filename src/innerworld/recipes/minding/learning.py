"""An agent that learns on the job, episode by episode, and the changed run: kept in a folder of its own, as any run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from innerworld import checkpoint
from innerworld.agent import OnTheJob, OnTheJobConfig, ShortTermMemory, TrainableCritic
from innerworld.agent.knows import knows
from innerworld.config import build, differences
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.log import JsonLines
from innerworld.recipes.minding.episode import Diary
from innerworld.recipes.minding.known import Known
from innerworld.recipes.minding.learnt import Row, row_of
from innerworld.recipes.on_the_job import WATCHED, beside_old
from innerworld.training import TrainConfig
from innerworld.version import VERSION

JOB = "on_the_job"
"""Of the changed run: `on_the_job.json` says what was done, `on_the_job/` holds what the learner goes on from."""
SAVED_EVERY_S = 60.0  # at most so often: a ring of pictures is large


@dataclass(frozen=True)
class Learning:
    """How it learns."""

    config: OnTheJobConfig = field(default_factory=OnTheJobConfig)
    freeze_after: int | None = None  # episodes; none: it learns to the end
    resume: bool = False


class Job:
    """The learner, its memory and critic, and what came of every episode so far."""

    def __init__(
        self, known: Known, folder: Path, learning: Learning, critic: TrainableCritic | None, note: Callable[[], None]
    ) -> None:
        assert known.folder is not None
        self.known, self.folder, self.learning, self.critic = known, folder, learning, critic
        self._note = note  # makes the folder one of a run
        self.memory, self.rows = ShortTermMemory(), list[Row]()
        self._given = deepcopy(known.model)  # as it was before
        header = checkpoint.read_header(known.folder)
        self._begun = header.step
        self._train = None if header.train is None else build(TrainConfig, header.train, f"{known.folder}: train")
        self.learner = self._new_learner()
        self._saved_at = time.monotonic()

    @property
    def step(self) -> int:
        """Optimiser steps of the run until now, with those that were taken back."""
        return self._begun + self.tried * self.learning.config.steps

    @property
    def tried(self) -> int:
        """Updates, with those that were taken back."""
        return self.learner.updates + len(self.learner.why)

    def begin(self, episode: int) -> None:
        """Freeze all, when it is time."""
        after = self.learning.freeze_after
        if after is not None and episode >= after and not self.learner.frozen:
            self.learner.freeze()

    def end(self, diary: Diary, last: bool) -> None:
        """Note what came of an episode, learn where that is left for now, and keep all of it now and then."""
        if diary.reached or diary.ended:
            self.memory.end(torch.tensor([0]))  # no cost comes after
        if not self.learning.config.every:
            self.learner.learn()
        self.rows.append(row_of(diary, self.learner))
        if last or time.monotonic() > self._saved_at + SAVED_EVERY_S:
            self._keep()

    def told(self) -> dict[str, Any]:
        """What it learnt: how well it knows old and new experience, before and after."""
        learner, config = self.learner, self.learning.config
        found: dict[str, Any] = {
            "run": str(self.folder),
            "updates": learner.updates,
            "taken_back": len(learner.why),
            "why": learner.why,
            "optimiser_steps": self.tried * config.steps,
            "frozen": learner.frozen,
            "frozen_after": self.learning.freeze_after,
            "sights": len(learner.experience),
            "critic": "none" if self.critic is None else "taught" if self.critic.taught else "not taught yet",
            "rows": self.rows,
            "knows": {},
        }
        clips = {} if learner.held_out is None else {"old, held out": learner.held_out}
        if learner.experience.windows(config.length):
            clips["lived meanwhile"] = learner.experience.clips(config.length, WATCHED, Generator().manual_seed(0))
        for name, clip in clips.items():
            before, after = (knows(model, clip) for model in (self._given, self.known.model))
            found["knows"][name] = {what: [before[what], after[what]] for what in before}
        return found

    def _new_learner(self) -> OnTheJob:
        known, config = self.known, self.learning.config
        beside = self.critic, None if self.critic is None else self.memory
        if known.store is None or known.learnt is None or known.held_out is None:
            return OnTheJob(known.model, config, None, None, *beside)
        return beside_old(known.model, known.store, known.learnt, known.held_out, known.block, config, *beside)

    # ------------------------------------------------------------------ how it outlives the program

    def _keep(self) -> None:
        """The note comes last: what it names is there, whatever kills the writer."""
        self._note()
        state = self.folder / JOB / f"episode-{len(self.rows):05d}"
        checkpoint.save(self.folder, self.known.model, None, self.step, self._train, keep=2)
        self.learner.save(state)
        self.memory.save(state)
        if self.critic is not None:
            self.critic.save(state)
        note = {"step": self.step, "state": state.name, "rows": self.rows}
        write_atomic(self.folder / f"{JOB}.json", [json.dumps(note, indent=1).encode()])
        self._log()
        for old in state.parent.iterdir():
            if old.name != state.name:
                shutil.rmtree(old, ignore_errors=True)
        self._saved_at = time.monotonic()

    def _log(self) -> None:
        """One row of the run's log, where it has learnt since."""
        learnt = {name: value for name, value in self.learner.told.items() if name != "recent"}
        if learnt and self.step > self._begun:
            with JsonLines(self.folder / "log.jsonl") as log:
                log(self.step - 1, learnt)

    def go_on(self) -> None:
        """Be as it was when it was kept. Raises `UserError` for what is missing or broken."""
        note = read_note(self.folder)
        state = self.folder / JOB / str(note["state"])
        changed = checkpoint.load(self.folder / "checkpoints" / f"step-{int(note['step']):08d}")
        self.known.model.load_state_dict(changed.state_dict())
        self.learner.load(state)
        self.memory.load(state)
        if self.critic is not None:
            self.critic.load(state)
        self.rows = list(note["rows"])


@contextmanager
def job_of(
    known: Known,
    folder: Path,
    learning: Learning,
    critic: TrainableCritic | None,
    settings: dict[str, Any],
    command: str,
) -> Iterator[Job]:
    """A job in `folder`, which nobody else may touch meanwhile; with `learning.resume` it goes on.

    A `critic` learns along. `settings` are what must be the same when it goes on. Raises `UserError`, among others for
    the folder of the given run.
    """
    if known.folder is None:
        raise UserError("true dynamics have nothing to learn: give the folder of a run with --model")
    if folder.resolve() == known.folder.resolve():
        raise UserError(f"learning changes the run: give another folder than {known.folder} with --out")
    exists = (folder / "run.json").exists()
    if exists and not learning.resume:
        raise UserError(f"{folder} already holds a run: go on learning with --resume, or give another folder")
    if learning.resume and not (folder / f"{JOB}.json").exists():
        raise UserError(f"there is no learning on the job in {folder} to resume: leave out --resume")
    settings = settings | {"learning": learning.config.model_dump(mode="json"), "critic": critic is not None}
    with lock(folder, "run"):
        job = Job(known, folder, learning, critic, lambda: _note(known, folder, settings, command))
        if exists:
            _refuse_difference(folder, settings)
            job.go_on()
        yield job


def critic_file(run: Path) -> Path | None:
    """The folder of the critic that learnt on the job with this run; none did."""
    if not (run / f"{JOB}.json").exists():
        return None
    state = run / JOB / str(read_note(run)["state"])
    return state if (state / "critic.json").exists() else None


def read_note(folder: Path) -> dict[str, Any]:
    """What `on_the_job.json` says. Raises `UserError`."""
    path = folder / f"{JOB}.json"
    try:
        note = json.loads(path.read_bytes())
        return {"step": int(note["step"]), "state": Path(note["state"]).name, "rows": list(note["rows"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path} ({error}): give another folder, and learn anew") from None


def _note(known: Known, folder: Path, settings: dict[str, Any], command: str) -> None:
    """`run.json` as that of the given run, so that all commands know what this one was taught from; and its log."""
    if known.folder is None or (folder / "run.json").exists():
        return
    given = known.folder
    values = json.loads((given / "run.json").read_text(encoding="utf-8"))
    if "lesson" in values:  # its store is named as seen from the folder
        store = os.path.normpath(given / values["lesson"]["data"])
        values["lesson"]["data"] = os.path.relpath(store, folder)
    values["command"] = command
    values["versions"] = {"innerworld": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    values[JOB] = {"of": os.path.relpath(given, folder)} | settings
    if (given / "log.jsonl").exists():
        write_atomic(folder / "log.jsonl", [(given / "log.jsonl").read_bytes()])
    write_atomic(folder / "run.json", [json.dumps(values, indent=2).encode()])


def _refuse_difference(folder: Path, settings: dict[str, Any]) -> None:
    before = json.loads((folder / "run.json").read_text(encoding="utf-8"))[JOB]
    now = json.loads(json.dumps(settings))
    for key, was, wanted in differences({**before, "of": ""}, now | {"of": ""}):
        raise UserError(f"{folder} was begun with {key}={was}, not {wanted}: give that, or another folder")
