"""`innerworld sweep FAMILY`: the same lesson with other settings, side by side, and a table of what came of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from innerworld.cli.preset import begin
from innerworld.cli.table import FIELD, field_rows, say, show_table, typed
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.cluster import connect
from innerworld.config import build
from innerworld.errors import UserError, choose
from innerworld.families import FAMILIES
from innerworld.log import progress
from innerworld.perception import ENCODERS
from innerworld.recipes.lesson import Lesson
from innerworld.recipes.sweep import Ranked, choices, rank, sweep, trials
from innerworld.training import TrainConfig

PROGRESS = "effective_rank"
"""What tells how far eyes are, the highest best: their loss does not, for its target moves (docs/perception.md)."""


@dataclass(frozen=True)
class SweepFlags:
    """Teach a family of world models or eyes with every combination of some settings, written as
    `train.lr=1e-3,3e-4 model.latent=32,64`, and say which was best. Called again, it goes on where it was interrupted,
    and teaches only what is new."""

    family: tyro.conf.Positional[str]
    """a name of `innerworld models`"""
    data: str
    """folder of the store"""
    out: Path
    """folder of the runs, each in a folder named after its settings"""
    seeds: int = 1
    """runs of each combination, with train.seed counted up"""
    metric: str | None = None
    """what is compared: a name in log.jsonl, its last value; the lowest is best. None: loss, and of eyes, whose loss
    does not tell, the highest effective_rank; where the store has a state, probe_r2 tells more"""
    highest: bool = False
    """the highest is best, as of probe_r2"""
    workers: int = 1
    """runs at a time, each with one thread"""
    cluster: str = "local"
    """where they run: local, ray, or the address of a Ray cluster (extra: cluster)"""
    gpus: float = 0.0
    """GPUs of each run, on Ray; 0.5 lets two runs share one"""
    preset: str | None = None
    """the settings to begin with, see `innerworld models FAMILY`: by default small, of eyes tiny; none: the family's
    defaults"""
    sensors: tuple[str, ...] = ()
    """what the model sees; by default all images, or all vectors where there are none"""
    batch: int = 64
    """clips in a training step"""
    length: int = 12
    """actions in a clip; for eyes frames"""
    frame_skip: int = 1
    """steps joined into one"""
    held_out: float = 0.1
    """share of the episodes that is kept for judging"""
    split_seed: int = 0
    """seed of that split"""


OF_LESSON = ("family", "data", "sensors", "batch", "length", "frame_skip", "held_out", "split_seed")


def _sweep(flags: SweepFlags, call: Call) -> Answer:
    choose("family", flags.family, FAMILIES)
    if flags.seeds < 1:
        raise UserError("--seeds is at least 1")
    grid = dict(map(choices, call.overrides))
    if "train.seed" in grid and flags.seeds > 1:
        raise UserError("give the seeds by --seeds or by train.seed=0,1,2, not by both")
    made = trials(_base(flags), grid, flags.seeds)
    with (
        connect(flags.cluster, flags.workers, gpus=flags.gpus) as place,
        progress(f"sweep {flags.family}", len(made), call.quiet) as show,
    ):
        outcomes = sweep(made, flags.out, place, show, call.command)
    metric, highest = _compared(flags)
    return _answer(rank(outcomes, metric, highest), flags.out, metric)


def _base(flags: SweepFlags) -> Lesson:
    model = begin(flags.family, flags.preset)
    chosen = {name: value for name, value in vars(flags).items() if name in OF_LESSON}
    return build(Lesson, {**chosen, "model": model.model_dump(mode="json")})


def _compared(flags: SweepFlags) -> tuple[str, bool]:
    """The metric, and whether its highest value is best."""
    if flags.metric is not None:
        return flags.metric, flags.highest
    return (PROGRESS, True) if flags.family in ENCODERS else ("loss", flags.highest)


def _answer(ranked: list[Ranked], out: Path, metric: str) -> Answer:
    failed = [outcome for each in ranked for outcome in each.outcomes if outcome.failure]
    values: dict[str, Any] = {
        "out": str(out),
        "metric": metric,
        "combinations": [
            {
                "settings": dict(each.settings),
                "mean": each.mean,
                "spread": each.spread,
                "runs": [
                    {"run": str(out / outcome.trial.folder), "failure": outcome.failure, **outcome.metrics}
                    for outcome in each.outcomes
                ],
            }
            for each in ranked
        ],
    }

    def show(console: Console) -> None:
        first = ranked[0].settings
        keys = [key for key in first if any(each.settings[key] != first[key] for each in ranked)]
        rows = [[*(typed(each.settings[key]) for key in keys), *_numbers(each)] for each in ranked]
        show_table(console, [*keys, metric, "±", "runs"], rows)
        for outcome in failed:
            say(console, f"failed: {outcome.trial.folder}: {outcome.failure}")
        best = [outcome for outcome in ranked[0].outcomes if not outcome.failure]
        if best:
            say(console, f"\nbest: {out / best[0].trial.folder}")

    return Answer(values, show, code=2 if failed else 0)


def _numbers(each: Ranked) -> list[str]:
    good = sum(not outcome.failure for outcome in each.outcomes)
    return ["-" if math.isnan(value) else f"{value:.4g}" for value in (each.mean, each.spread)] + [
        f"{good} of {len(each.outcomes)}"
    ]


def _settings(console: Console, words: Sequence[str]) -> None:
    """The keys that can be swept."""
    known = [word for word in words if not word.startswith("-")][:1]
    if not known:
        say(console, "\ninnerworld sweep FAMILY --help also lists the keys of that family and of the training.")
        return
    choose("family", known[0], FAMILIES)
    start = begin(known[0], None)
    say(console, "\nKeys, as key=value,value,...; also batch, length and frame_skip:\n")
    show_table(console, FIELD, field_rows(start, "model.") + field_rows(TrainConfig(), "train."))


SWEEP = Verb(SweepFlags, _sweep, takes_overrides=True, after_help=_settings)
