"""`innerworld train FAMILY`: a lesson from flags and `key=value` words, or the lesson of an interrupted run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

from innerworld import checkpoint
from innerworld.cli.preset import NO_PRESET, begin, begin_as, named
from innerworld.cli.settings import changed, last_row, refuse, refuse_difference, value_of
from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.cli.world import train_in_world
from innerworld.config import build
from innerworld.errors import UserError
from innerworld.families import FAMILIES, first_preset
from innerworld.learns import Learns
from innerworld.recipes.habits import habits
from innerworld.recipes.lesson import FREE_OF_LESSON, Lesson, read, teach
from innerworld.recipes.practice import is_practice
from innerworld.recipes.training_page import show_training
from innerworld.team import Agreed, launched, rank
from innerworld.training import FREE_ON_RESUME, Interrupted, Strategy, TrainConfig, launch, this_program


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Teach a family of world models or eyes from a store, or a family that acts in a world. `model.KEY=VALUE`,
    `train.KEY=VALUE`, and of a world `online.KEY=VALUE` change its settings; `innerworld train FAMILY --help` lists
    them."""

    family: tyro.conf.Positional[str | None] = None
    """a name of `innerworld models`"""
    out: Path
    """folder of the run: checkpoints, log.jsonl, run.json, train.html"""
    data: str | None = None
    """folder of the store; with --resume it is known"""
    env: str | None = None
    """the world to learn in, instead of --data: a name of `innerworld envs` or any Gymnasium id"""
    model: str | None = None
    """another way to say FAMILY and --preset, in one word: dreamer-v3"""
    preset: str | None = None
    """the settings to begin with, see `innerworld models FAMILY`: by default small, of eyes tiny; none: the family's
    defaults"""
    sensors: tuple[str, ...] = ()
    """what the model sees; by default all images, or all vectors where there are none"""
    init_from: str = ""
    """folder of a run whose weights, settings and sensors this one begins with, to go on learning from other data or
    with other settings; what is remembered of its training, such as the optimiser's averages, stays behind"""
    batch: int = 64
    """clips in a training step"""
    length: int = 12
    """actions in a clip; for eyes frames"""
    stages: tuple[str, ...] = ()
    """small and short clips first, instead of --length: BEGIN:LENGTH:SIZE for each stage, its first step, the clips'
    length and the pictures' side in pixels (without :SIZE as the store has them), such as 0:16:128 9000:64:256"""
    frame_skip: int = 1
    """steps joined into one"""
    held_out: float = 0.1
    """share of the episodes that is kept for judging"""
    split_seed: int = 0
    """seed of that split"""
    workers: int = 1
    """threads that read clips ahead; 0: none"""
    watch_sensor: str = "state"
    """vector that the collapse watch probes the features for; none: it does not probe"""
    devices: int = 1
    """processes that train together, one for each GPU; torchrun works, too"""
    strategy: Strategy = "ddp"
    """how they share: ddp, each has the whole model; fsdp, each has a part of it"""
    no_page: bool = False
    """do not write train.html at the end: curves, the collapse alarm, nearest neighbours, decoded pictures"""
    track: tuple[str, ...] = ()
    """trackers beside log.jsonl: tensorboard, trackio, wandb (extras: track, trackio)"""
    resume: bool = False
    """go on with the run in the folder, with its own settings; train.steps may grow"""


OF_LESSON = (
    "data",
    "sensors",
    "init_from",
    "batch",
    "length",
    "stages",
    "frame_skip",
    "held_out",
    "split_seed",
    *FREE_OF_LESSON,
)
"""Flags that are fields of the lesson, too."""


def _train(flags: TrainFlags, call: Call) -> Answer:
    family, preset = named(flags.family, flags.preset, flags.model)
    flags = replace(flags, family=family, preset=preset)
    if flags.env is not None or (flags.resume and is_practice(flags.out)):
        return train_in_world(flags, call)
    lesson = _lesson_to_resume(flags, call) if flags.resume else _lesson(flags, call)
    if flags.devices > 1 and not launched():
        if lesson.batch % flags.devices:
            raise UserError(f"--batch {lesson.batch} cannot be shared evenly by {flags.devices} processes")
        return Answer({}, lambda console: None, launch(this_program(call.words), flags.devices), told=False)
    began = time.perf_counter()
    with _first_one_speaks():
        model = teach(lesson, flags.out, call.quiet, flags.resume, call.command, flags.strategy, flags.track)
    seconds = time.perf_counter() - began
    page = _page(flags.out, call) if rank() == 0 and not flags.no_page else None
    return _answer(model, lesson, flags.out, seconds, page)


def _page(folder: Path, call: Call) -> Path | None:
    """What was learnt is safe by now: where it cannot be shown, a warning says why."""
    try:
        return show_training(folder, call.quiet, call.command)
    except UserError as error:
        logging.getLogger(__name__).warning("no train.html was written: %s", error)
        return None


@contextmanager
def _first_one_speaks() -> Iterator[None]:
    """Of several processes the others only speak when something happens to them alone."""
    if rank():
        logging.getLogger("innerworld").setLevel(logging.ERROR)
    try:
        yield
    except (Agreed, Interrupted) as error:
        if rank():
            raise SystemExit(error.code) from None
        raise


def _lesson(flags: TrainFlags, call: Call) -> Lesson:
    if flags.data is None:
        raise UserError(
            "missing --data: the folder of a store, as `innerworld collect` makes it; a family that acts may learn in "
            "a world instead, --env"
        )
    if strange := [word for word in call.overrides if word.startswith("online.")]:
        raise UserError(f"{strange[0]!r} is for a world, --env: from a store one does not learn online")
    if checkpoint.exists(flags.out):  # a run.json alone is a run that failed before it began
        raise UserError(f"{flags.out} already holds a run: continue it with --resume, or give another folder")
    if flags.stages and "length" in call.given:
        raise UserError("--stages says how long clips are: leave out --length")
    start, sensors = begin_as(str(flags.family), flags.preset, flags.init_from, flags.sensors)
    chosen = {name: value for name, value in vars(flags).items() if name in OF_LESSON} | {"sensors": sensors}
    model, train = changed({"model": start, "train": TrainConfig()}, call.overrides)
    return build(Lesson, {**chosen, "family": flags.family, "model": model.model_dump(mode="json"), "train": train})


def _lesson_to_resume(flags: TrainFlags, call: Call) -> Lesson:
    """The run's own lesson, with `train` as overridden. Raises `UserError` that names a flag or key that differs."""
    before = read(flags.out)
    if flags.family != before.family:
        raise UserError(f"{flags.out} is a run of {before.family}, not of {flags.family}")
    for name in OF_LESSON:
        was, given = before.model_dump()[name], vars(flags)[name]
        if name in call.given and was != given and name not in FREE_OF_LESSON:
            refuse(flags.out, f"--{name.replace('_', '-')}", was, given)
    own = build(FAMILIES[before.family].Config, before.model, f"{flags.out}: model")
    start = begin(before.family, flags.preset) if "preset" in call.given else own
    model, train = changed({"model": start, "train": before.train}, call.overrides)
    refuse_difference(flags.out, "model", own, model)
    refuse_difference(flags.out, "train", before.train, train, FREE_ON_RESUME)
    free = {name: vars(flags)[name] for name in FREE_OF_LESSON if name in call.given}
    return before.model_copy(update={"train": train, **free})


def _answer(model: Learns, lesson: Lesson, folder: Path, seconds: float, page: Path | None) -> Answer:
    values = {
        "run": str(folder),
        "family": lesson.family,
        "data": lesson.data,
        "sensors": list(model.spec.obs),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": lesson.train.steps,
        "seconds": round(seconds, 1),
        "last": last_row(folder / "log.jsonl"),
        "page": None if page is None else str(page),
    }

    def show(console: Console) -> None:
        say(console, f"{folder}: {lesson.family}, {values['parameters']} parameters, {lesson.train.steps} steps")
        say(console, "  ".join(f"{name} {value:.4g}" for name, value in values["last"].items() if value is not None))
        if page is not None:
            say(console, f"page: {page}")

    return Answer(values, show, told=rank() == 0)


def _settings(console: Console, words: Sequence[str]) -> None:
    """Every key of the family's configuration and of the training's; without a family, the way to them."""
    known = [word for word in words if not word.startswith("-")][:1]
    if not known:
        say(console, "\ninnerworld train FAMILY --help also lists the keys of that family and of the training.")
        return
    model = value_of(words, "--model")
    family, asked = named(None if model else known[0], value_of(words, "--preset"), model)
    preset = asked or first_preset(family) or NO_PRESET
    say(console, f"\nKeys, as key=value; defaults of {family} are those of --preset {preset}:\n")
    rows = field_rows(begin(family, preset), "model.")
    if FAMILIES[family].restarts and value_of(words, "--env"):
        online, train = habits(family, asked)
        show_table(console, FIELD, rows + field_rows(online, "online.") + field_rows(train, "train."))
        return
    show_table(console, FIELD, rows + field_rows(TrainConfig(), "train."))


TRAIN = Verb(TrainFlags, _train, takes_overrides=True, after_help=_settings)
