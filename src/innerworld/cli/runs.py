"""`innerworld runs`: which runs there are and how they stand, once or again and again."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from innerworld.cli.table import say, show_table
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.errors import UserError
from innerworld.recipes.runs import ALIKE, RunState, find_runs

HEADINGS = ("run", "model", "data", "state", "step", "loss", "watch", "steps/s", "last word", "size")
RIGHT = ("loss", "steps/s", "last word", "size")
COLOURS = {"running": "green", "done": "blue", "interrupted": "yellow", "stopped": "yellow", "lost": "yellow"}
WATCHED = ("effective_rank", "probe_r2", "return", "eval_return")
"""Shown first of what a family measures beside its loss."""
ROOMY = 130  # columns of a terminal, from which on the data and the watch are shown, too
TENTHS = 8  # width of the drawn step
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class RunsFlags:
    """Which runs lie below a folder, and how do they stand?"""

    folder: tyro.conf.Positional[Path] = Path("runs")
    """where to look, in all its folders"""
    watch: bool = False
    """show it again and again, until Ctrl-C"""
    every: float = 2.0
    """seconds between two looks of --watch"""


def _runs(flags: RunsFlags, call: Call) -> Answer:
    if flags.every <= 0:
        raise UserError("--every is a number of seconds above 0")
    found = _watch(flags) if flags.watch else find_runs(flags.folder)

    def show(console: Console) -> None:
        if not found:
            say(console, f"no runs in {flags.folder}: innerworld train FAMILY --data STORE --out {flags.folder}/NAME")
        elif console.is_terminal:
            console.print(_table(found, flags.folder, console.width))
        else:
            show_table(console, HEADINGS, [_cells(run, flags.folder) for run in found])
        for run in found:
            for line in _advice(run, flags.folder):
                say(console, line)

    return Answer({"folder": str(flags.folder), "runs": [_values(run) for run in found]}, show)


def _watch(flags: RunsFlags) -> list[RunState]:
    console = Console()
    if not console.is_terminal:
        raise UserError("--watch draws on a terminal: leave it out here, or call runs --json again and again")
    found = find_runs(flags.folder)
    with Live(_table(found, flags.folder, console.width), console=console, transient=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(flags.every)
                found = find_runs(flags.folder)
                live.update(_table(found, flags.folder, console.width), refresh=True)
        except KeyboardInterrupt:
            return found


def _table(runs: list[RunState], top: Path, width: int) -> Table:
    """Drawn for a terminal; where it is narrow, without the columns that one can do without."""
    left_out = set() if width >= ROOMY else {"data", "watch"} if width >= 90 else {"data", "watch", "size", "steps/s"}
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in HEADINGS:
        if heading not in left_out:
            long = heading in ("run", "data", "watch")
            table.add_column(
                heading, overflow="fold", no_wrap=not long, justify="right" if heading in RIGHT else "left"
            )
    for run in runs:
        cells = dict(zip(HEADINGS, map(Text, _cells(run, top)), strict=True))
        cells["state"] = Text(cells["state"].plain, style=COLOURS.get(run.state, "red"))
        cells["step"] = _drawn_step(run)
        table.add_row(*(cell for heading, cell in cells.items() if heading not in left_out))
    return table


def _cells(run: RunState, top: Path) -> list[str]:
    loss = run.metrics.get("loss")
    return [
        _name(run.folder, top),
        run.family or "?",
        os.path.relpath(run.data) if run.data else run.world,
        run.state,
        f"{run.step}/{run.steps}" if run.steps else str(run.step),
        "" if loss is None else f"{loss:.4g}",
        _watched(run.metrics),
        "" if run.steps_per_s is None else f"{run.steps_per_s:.3g}",
        f"{_age(time.time() - run.updated)} ago",
        _size(run.bytes),
    ]


def _drawn_step(run: RunState) -> Text:
    full = round(TENTHS * run.step / run.steps) if run.steps else 0
    text = Text("━" * full, style=COLOURS.get(run.state, "red"))
    return text.append("━" * (TENTHS - full), style="bright_black").append(f" {run.step}/{run.steps}", style="default")


def _watched(metrics: dict[str, float]) -> str:
    others = [name for name in metrics if name not in ALIKE]
    names = [name for name in WATCHED if name in metrics] or others
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in names[:2])


def _name(folder: Path, top: Path) -> str:
    return str(top if folder == top else folder.relative_to(top))


def _advice(run: RunState, top: Path) -> list[str]:
    """Why it does not run, and how it goes on."""
    why = f" ({run.reason})" if run.reason else ""
    if run.resumable is not None and run.family:
        return [f"{_name(run.folder, top)} {run.state}{why}, goes on from step {run.resumable}: {_command(run)}"]
    return [f"{_name(run.folder, top)} {run.state}{why}"] if why else []


def _command(run: RunState) -> str:
    return f"innerworld train {run.family} --out {shlex.quote(str(run.folder))} --resume"


def _age(seconds: float) -> str:
    """In its largest unit; a clock that was set back gives 0."""
    for length, unit in UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 s"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _values(run: RunState) -> dict[str, Any]:
    return asdict(run) | {"folder": str(run.folder), "age_s": round(max(0.0, time.time() - run.updated), 1)}


RUNS = Verb(RunsFlags, _runs)
