"""`innerworld train FAMILY`: a lesson from flags and `key=value` words, or the lesson of an interrupted run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from pydantic import create_model
from rich.console import Console

from innerworld import checkpoint
from innerworld.cli.preset import NO_PRESET, begin
from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import Config, build, dotted, override
from innerworld.errors import UserError, choose
from innerworld.families import FAMILIES, first_preset
from innerworld.learns import Learns
from innerworld.recipes.lesson import FREE_OF_LESSON, Lesson, read, teach
from innerworld.recipes.training_page import show_training
from innerworld.team import Agreed, launched, rank
from innerworld.training import FREE_ON_RESUME, Interrupted, Strategy, TrainConfig, launch, this_program


@dataclass(frozen=True)
class TrainFlags:
    """Teach a family of world models or eyes from a store. `model.KEY=VALUE` and `train.KEY=VALUE` change its
    settings; `innerworld train FAMILY --help` lists them."""

    family: tyro.conf.Positional[str]
    """a name of `innerworld models`"""
    out: Path
    """folder of the run: checkpoints, log.jsonl, run.json, train.html"""
    data: str | None = None
    """folder of the store; with --resume it is known"""
    preset: str | None = None
    """the settings to begin with, see `innerworld models FAMILY`: by default small, of eyes tiny; none: the family's
    defaults"""
    sensors: tuple[str, ...] = ()
    """what the model sees; by default all images, or all vectors where there are none"""
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


OF_LESSON = ("data", "sensors", "batch", "length", "stages", "frame_skip", "held_out", "split_seed", *FREE_OF_LESSON)
"""Flags that are fields of the lesson, too."""


def _train(flags: TrainFlags, call: Call) -> Answer:
    choose("family", flags.family, FAMILIES)
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
        raise UserError("missing --data: the folder of a store, as `innerworld collect` makes it")
    if checkpoint.exists(flags.out):  # a run.json alone is a run that failed before it began
        raise UserError(f"{flags.out} already holds a run: continue it with --resume, or give another folder")
    if flags.stages and "length" in call.given:
        raise UserError("--stages says how long clips are: leave out --length")
    model, train = _changed(begin(flags.family, flags.preset), TrainConfig(), call.overrides)
    chosen = {name: value for name, value in vars(flags).items() if name in OF_LESSON}
    return build(Lesson, {**chosen, "family": flags.family, "model": model.model_dump(mode="json"), "train": train})


def _lesson_to_resume(flags: TrainFlags, call: Call) -> Lesson:
    """The run's own lesson, with `train` as overridden. Raises `UserError` that names a flag or key that differs."""
    before = read(flags.out)
    if flags.family != before.family:
        raise UserError(f"{flags.out} is a run of {before.family}, not of {flags.family}")
    for name in OF_LESSON:
        was, given = before.model_dump()[name], vars(flags)[name]
        if name in call.given and was != given and name not in FREE_OF_LESSON:
            _refuse(flags.out, f"--{name.replace('_', '-')}", was, given)
    own = build(FAMILIES[before.family].Config, before.model, f"{flags.out}: model")
    start = begin(flags.family, flags.preset) if "preset" in call.given else own
    model, train = _changed(start, before.train, call.overrides)
    _refuse_difference(flags.out, "model", own, model)
    _refuse_difference(flags.out, "train", before.train, train)
    free = {name: vars(flags)[name] for name in FREE_OF_LESSON if name in call.given}
    return before.model_copy(update={"train": train, **free})


def _changed(model: Config, train: TrainConfig, words: list[str]) -> tuple[Config, TrainConfig]:
    """Both with the overrides applied; they are one configuration here, so that errors name the whole key."""
    kind = create_model("Settings", __base__=Config, model=(type(model), model), train=(TrainConfig, train))
    settings = kind()
    for word in words:
        key = word.partition("=")[0]
        for whole in dotted(settings):
            if whole.partition(".")[2] == key:
                raise UserError(f"unknown key {key!r}. Did you mean {whole!r}?")
    parts = dict(override(settings, words))
    return parts["model"], parts["train"]


def _refuse_difference(folder: Path, part: str, before: Config, now: Config) -> None:
    old, new = before.model_dump(), now.model_dump()
    for key in old:
        if old[key] != new[key] and not (part == "train" and key in FREE_ON_RESUME):
            _refuse(folder, f"{part}.{key}", old[key], new[key])


def _refuse(folder: Path, name: str, was: Any, given: Any) -> None:
    raise UserError(f"{folder} was begun with {name} {was}, not {given}: leave out {name}, or begin a new run")


def _answer(model: Learns, lesson: Lesson, folder: Path, seconds: float, page: Path | None) -> Answer:
    values = {
        "run": str(folder),
        "family": lesson.family,
        "data": lesson.data,
        "sensors": list(model.spec.obs),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": lesson.train.steps,
        "seconds": round(seconds, 1),
        "last": _last_row(folder / "log.jsonl"),
        "page": None if page is None else str(page),
    }

    def show(console: Console) -> None:
        say(console, f"{folder}: {lesson.family}, {values['parameters']} parameters, {lesson.train.steps} steps")
        say(console, "  ".join(f"{name} {value:.4g}" for name, value in values["last"].items() if value is not None))
        if page is not None:
            say(console, f"page: {page}")

    return Answer(values, show, told=rank() == 0)


def _last_row(log: Path) -> dict[str, Any]:
    lines = log.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[-1]) if lines else {}
    return {name: value for name, value in row.items() if name not in ("step", "time")}


def _settings(console: Console, words: Sequence[str]) -> None:
    """Every key of the family's configuration and of the training's; without a family, the way to them."""
    known = [word for word in words if not word.startswith("-")][:1]
    if not known:
        say(console, "\ninnerworld train FAMILY --help also lists the keys of that family and of the training.")
        return
    family = known[0]
    choose("family", family, FAMILIES)
    preset = _preset(words) or first_preset(family) or NO_PRESET
    say(console, f"\nKeys, as key=value; defaults of {family} are those of --preset {preset}:\n")
    show_table(console, FIELD, field_rows(begin(family, preset), "model.") + field_rows(TrainConfig(), "train."))


def _preset(words: Sequence[str]) -> str | None:
    """The preset that is asked for beside --help."""
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == "--preset" or word.startswith("--preset="):
            return word.partition("=")[2] or value
    return None


TRAIN = Verb(TrainFlags, _train, takes_overrides=True, after_help=_settings)
