"""`innerworld play RUN`: watch what was learnt by acting: the world, what the model imagines, and its dream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from innerworld.cli.table import say
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.errors import UserError
from innerworld.recipes.playing import Onlooker, play_run


@dataclass(frozen=True)
class PlayFlags:
    """Let a taught policy act in its world, and show the world beside what the model imagines with eyes shut: of the
    same actions, and of the policy's own in a dream. The films go into one page; --terminal also shows the world here
    while it is played."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train --env` makes it"""
    out: Path | None = None
    """file of the page; None: play.html in the run's folder"""
    steps: int = 500
    """actions at most"""
    horizon: int = 45
    """steps with eyes shut"""
    seed: int = 0
    """of the world, of what is drawn from the policy and of the dream"""
    sample: bool = False
    """draw the actions, as in training; by default the most likely ones are taken"""
    terminal: bool = False
    """show the world in the terminal, in half blocks of 24-bit colour"""


def _play(flags: PlayFlags, call: Call) -> Answer:
    for name in ("steps", "horizon"):
        if vars(flags)[name] < 1:
            raise UserError(f"--{name} is at least 1")
    if flags.seed < 0:
        raise UserError("--seed is at least 0")
    with _screen(flags.terminal) as onlooker:
        values = play_run(
            flags.run, flags.out, flags.steps, flags.horizon, flags.seed, flags.sample, call.command, onlooker
        )

    def show(console: Console) -> None:
        say(console, f"return {values['return']:.4g} in {values['steps']} steps of {values['env']}")
        say(console, f"page: {values['page']}")

    return Answer(values, show)


@contextmanager
def _screen(shown: bool) -> Iterator[Onlooker | None]:
    if not shown:
        yield None
        return
    from rich.live import Live
    from rich.text import Text

    from innerworld.report.half_blocks import half_blocks

    with Live(refresh_per_second=20, transient=True) as live:
        yield lambda picture, score: live.update(half_blocks(picture) + Text(f"return {score:.4g}"))


PLAY = Verb(PlayFlags, _play)
"""`innerworld play`."""
