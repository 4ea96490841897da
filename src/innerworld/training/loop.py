"""The one training loop: it knows `model.loss` and `model.after_step`, stops before a bad step, and resumes exactly."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.learns import L
from innerworld.log import Log, silent
from innerworld.team import Team, join, noticing
from innerworld.training.config import TrainConfig, choose_device
from innerworld.training.heap import keep_freed_memory
from innerworld.training.keeper import Keeper
from innerworld.training.learner import Learner, Measured
from innerworld.training.parallel import Strategy, gathered, norms_of_all
from innerworld.training.requests import Requests, requests
from innerworld.types import Clip

Watch = Callable[[], Mapping[str, float]]


class Clips(Protocol):
    """Experience to learn from: a pure function of the step, so that a resumed run needs no sampler's state."""

    def batch(self, step: int) -> Clip: ...


@runtime_checkable
class Parted(Protocol):
    """Clips that read only some rows of a batch, for one process of many."""

    size: int

    def rows(self, step: int, start: int, stop: int) -> Clip: ...


@runtime_checkable
class Traceable(Protocol):
    """Clips that say where each row of a batch comes from."""

    def origin(self, step: int) -> Sequence[object]: ...


class Interrupted(UserError):
    """Stopped by Ctrl-C or SIGTERM between two steps; `code` is the exit status that shells expect."""

    def __init__(self, step: int, saved: bool, number: int) -> None:
        hint = "continue with --resume" if saved else "nothing was saved, for there was no folder to save to"
        super().__init__(f"interrupted at step {step}: {hint}")
        self.code = 128 + number


def train(
    model: L,
    clips: Clips,
    config: TrainConfig,
    folder: Path | str | None = None,
    log: Log = silent,
    watch: Watch | None = None,
    resume: bool = False,
    strategy: Strategy = "ddp",
    taught: bool = False,
) -> L:
    """Train `model` on `clips` and return it, in eval mode; checkpoints go to `folder`, progress to `log`.

    `watch` is called every `check_every` steps and its numbers join the log. With `resume` the run in `folder`
    continues, on the CPU bit for bit as if it had never stopped. A model that was `taught` before is not prepared anew.
    Where a launcher such as torchrun started several processes, each computes its rows of every batch, by `strategy`;
    after fsdp the returned model is spread, so load it from `folder`. Raises `UserError` for a loss or gradient that is
    not finite (before the weights take it), a device that is not here, a folder that holds another run, a full disk,
    and `Interrupted` after Ctrl-C or SIGTERM, having saved. What `clips` raise comes out as it is, alone after what was
    learnt has been saved.
    """
    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    with join(device.type) as team, norms_of_all(model, team), requests() as asked:
        with team.together():
            learner = Learner(model, config, team, strategy, _own(device, team), taught)
        keeper = Keeper(Path(folder) if folder is not None else None, learner)
        with keeper.holding(resume):
            _run(learner, keeper, clips, log, watch, resume, asked)
    return model.eval()


def _run(
    learner: Learner, keeper: Keeper, clips: Clips, log: Log, watch: Watch | None, resume: bool, asked: Requests
) -> None:
    """The loop. All processes pass through it in step: they agree once in each, before the weights change."""
    config, team = learner.config, learner.team
    for step in range(keeper.begin(resume), config.steps):
        clip = _next(clips, step, team, keeper, asked)
        if step == 0:
            learner.prepare(clip)
        measured = learner.measure(step, clip)
        with noticing(team, step):
            stop, save, bad, trouble = team.highest(*asked.look(), not measured.finite, keeper.troubled)
        rate = 0.0
        if bad:
            _refuse(step, learner, keeper, clips, clip, measured)
            learner.reject()
        else:
            rate = learner.apply(step, measured)
            keeper.skipped = 0
        values = {"loss": measured.loss, "grad_norm": measured.norm, "lr": rate, **measured.parts}
        stop = _report(step, {} if bad else values, learner, keeper, log, watch) or stop
        if trouble:
            keeper.settle()
        last = step + 1 == config.steps
        if last or save or (step + 1) % config.save_every == 0:
            asked.save = 0
            keeper.save(step + 1, wait=last)
        if team.alone:
            stop = asked.look()[0] or stop  # also what came since
        if stop and not last:
            _leave(step + 1, keeper, stop)


def _own(device: torch.device, team: Team) -> torch.device:
    """One accelerator for each process on a machine."""
    if device.type != "cuda" or team.alone:
        return device
    if team.local >= torch.cuda.device_count():
        raise UserError(f"process {team.local} has no cuda device: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(team.local)
    return torch.device("cuda", team.local)


def _next(clips: Clips, step: int, team: Team, keeper: Keeper, asked: Requests) -> Clip:
    """This process's rows of the batch. What comes out of the reading, Ctrl-C too, finds the weights of whole steps."""
    try:
        if team.alone:
            return clips.batch(step)
        if isinstance(clips, Parted):
            rows = team.share(clips.size, "clips of a batch")
            return clips.rows(step, rows.start, rows.stop)
        clip = clips.batch(step)
        return clip.rows(team.share(len(clip.action), "clips of a batch"))
    except KeyboardInterrupt:
        if not team.alone:
            raise
        asked.stop = asked.stop or signal.SIGINT
    except Exception:
        if team.alone:  # of many, the others are already waiting for this one in the next step
            _rescue(step, keeper)
        raise
    _leave(step, keeper, asked.stop)
    raise AssertionError


def _rescue(step: int, keeper: Keeper) -> None:
    """Save what was learnt where there are no clips to go on with; what stops that is told, but not instead of it."""
    try:
        _save_now(step, keeper)
    except UserError as error:
        keeper.warn("%s", error)


def _leave(step: int, keeper: Keeper, number: int) -> None:
    """Save and stop."""
    _save_now(step, keeper)
    raise Interrupted(step, keeper.folder is not None, number)


def _save_now(step: int, keeper: Keeper) -> None:
    """Save, unless that has just been done, and wait until it is on the disk."""
    if keeper.saved != step:
        keeper.save(step)
    keeper.settle(last=True)


def _refuse(step: int, learner: Learner, keeper: Keeper, clips: Clips, clip: Clip, measured: Measured) -> None:
    """Say what was not finite, and in which clips; stop, unless such steps may be skipped and it is not yet too often.

    Raises `UserError`.
    """
    config = learner.config
    keeper.skipped += 1
    what = f"step {step}: {learner.what_is_not_finite(clip, measured)} is not finite"
    if isinstance(clips, Traceable):
        what += f" (clips: {', '.join(map(str, clips.origin(step)))})"
    if config.on_nonfinite == "stop" or keeper.skipped > config.max_skips:
        often = f", the {keeper.skipped}th in a row" if keeper.skipped > 1 else ""
        raise UserError(
            f"{what}{often}. The weights are still those before this step, checkpoints are kept: lower lr or mend the "
            "data"
        )
    keeper.warn("%s: skipped, %d in a row", what, keeper.skipped)


def _report(
    step: int, measured: Mapping[str, Tensor | float], learner: Learner, keeper: Keeper, log: Log, watch: Watch | None
) -> int:
    """Log what is due, means over all processes. An interrupt in here becomes a request: the step is taken already."""
    config, team = learner.config, learner.team
    last = step + 1 == config.steps
    row: dict[str, float] = {}
    try:
        if measured and (last or step % config.log_every == 0):
            row |= zip(measured, team.mean([_number(value) for value in measured.values()]), strict=True)
        if watch is not None and (last or step % config.check_every == 0) and (team.rank == 0 or learner.sharded):
            with gathered(learner.loss, learner.strategy, team):
                row |= watch()
        keeper.note(step, row)
        if row and team.rank == 0:
            log(step, row)
    except KeyboardInterrupt:
        if not team.alone:
            raise
        return signal.SIGINT
    return 0


def _number(value: Tensor | float) -> float:
    return value.detach().item() if isinstance(value, Tensor) else value
