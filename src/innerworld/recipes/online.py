"""`practise`: teach a family to act in a world, while it lives there: one training loop, one replay of bounded size."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import torch

from innerworld import checkpoint, envs, families
from innerworld.config import build, differences
from innerworld.data.columns import Kind, told
from innerworld.data.draws import COUNT
from innerworld.data.lives import Lives
from innerworld.data.ring import Ring, row_bytes
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.lock import lock
from innerworld.log import Bar, JsonLines, Log, Row, tee, tracker
from innerworld.recipes.acting import Dreams, check_acts
from innerworld.recipes.living import Examiner, Living, Units
from innerworld.recipes.practice import Practice, read_practice
from innerworld.recipes.whereabouts import absolute, seen_from
from innerworld.team import launched
from innerworld.training import FREE_ON_RESUME, train
from innerworld.types import Spec
from innerworld.version import VERSION
from innerworld.world import WorldModel

REPLAY = "replay"
EXAMINED = 8  # worlds of an evaluation, at most
APART = 1_000_003  # from the seed of the worlds that are learnt in to that of an evaluation's
SHOWN = ("loss", "return", "eval_return", "agent_steps")
OF_DREAMS = {"return": "imagined_return", "length": "imagined_length"}
NUMBER = 4  # bytes; each parameter has a gradient and two averages of the optimiser beside it
FREE = ("ratio", "eval_every", "eval_episodes", "eval_sampled", "parallel", "timeout_s", "restarts")
"""What may change in `online` when a practice goes on, beside `FREE_ON_RESUME`."""
logger = logging.getLogger(__name__)


def practise(
    practice: Practice,
    folder: Path,
    quiet: bool = False,
    resume: bool = False,
    command: str = "",
    track: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> WorldModel:
    """Teach what the practice says into `folder` (checkpoints, `log.jsonl`, `run.json`, `replay/`), return the model.

    `tell` is told at the start what it takes in memory and on the disk. With `resume` an interrupted practice goes on
    with its weights, units and replay; the episodes that were under way are lost. Worlds cannot be saved, so that it
    then lives otherwise than it would have. Raises `UserError`, having saved what was learnt and lived: for a world
    that fails, changes its sensors or gives numbers that are not finite, and a full disk; and at once for a family
    that has no policy, a replay larger than the disk, and a folder of another run.
    """
    _check(practice, folder, resume)
    online, config = practice.online, practice.train
    with ExitStack() as open_ones:
        worlds = open_ones.enter_context(closing(online.make(online.envs)))
        whole = envs.spec_of(worlds.single_observation_space, worlds.single_action_space)
        spec = whole.only(*online.seen())
        torch.manual_seed(config.seed)  # for the first weights; training seeds itself
        model, _ = check_acts(families.build(practice.family, practice.model, spec))
        if practice.init_from and not checkpoint.exists(folder):
            checkpoint.init_from(practice.init_from, model)
        practice = _settled(practice, model, spec)
        needs = _needs(practice, model, spec)
        tell(needs)
        with lock(folder, "run"):
            at = _note(practice, folder, resume, {"command": command, "needs": needs})
            ring = _ring(practice, folder, model, spec, at)
        open_ones.callback(ring.close)
        units = Units(
            online.action_repeat,
            int(worlds.metadata.get("frames_per_step", online.action_repeat)),
            int(ring.noted.get("agent_steps", 0)),
            int(ring.noted.get("episodes", 0)),
        )
        living = Living(model, partial(Lives, worlds, whole, config.seed), ring, practice, units)
        watch = _examiner(living, practice, whole, open_ones)
        lines = open_ones.enter_context(JsonLines(folder / "log.jsonl"))
        tracked = open_ones.enter_context(tracker(track, folder, practice.model_dump(mode="json")))
        bar = open_ones.enter_context(Bar(config.steps, quiet, title=f"train {practice.family}", shown=SHOWN))
        # Every step asks whether an evaluation is due, for the best checkpoint is to be the one that was evaluated.
        config = config.model_copy(update={"check_every": 1})
        try:
            told = _telling(living, tee(lines, bar, tracked))
            train(model, living, config, folder, told, watch, resume, taught=bool(practice.init_from))
        finally:
            _save(living, folder)
        if living.fault is not None:
            raise living.fault
    return model


# ---------------------------------------------------------------------- before it begins


def _check(practice: Practice, folder: Path, resume: bool) -> None:
    train = practice.train
    if launched():
        raise UserError("learning in a world works in one process: leave out --devices and the launcher")
    if train.micro_batch or train.on_memory == "halve":
        raise UserError(
            "learning in a world computes a whole batch at once: leave out train.micro_batch and "
            "train.on_memory, or take a smaller online.batch"
        )
    if not resume and checkpoint.exists(folder):
        raise UserError(f"{folder} already holds a run: continue it with --resume, or give another folder")


def _settled(practice: Practice, model: WorldModel, spec: Spec) -> Practice:
    """With what followed from the world and from the model, so that it is the same when the practice goes on."""
    online = practice.online.model_copy(update={"sensors": tuple(spec.obs), "capacity": practice.capacity(spec)})
    same = model.config == build(type(model).Config, practice.model, "model")
    settings = practice.model if same else model.config.model_dump(mode="json")
    return practice.model_copy(update={"online": online, "model": settings})


def _needs(practice: Practice, model: WorldModel, spec: Spec) -> str:
    """What it takes, before any of it is taken."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = practice.online.capacity or 0
    row = row_bytes(spec, _belief(model, spec))
    held = "none of it in memory" if practice.online.rarity is None else f"{told(rows * COUNT.itemsize)} in memory"
    dreams = ""
    if isinstance(model, Dreams):
        starts, horizon, size = model.imagination(practice.online.batch, practice.online.length)
        dreams = f"; imagination: {starts:,} times {horizon} steps, {told(size)}"
    return (
        f"replay: {rows:,} moments of {row:,} bytes, {told(rows * row)} on the disk, {held}; "
        f"model: {parameters:,} parameters, {told(4 * NUMBER * parameters)} with gradients and optimiser{dreams}"
    )


def _note(practice: Practice, folder: Path, resume: bool, about: Mapping[str, str]) -> int | None:
    """Write `run.json`; the step from which the run goes on, where it does. Raises `UserError` for another practice."""
    at = None
    if resume and (folder / "run.json").exists():
        _refuse_difference(read_practice(folder), practice, folder)
        at = checkpoint.read_header(folder).step if checkpoint.exists(folder) else None
    versions = {"innerworld": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    noted = {**about, "versions": versions, "practice": seen_from(practice, folder).model_dump(mode="json")}
    write_atomic(folder / "run.json", [json.dumps(noted, indent=2).encode()])
    return at


def _refuse_difference(before: Practice, now: Practice, folder: Path) -> None:
    free = {*(f"online.{name}" for name in FREE), *(f"train.{name}" for name in FREE_ON_RESUME)}
    old, new = (absolute(each).model_dump(mode="json") for each in (before, now))
    for key, was, wanted in differences(old, new, free):
        raise UserError(f"{folder} was begun with {key}={was}, not {wanted}: give that, or another folder")


def _ring(practice: Practice, folder: Path, model: WorldModel, spec: Spec, at: int | None) -> Ring:
    online = practice.online
    rows, belief = online.capacity or 0, _belief(model, spec)
    ring = Ring(folder / REPLAY, spec, belief, online.envs, rows, online.length, at, online.rarity)
    if at and ring.noted_at != at:  # as for a checkpoint that a signal asked for, and a kill after it
        since = "the beginning" if ring.noted_at is None else f"step {ring.noted_at}"
        logger.warning(
            "%s was not noted at step %d, of which the weights are: what was lived since %s is forgotten, and "
            "env_steps and its like count on from there",
            folder / REPLAY,
            at,
            since,
        )
    return ring


@torch.no_grad()
def _belief(model: WorldModel, spec: Spec) -> dict[str, Kind]:
    """What a packed belief is made of, as that of nothing seen shows."""
    packed = model.packed(model.encode(spec.blank()))
    return {name: Kind(tuple(value.shape[1:]), str(value.numpy().dtype)) for name, value in packed.items()}


def _examiner(living: Living, practice: Practice, spec: Spec, open_ones: ExitStack) -> Examiner | None:
    """In worlds of its own, whose episodes are others than those that are learnt from."""
    online = practice.online
    if not online.eval_every:
        return None
    worlds = open_ones.enter_context(closing(online.make(min(EXAMINED, online.eval_episodes))))
    return Examiner(living, partial(Lives, worlds, spec, practice.train.seed + APART), practice.train.steps)


# ---------------------------------------------------------------------- while it goes on, and after


def _telling(living: Living, log: Log) -> Log:
    """Let every row of the log say how much was lived; `return` is that of episodes, not of dreams."""

    def tell(step: int, row: Row) -> None:
        dreamt = {OF_DREAMS.get(name, name): value for name, value in row.items()}
        log(step, dreamt | living.told())

    return tell


def _save(living: Living, folder: Path) -> None:
    """Beside the last checkpoint, whatever ended the training: that is told, not what stops this."""
    try:
        if checkpoint.exists(folder):
            living.save(checkpoint.read_header(folder).step)
    except UserError as error:
        logger.warning("%s; what was lived since the last checkpoint will be forgotten", error)
