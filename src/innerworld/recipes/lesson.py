"""A lesson: one family taught from one store, as one frozen value that is kept in `run.json` and can be repeated."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from innerworld import checkpoint, families
from innerworld.config import Config, build, differences
from innerworld.data import Clips, Staged, Store, split
from innerworld.data.clips.prefetch import Prefetched
from innerworld.data.clips.sampler import Sampler
from innerworld.disk import write_atomic
from innerworld.errors import UserError, choose
from innerworld.evaluate.collapse import CollapseWatch
from innerworld.learns import Learns
from innerworld.lock import lock
from innerworld.log import Bar, JsonLines, silent, tee, tracker
from innerworld.recipes.growing import check_growth, staged, tell_stage
from innerworld.recipes.whereabouts import absolute, found_from, seen_from
from innerworld.team import join
from innerworld.training import FREE_ON_RESUME, Strategy, TrainConfig, choose_device, train
from innerworld.types import Spec
from innerworld.version import VERSION

WATCHED = 64  # held-out clips that the collapse watch looks at
AHEAD = 2  # batches that are read before they are needed
FREE_OF_LESSON = ("workers", "watch_sensor")
"""What may change when a lesson goes on, beside `FREE_ON_RESUME`: it does not change what is learnt."""


class Lesson(Config):
    """What is taught, from what, and how."""

    family: str = Field(default="jepa", description="name in the registry of world models and eyes")
    data: str = Field(default="data", description="folder of the store")
    sensors: tuple[str, ...] = Field(default=(), description="what the model sees; none: all images, else all vectors")
    held_out: float = Field(default=0.1, description="share of episodes kept for judging", gt=0, lt=1)
    split_seed: int = Field(default=0, description="seed of that split", ge=0)
    batch: int = Field(default=64, description="clips in a training step", ge=1)
    length: int = Field(default=12, description="actions in a clip; for eyes frames", ge=1)
    stages: tuple[str, ...] = Field(
        default=(), description="BEGIN:LENGTH:SIZE each: clips of that length and size from that step on; none: alike"
    )
    frame_skip: int = Field(default=1, description="steps joined into one, their actions concatenated", ge=1)
    workers: int = Field(default=1, description="threads that read clips ahead; 0: none", ge=0)
    watch_sensor: str = Field(
        default="state",
        description="vector that the collapse watch probes for; state: where there is one; none: nothing",
    )
    init_from: str = Field(default="", description="the run whose weights it begins with; empty: they are drawn")
    model: dict[str, Any] = Field(default={}, description="the family's configuration")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")


def teach(
    lesson: Lesson,
    folder: Path,
    quiet: bool = False,
    resume: bool = False,
    command: str = "",
    strategy: Strategy = "ddp",
    track: Sequence[str] = (),
) -> Learns:
    """Train what the lesson says into `folder` (checkpoints, `log.jsonl`, `run.json`) and return the model.

    `track` names trackers (`innerworld.log.TRACKERS`) that are told what `log.jsonl` is told.

    With `resume` an interrupted lesson goes on where it stopped; one that is done is only loaded. In processes that a
    launcher started, all must call it, and the first one writes. Raises `UserError`, among others when `folder` holds
    a different lesson.
    """
    device = choose_device(lesson.train.device)
    with join(device.type) as team, ExitStack() as open_ones:
        bar = silent  # shown from here on, for a large store takes its time
        if team.rank == 0:
            bar = open_ones.enter_context(Bar(lesson.train.steps, quiet, title=f"train {lesson.family}"))
        with team.together():
            store = Store.open(lesson.data)
            learn, judge = episodes(lesson, store)
            spec = seen(lesson, store)
            clips = _clips(lesson, store, learn, lesson.batch, list(spec.obs))
            if not resume and checkpoint.exists(folder):
                raise UserError(f"{folder} already holds a run: continue it with --resume, or give another folder")
            torch.manual_seed(lesson.train.seed)  # for the first weights; training seeds itself
            model = families.build(lesson.family, lesson.model, clips.spec)
            if lesson.init_from and not checkpoint.exists(folder):
                checkpoint.init_from(lesson.init_from, model)
            if isinstance(clips, Staged):
                check_growth(model, lesson.stages, clips)
            elif (sensors := model.reads(store.spec)) != list(spec.obs):
                clips = _clips(lesson, store, learn, lesson.batch, sensors)
            lesson = _settled(lesson, model)
            watch = watch_of(model, lesson, store, judge)
            part = team.share(lesson.batch, "clips of a batch (--batch)")
            if team.rank == 0:
                with lock(folder, "run"):
                    _note(lesson, folder, resume, command)
        ready = Prefetched(clips, AHEAD, lesson.workers, device, (part.start, part.stop)) if lesson.workers else None
        source = open_ones.enter_context(ready) if ready is not None else clips
        log = silent
        if team.rank == 0:
            lines = open_ones.enter_context(JsonLines(folder / "log.jsonl"))
            tracked = open_ones.enter_context(tracker(track, folder, lesson.model_dump(mode="json")))
            log = tee(lines, bar, tracked)
            log = tell_stage(log, clips) if isinstance(clips, Staged) else log
        return train(model, source, lesson.train, folder, log, watch, resume, strategy, taught=bool(lesson.init_from))


def read(folder: Path | str) -> Lesson:
    """The lesson that a run's folder was taught. Raises `UserError` when it holds none."""
    path = Path(folder) / "run.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run: there is no {path.name} in it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"cannot read {path}: it is not a JSON object")
    if "lesson" not in values:
        raise UserError(f"{folder} learnt in a world, not from a store: watch it with play, judge it with evaluate")
    taught = build(Lesson, values["lesson"], str(path))
    return found_from(taught, path.parent)


def episodes(lesson: Lesson, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Which episodes are learnt from, and which are held out."""
    return split(store, lesson.held_out, lesson.split_seed)


def seen(lesson: Lesson, store: Store) -> Spec:
    """The store's spec through the lesson's sensors. Raises `UserError`, also for tokens that eyes made of images."""
    spec = store.spec.only(*(lesson.sensors or store.spec.images() or store.spec.vectors()))
    for sensor, shape in spec.obs.items():
        if len(shape) == 2:
            image = sensor.partition("@")[0]
            raise UserError(f"{sensor!r} are tokens of {image!r}: name that, tokens are found by the eyes they are of")
    return spec


def actions(lesson: Lesson) -> int:
    """How many actions are in the lesson's clips. Raises `UserError` for an unknown family, or too short a clip."""
    return choose("family", lesson.family, families.FAMILIES).actions_in(lesson.length)


def _clips(lesson: Lesson, store: Store, among: np.ndarray, batch: int, sensors: list[str] | None) -> Sampler:
    """Clips of these episodes, of one length and size or in stages."""

    def cut(length: int) -> Clips:
        t = actions(lesson.model_copy(update={"length": length}))
        return Clips(store, among, t, batch, lesson.train.seed, lesson.frame_skip, sensors)

    if not lesson.stages:
        return cut(lesson.length)
    return staged(lesson.stages, lesson.train.steps, cut, list(seen(lesson, store).obs))


def _settled(lesson: Lesson, model: Learns) -> Lesson:
    """With what the model made of its settings, if that is more than they say: the weights that it began with may be
    gone when the lesson goes on, and are in its checkpoints."""
    if model.config == build(type(model).Config, lesson.model, "model"):
        return lesson
    return lesson.model_copy(update={"model": model.config.model_dump(mode="json")})


def watch_of(model: Learns, lesson: Lesson, store: Store, judge: np.ndarray) -> CollapseWatch:
    """Of held-out clips with all the store's sensors, so that a probe may read the state that the model never sees."""
    held = _clips(lesson, store, judge, WATCHED, None)
    held = held.parts[-1] if isinstance(held, Staged) else held  # one kind of clip all the time, or it shows the change
    lacks_state = lesson.watch_sensor == "state" and len(store.spec.obs.get("state", ())) != 1
    return CollapseWatch(
        model, held.batch(0), None if lacks_state or lesson.watch_sensor == "none" else lesson.watch_sensor
    )


def _note(lesson: Lesson, folder: Path, resume: bool, command: str) -> None:
    if resume and (folder / "run.json").exists():
        _refuse_difference(read(folder), lesson, folder)
    folder.mkdir(parents=True, exist_ok=True)
    versions = {"innerworld": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    noted = seen_from(lesson, folder).model_dump(mode="json")
    text = json.dumps({"command": command, "versions": versions, "lesson": noted}, indent=2)
    write_atomic(folder / "run.json", [text.encode()])


def _refuse_difference(before: Lesson, now: Lesson, folder: Path) -> None:
    old, new = (absolute(each).model_dump(mode="json") for each in (before, now))
    free = {*FREE_OF_LESSON, *(f"train.{name}" for name in FREE_ON_RESUME)}
    for key, was, wanted in differences(old, new, free):
        raise UserError(f"{folder} was begun with {key}={was}, not {wanted}: give that, or another folder")
