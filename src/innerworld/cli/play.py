"""`innerworld play RUN`: watch what was learnt: the world, what the model imagines, its dream; or steer it by keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from innerworld.cli.keys import listening
from innerworld.cli.table import say
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.errors import UserError
from innerworld.recipes.playing import Watching, driven, play_run
from innerworld.recipes.steering import Drive, keys_of, told_keys
from innerworld.recipes.watched import Onlooker

if TYPE_CHECKING:
    from innerworld.report.content import Image

COLUMNS = 128  # of the terminal that a picture may take


@dataclass(frozen=True)
class PlayFlags:
    """Watch what a run has learnt. The world is shown beside what the model imagines with eyes shut: of the same
    actions, of each action done again and again and, where it learnt to act, of its policy's own in a dream. The films
    go into one page; --terminal also shows the world here while it is played. With --keys you act: in the dream, and in
    the world beside it."""

    run: tyro.conf.Positional[Path]
    """folder of the run, as `innerworld train` makes it"""
    out: Path | None = None
    """file of the page; None: play.html in the run's folder"""
    by: str | None = None
    """who acts: policy, recorded (a held-out episode), uniform or smooth (by chance, in the world); None: the policy of
    a run that has one, else recorded"""
    episode: int = 0
    """recorded: which of the held-out episodes"""
    data: Path | None = None
    """recorded: folder of another store; None: the one it was taught from"""
    steps: int = 500
    """actions at most"""
    horizon: int = 45
    """steps with eyes shut"""
    seed: int = 0
    """of the world, of what is drawn from the policy and of the dream"""
    sample: bool = False
    """draw the policy's actions, as in training; by default the most likely ones are taken. With --keys: draw what
    happens in the dream"""
    films: Path | None = None
    """folder for the page's films, each as a WebP file of its own; None: only in the page"""
    terminal: bool = False
    """show the world in the terminal, in half blocks of 24-bit colour"""
    keys: bool = False
    """steer the dream, and the world beside it, by keys in the terminal; no page is made. With --by recorded the dream
    alone, from the first picture of that episode"""
    codes: bool = False
    """of a family that found actions itself (genie): act by those"""
    prompt: str | None = None
    """of a model that was told sentences (model.prompt): begin with this one, out of nothing, instead of an episode"""


def _play(flags: PlayFlags, call: Call) -> Answer:
    for name in ("steps", "horizon"):
        if vars(flags)[name] < 1:
            raise UserError(f"--{name} is at least 1")
    for name in ("seed", "episode"):
        if vars(flags)[name] < 0:
            raise UserError(f"--{name} is at least 0")
    changes, other = call.apart()
    if other:
        raise UserError(f"cannot read {other[0]!r}: what may change is how the model draws, model.KEY=VALUE")
    watching = Watching(
        by=flags.by,
        episode=flags.episode,
        data=flags.data,
        steps=flags.steps,
        horizon=flags.horizon,
        seed=flags.seed,
        sample=flags.sample,
        codes=flags.codes,
        changes=changes,
        prompt=flags.prompt,
    )
    if flags.prompt is not None and (flags.by is not None or flags.codes):
        raise UserError("--prompt begins out of nothing: leave out --by and --codes")
    if flags.keys:
        return _by_keys(flags.run, watching)
    with _screen(flags.terminal) as onlooker:
        values = play_run(flags.run, flags.out, watching, call.command, onlooker, flags.films)

    def show(console: Console) -> None:
        if "return" in values:
            say(console, f"return {values['return']:.4g} in {values['steps']} steps of {values['env']}")
        say(console, f"page: {values['page']}")
        for film in values.get("films", ()):
            say(console, f"film: {film}")

    return Answer(values, show)


def _by_keys(run: Path, watching: Watching) -> Answer:
    with ExitStack() as stack:
        drive = stack.enter_context(driven(run, watching))
        keys = stack.enter_context(listening())
        draw = stack.enter_context(_live())
        steer(drive, keys, draw, watching.steps)
    values = {"steps": drive.steps, "return": drive.score}

    def show(console: Console) -> None:
        say(console, f"{drive.steps} steps in the last episode, return {drive.score:.4g}")

    return Answer(values, show)


def steer(drive: Drive, keys: Iterator[str], draw: Callable[[Image, str], None], steps: int) -> None:
    """Let keys drive a dream until q, or for so many steps."""
    known = keys_of(drive.model.spec)
    help_line = told_keys(list(known), drive.lives is not None)
    draw(drive.picture(), help_line)
    done = 0
    for key in keys:
        if key == "q" or done >= steps:
            return
        if key in known:
            drive.press(known[key])
            done += 1
        elif key == "r":
            drive.restart()
        elif key == "o":
            drive.look()
        draw(drive.picture(), f"step {drive.steps}, eyes shut for {drive.blind}, return {drive.score:.4g}\n{help_line}")


@contextmanager
def _live() -> Iterator[Callable[[Image, str], None]]:
    from rich.live import Live
    from rich.text import Text

    from innerworld.report.half_blocks import half_blocks

    with Live(auto_refresh=False, transient=True) as live:
        yield lambda picture, line: live.update(half_blocks(picture, COLUMNS) + Text(line), refresh=True)


@contextmanager
def _screen(shown: bool) -> Iterator[Onlooker | None]:
    if not shown:
        yield None
        return
    with _live() as draw:
        yield lambda picture, score: draw(picture, f"return {score:.4g}")


PLAY = Verb(PlayFlags, _play, takes_overrides=True)
"""`innerworld play`."""
