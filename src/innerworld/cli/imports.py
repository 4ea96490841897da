"""`innerworld import KIND PATH`: a store of experience from a log that others recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from innerworld.cli.collect import contents, show_contents
from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.data.importers import IMPORTERS, bring_in, guess
from innerworld.errors import UserError, choose
from innerworld.log import progress

AUTO = "auto"


@dataclass(frozen=True)
class ImportFlags:
    """Make a store of experience from a log that others recorded. KEY=VALUE words say how to read it;
    `innerworld import KIND --help` lists them."""

    kind: tyro.conf.Positional[str]
    """what the log is: a name from the list below, or auto to find out"""
    path: tyro.conf.Positional[Path]
    """the log: a file or a folder"""
    out: Path
    """folder of the store"""
    frames: Literal["raw", "zstd", "jpeg"] = "raw"
    """how pictures are packed: raw reads fastest, zstd loses nothing, jpeg is smallest"""
    skip_bad: bool = False
    """leave out episodes that cannot be used, and say which; without, the first of them stops the import"""


def _import(flags: ImportFlags, call: Call) -> Answer:
    if not flags.path.exists():
        raise UserError(f"there is no {flags.path}")
    kind = guess(flags.path) if flags.kind == AUTO else flags.kind
    importer = choose("kind of log", kind, IMPORTERS)
    config = override(importer.config(), call.overrides)
    began = time.perf_counter()
    opened = importer.open(flags.path, config)
    about = opened.about.model_copy(update={"more": {**opened.about.more, "command": call.command}})
    recording = replace(opened, about=about)
    total = len(recording.episodes[: config.limit])
    with progress(f"import {kind}", total, call.quiet) as shown:
        store, skipped = bring_in(
            recording, flags.out, config, "skip" if flags.skip_bad else "stop", shown, flags.frames
        )
    seconds = time.perf_counter() - began
    values = contents(store) | {
        "kind": kind,
        "skipped": skipped,
        "seconds": round(seconds, 1),
        "frames_per_s": round(store.frames / seconds, 1),
    }

    def show(console: Console) -> None:
        if flags.kind == AUTO:
            say(console, f"{flags.path} was read as {kind}")
        show_contents(console, values)
        sensors = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in store.spec.obs.items())
        say(console, f"{sensors}; {_action(store.spec.action, store.spec.discrete)}")
        say(console, f"{store.frames} frames in {seconds:.1f} s, {values['frames_per_s']:.0f} per second")
        for reason in skipped:
            say(console, f"skipped {reason}")

    return Answer(values, show)


def _action(size: int, discrete: bool) -> str:
    if not size:
        return "no actions"
    return f"{size} choices" if discrete else f"action {size}"


def _kinds(console: Console, words: Sequence[str]) -> None:
    """The kinds there are; after one of them, its keys."""
    known = [word for word in words if not word.startswith("-")][:1]
    if not known or known == [AUTO]:
        say(console, "\nKinds:\n")
        show_table(console, ("kind", "log"), [(name, importer.about) for name, importer in IMPORTERS.items()])
        say(console, "\ninnerworld import KIND --help lists the keys of that kind.")
        return
    importer = choose("kind of log", known[0], IMPORTERS)
    say(console, f"\n{known[0]}: {importer.about}. Keys, as key=value:\n")
    show_table(console, FIELD, field_rows(importer.config()))


IMPORT = Verb(ImportFlags, _import, takes_overrides=True, after_help=_kinds)
