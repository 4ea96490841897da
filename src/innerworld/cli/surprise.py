"""`innerworld surprise RUN`: do impossible films surprise a taught model more than possible ones?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.data.intphys import read_intphys, read_intphys2
from innerworld.data.matched import Matched, PhysicsFilms
from innerworld.envs.physics.principles import PRINCIPLES
from innerworld.envs.physics.quadruplets import Dimensions
from innerworld.errors import UserError
from innerworld.evaluate.surprise import SurpriseConfig
from innerworld.recipes.surprise import judge_surprise, load_judged, side_of
from innerworld.training import choose_device

PHYSICS: dict[str, Dimensions] = {"physics": 2, "physics_3d": 3}


@dataclass(frozen=True)
class SurpriseFlags:
    """Show a taught model pairs of films, one possible and one impossible, and count how often the impossible one
    surprises it more; beside it random weights, and who expects the last frame again. Chance is 50 %. key=value changes
    how surprise is measured, whose settings are listed below."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train` makes it"""
    films: Literal["physics", "physics_3d", "intphys", "intphys2"] = "physics"
    """drawn by our own world (extra: physics; physics_3d: also mujoco), or read from a published benchmark's folder"""
    folder: Path | None = None
    """intphys: that of dev, or one block of it; intphys2: that of metadata.csv"""
    pairs: int = 400
    """physics: pairs of films of each principle"""
    principles: tuple[str, ...] = tuple(PRINCIPLES)
    """physics: which"""
    seed: int = 0
    """physics: of the films; also of the random weights"""
    frames: int | None = None
    """intphys, intphys2: frames of a film, spread evenly over it; None: all"""
    oracle: bool = False
    """physics: also judge one that knows the state and the law"""
    device: str = "auto"
    """auto, cpu, cuda or mps"""


def _surprise(flags: SurpriseFlags, call: Call) -> Answer:
    if flags.pairs < 2 or flags.seed < 0 or (flags.frames is not None and flags.frames < 2):
        raise UserError("--pairs and --frames are at least 2, --seed at least 0")
    if flags.oracle and flags.films not in PHYSICS:
        raise UserError("--oracle knows the physics films alone: leave out --films")
    config = override(SurpriseConfig(), call.overrides)
    model, frame_skip = load_judged(flags.run, choose_device(flags.device))
    matched = _films(flags, side_of(model), model.spec.images()[0])
    found = judge_surprise(model, matched, config, frame_skip, flags.seed, flags.oracle, call.quiet)
    values = {"run": str(flags.run), "films": flags.films, "settings": config.model_dump(mode="json"), "results": found}
    names = [*matched.counts(), "all"]
    others = [who for who in found if who != "model"]

    def show(console: Console) -> None:
        for kind, ending in (("pairs", ""), ("quadruplets", "_sum")):
            rows = [_row(found, name, kind, ending) for name in names]
            show_table(console, ("principle", kind, "model", "95 %", *others), rows)
            say(console)
        say(
            console,
            "share of pairs of films that begin alike, and of quadruplets, in which the impossible surprises more",
        )
        say(console, "chance is 50 %")

    return Answer(values, show)


def _films(flags: SurpriseFlags, size: int, sensor: str) -> Matched:
    if flags.films in PHYSICS:
        return PhysicsFilms((flags.pairs + 1) // 2, flags.principles, flags.seed, size, PHYSICS[flags.films])
    if flags.folder is None:
        raise UserError(f"--films {flags.films} is read from a folder: give it as --folder")
    read = read_intphys if flags.films == "intphys" else read_intphys2
    return replace(read(flags.folder, size, flags.frames), sensor=sensor)


def _row(found: dict[str, dict[str, float]], name: str, kind: str, ending: str) -> list[str]:
    """How many, the model's share with its interval, then the shares of the others."""
    mine, *others = found.values()
    share = name + ending
    interval = f"{mine[f'{share}_low']:.1%} to {mine[f'{share}_high']:.1%}"
    shares = [f"{mine[share]:.1%}", interval, *(f"{other[share]:.1%}" for other in others)]
    return [name, f"{mine[f'{name}_{kind}']:,.0f}", *shares]


def _settings(console: Console, words: Sequence[str]) -> None:
    say(console, "\nKeys, as key=value:\n")
    show_table(console, FIELD, field_rows(SurpriseConfig()))


SURPRISE = Verb(SurpriseFlags, _surprise, takes_overrides=True, after_help=_settings)
