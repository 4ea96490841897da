"""`innerworld evolve RUN`: a linear controller for a taught model, evolved in its dream or in its world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from innerworld.cli.table import FIELD, field_rows, say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import override
from innerworld.errors import UserError, choose
from innerworld.recipes.evolution import PRESETS, Evolution, evolve_run
from innerworld.training import choose_device

SHOWN = ("return", "return_std", "episodes")


@dataclass(frozen=True)
class EvolveFlags:
    """Evolve a linear controller of a taught model by CMA-ES (extra: evolve), in its dream or in its world, and judge
    it in the world beside random actions. Called again, it goes on where it was interrupted. key=value changes the
    settings listed below."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train` makes it; the controller goes to evolved-dream or evolved-world in it"""
    where: Literal["dream", "world"] | None = None
    """where controllers are judged; None: as the preset says, which is the dream for small"""
    preset: str = "small"
    """settings to begin with: small, or paper"""
    env: str | None = None
    """the world; None: the one that the run's store was collected in, with its bounds of actions"""
    data: Path | None = None
    """folder of another store to begin dreams from; None: the one it was taught from"""
    max_steps: int | None = None
    """longest episode in the world, in steps; None: as the store's"""
    episodes: int = 16
    """episodes in the world that the controller and random actions are judged by"""
    worlds: int = 8
    """worlds stepped together"""
    device: str = "auto"
    """of the model: auto, cpu, cuda or mps"""


def _evolve(flags: EvolveFlags, call: Call) -> Answer:
    for name in ("episodes", "worlds", "max_steps"):
        value = vars(flags)[name]
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is at least 1")
    start = choose("preset of evolve", flags.preset, PRESETS)
    if flags.where is not None:
        start = start.model_copy(update={"where": flags.where})
    values = evolve_run(
        flags.run,
        override(start, call.overrides),
        flags.env,
        flags.data,
        flags.max_steps,
        flags.episodes,
        flags.worlds,
        call.quiet,
        call.command,
        choose_device(flags.device),
    )
    found = {**values["world"], "the store's episodes": values["store"], "controller, in dreams": values["dream"]}
    rows = [[name, *(f"{each[key]:.4g}" for key in SHOWN)] for name, each in found.items()]

    def show(console: Console) -> None:
        show_table(console, ("who", *SHOWN), rows)
        say(console, f"\n{values['parameters']} parameters, in {values['controller']}")

    return Answer(values, show)


def _settings(console: Console, words: Sequence[str]) -> None:
    say(console, "\nKeys, as key=value; the defaults are those of --preset small:\n")
    show_table(console, FIELD, field_rows(Evolution()))


EVOLVE = Verb(EvolveFlags, _evolve, takes_overrides=True, after_help=_settings)
